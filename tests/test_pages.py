"""What the pages show is what the code prints: every output, every stored table, every link."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

import gmm_speciation as gs
import model_bridges as mb

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render.py")
render = importlib.util.module_from_spec(spec)
spec.loader.exec_module(render)

EVERY = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in EVERY}
# Pages that run for seconds; the others are made again by `make test-slow`.
QUICK = (
    "README.md",
    "docs/theory/",
    "docs/papers/",
    "docs/benchmarks/",
    "docs/reference/processes.md",
)
NAMES = [page.relative_to(ROOT).as_posix() for page in render.pages()]


@pytest.mark.parametrize(
    "name",
    [one if one.startswith(QUICK) else pytest.param(one, marks=pytest.mark.slow) for one in NAMES],
)
def test_a_page_shows_what_its_code_prints(name):
    assert render.rendered(ROOT / name) == TEXTS[name]


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].encode()) <= 8 * 1024


def test_outputs_that_are_filled_in_are_not_empty():
    for name in NAMES:
        assert "```text\n```" not in TEXTS[name], name
        assert not re.search(r"<!-- table: \S+ -->\n<!-- end -->", TEXTS[name]), name


@pytest.mark.parametrize(("package", "prefix"), [(gs, "gs"), (mb, "mb")])
def test_every_public_name_is_used_in_an_example_that_runs(package, prefix):
    run = [
        code
        for name in NAMES
        for kind, code, _ in render.BLOCK.findall(TEXTS[name])
        if kind == "python" and name.startswith("docs/reference")
    ]
    used = set(re.findall(rf"\b{prefix}\.(\w+)", "\n".join(run)))
    assert set(package.__all__) - used == set()


def test_the_estimator_of_the_pages_is_the_one_that_was_ranked():
    mine = (ROOT / "docs" / "mine.py").read_text(encoding="utf-8")
    for name in ("README.md", "docs/tutorials/estimator.md"):
        assert f"```python\n{mine}```\n" in TEXTS[name]


def test_links_lead_somewhere():
    for name, text in TEXTS.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
            if not re.match(r"[a-z]+:", target):
                assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


def test_the_papers_rows_are_those_of_the_last_run():
    """Every row names its source, and no paper's page is empty."""
    import page_tables

    stored = json.loads((ROOT / "docs" / "results" / "claims.json").read_text(encoding="utf-8"))
    assert all(claim["source"] for claim in stored["claims"])
    for paper in page_tables.PAPERS:
        assert page_tables.claims_of(paper), paper.title
        assert all(claim["verdict"] == claim["expected"] for claim in page_tables.claims_of(paper))


def test_a_claim_of_a_run_and_of_verify_is_one_row_with_both_verdicts(monkeypatch):
    import page_tables

    pages = {paper.page: paper for paper in page_tables.PAPERS}
    verified = page_tables.claims_of
    for name in page_tables.runs().keys() & pages.keys():
        rows = page_tables.make(f"run:{name}").partition("| --- |")[2].splitlines()
        shown = [
            row[2:].partition(" | ")[0] for row in rows if row.startswith("| ") and "---" not in row
        ]
        every = [*page_tables.runs()[name]["claims"], *verified(pages[name])]
        wanted = {one["claim"].replace("|", "\\|") for one in every}
        assert sorted(shown) == sorted(wanted), name
    (other,) = (one for one in verified(pages["wu2024"]) if "640" in one["claim"])
    assert other["verdict"] == "yes"
    changed = lambda paper: [  # noqa: E731
        one | {"verdict": "open" if one == other else one["verdict"]} for one in verified(paper)
    ]
    monkeypatch.setattr(page_tables, "claims_of", changed)
    (row,) = (row for row in page_tables.make("run:wu2024").splitlines() if "640" in row)
    assert row.endswith("| yes; `verify`: open |")
    assert page_tables.make("run:wu2024").count("`verify`: ") == 1


def test_stored_runs_of_papers_are_whole():
    """Every row says where, by whom and how; claims that do not hold are listed on the page."""
    import page_tables

    found = page_tables.runs()
    assert sum(len(content["claims"]) for content in found.values()) >= 40
    for name, content in found.items():
        table = page_tables.make(f"run:{name}")
        assert any(f"<!-- table: run:{name} -->" in text for text in TEXTS.values()), name
        for one in content["claims"]:
            assert all(one[k] for k in ("claim", "where", "predicted_by", "measured_by", "command"))
            assert one["verdict"] in ("yes", "no", "open")
            assert one["verdict"] != "no" or f"- {one['claim']}" in table
