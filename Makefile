# Every target makes the virtual environment by itself when it is missing.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
PYTEST := $(VENV)/bin/python -m pytest

# Bytecode is kept: without it every start compiles the packages, their type checks and the tests anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow lint format pictures pages papers docs notebooks bench bench-estimators clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	touch $(STAMP)

demo: $(STAMP)  ## The main job: theory and trained model side by side on real digits.
	$(VENV)/bin/python -m model_bridges.cli crosscheck digits --out out/crosscheck-digits

lint: $(STAMP)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/lint-imports

test: lint
	$(PYTEST) -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP)  ## Compiled as users' programs are, where `test` compiles cheaply.
	XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(PYTEST) -m slow

format: $(STAMP)
	$(VENV)/bin/python -m ruff format .
	$(VENV)/bin/python -m ruff check --fix .

pictures: demo  ## The README's pictures, from fresh runs.
	mkdir -p docs/pictures
	$(VENV)/bin/gmm-speciation verify --section asymptotics --out out/asymptotics
	cp out/asymptotics/criteria-by-classes.png docs/pictures/criteria.png
	cp out/crosscheck-digits/crosscheck.png out/crosscheck-digits/images.png docs/pictures/
	$(VENV)/bin/model-bridges crosscheck digits-text --out out/crosscheck-digits-text
	cp out/crosscheck-digits-text/crosscheck.png docs/pictures/crosscheck-text.png
	$(VENV)/bin/model-bridges remove digits --out out/remove-digits
	cp out/remove-digits/removal.png docs/pictures/
	cp out/remove-digits/images.png docs/pictures/removal-images.png
	$(VENV)/bin/model-bridges guidance digits --out out/guidance-digits
	cp out/guidance-digits/guided.png docs/pictures/

pages: demo  ## Outputs, figures and tables in the README and docs/, from fresh runs: a quarter of an hour.
	COLUMNS=88 $(VENV)/bin/model-bridges crosscheck digits --out out/crosscheck-digits > out/crosscheck-digits.txt
	cd docs && COLUMNS=88 ../$(VENV)/bin/gmm-speciation benchmark --estimator mine:Mine --estimator logistic \
	    --access noisy --task pair-d16 --out ../out/benchmark-mine > ../out/benchmark-mine.txt
	$(VENV)/bin/gmm-speciation verify --quiet --out out/verify
	$(VENV)/bin/gmm-speciation verify --guidance --quiet --out out/verify-guidance
	$(VENV)/bin/python docs/render.py --store out

papers: $(STAMP)  ## The papers as commands, their stored rows and pages: an hour and a half.
	for one in biroli2024 handke2026 koulischer2023 wu2024; do $(VENV)/bin/gmm-speciation paper $$one --quiet --out out/papers/$$one || exit 1; done
	$(VENV)/bin/model-bridges paper handke2026 --folder out/runs/handke2026 --quiet --out out/papers/handke2026-models
	$(VENV)/bin/model-bridges paper handke2025 --samples 1200 --quiet --out out/papers/handke2025
	$(VENV)/bin/model-bridges paper koulischer2025 --folder out/runs/koulischer2025 --quiet --out out/papers/koulischer2025
	$(VENV)/bin/python docs/render.py --store-papers out/papers

docs: $(STAMP)  ## The documentation site, in out/docs; warnings are errors.
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	mkdir -p docs/notebooks && cp notebooks/*.py docs/notebooks/
	$(VENV)/bin/python -m sphinx -W --keep-going -b html docs out/docs

notebooks: $(STAMP)  ## Executed notebooks, pictures included, in out/notebooks.
	mkdir -p out/notebooks
	for one in notebooks/*.py; do $(VENV)/bin/python -m jupytext --to ipynb --output out/notebooks/$$(basename $$one .py).ipynb $$one || exit 1; done
	$(VENV)/bin/jupyter-execute --inplace out/notebooks/*.ipynb

bench: $(STAMP)  ## Speed and accuracy tables: minutes, on an idle machine.
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(VENV)/bin/python benchmarks/speed.py --out benchmarks/results

bench-estimators: $(STAMP)  ## Estimators of H(C|X) against known truth, and the tables of their page: hours.
	$(VENV)/bin/gmm-speciation benchmark --profile full --out out/benchmark
	$(VENV)/bin/gmm-speciation benchmark coverage --out out/benchmark-coverage
	$(VENV)/bin/gmm-speciation benchmark log-law --out out/log-law
	cp out/benchmark/sizes-clean-estimate.png docs/pictures/estimators.png
	$(VENV)/bin/python benchmarks/minde.py
	$(VENV)/bin/python benchmarks/boards.py
	$(VENV)/bin/python benchmarks/estimators.py

clean:
	rm -rf $(VENV) out
