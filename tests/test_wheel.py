"""The wheel alone: what is installed has all it needs, away from the checkout."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_bridges.digits import load_digits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CHECKOUT = Path(__file__).parent.parent
BUILT_FROM = ("gmm_speciation", "model_bridges", "pyproject.toml", "README.md", "LICENSE")

MINE = """
import numpy as np
import model_bridges as mb
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators import Estimator, Outcome

def model():
    return mb.load("digits")

class Half(Estimator):
    title, reference = "half of what there is", "none"
    def curve(self, problem):
        half = problem.prior_entropy / 2 * np.ones(len(problem.log_snr))
        return Outcome(Estimate(half, 0.01 + 0 * half), has_interval=True)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the installed wheel, built from a copy: leftovers of other builds do not get into it."""
    source, wheels, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheel", "site"))
    for name in BUILT_FROM:
        one = CHECKOUT / name
        (shutil.copytree if one.is_dir() else shutil.copy)(one, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    flags = ["--quiet", "--no-deps", "--no-index"]
    build = [*pip, "wheel", *flags, "--no-build-isolation", "--wheel-dir", wheels, source]
    subprocess.run(build, check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", *flags, "--target", site, wheel], check=True)
    return site


@pytest.fixture
def run(site, tmp_path, monkeypatch):
    """An installed command with its words, in an empty folder; what it prints."""
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.chdir(tmp_path)

    def run(command, *words):
        line = [sys.executable, site / "bin" / command, *words]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_every_file_that_is_no_code_is_in_the_wheel(site):
    listed = [
        path.relative_to(CHECKOUT)
        for package in ("gmm_speciation", "model_bridges")
        for path in (CHECKOUT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    assert len({path.suffix for path in listed}) > 3
    assert [str(path) for path in listed if not (site / path).is_file()] == []


def test_the_packages_are_those_of_the_wheel(site, run):
    code = "import gmm_speciation, model_bridges as m; print(gmm_speciation.__file__, m.__file__)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert [Path(one).parent.parent for one in printed.split()] == [site, site]


def test_the_main_job(run, tmp_path):
    words = ("--images", "40", "--levels", "9", "--paths", "1", "--out", "out")
    assert "80 %" in run("model-bridges", "crosscheck", "digits", *words)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["num_images"] == 40
    assert (tmp_path / "out" / "report.html").exists()


def test_a_curve_of_the_theory(run, tmp_path):
    assert "peak" in run("gmm-speciation", "curve", "paper-toy", "--out", "out").lower()
    assert (tmp_path / "out" / "report.html").exists()


def test_both_commands_find_a_module_of_the_current_folder(run, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    digits = load_digits()
    states, labels = digits.held_out_images[:60].numpy(), digits.held_out_labels[:60].numpy()
    np.savez(tmp_path / "some.npz", states=states, labels=labels)
    words = ("--data", "some.npz", "--images", "30", "--levels", "9", "--paths", "1")
    assert "80 %" in run("model-bridges", "entropy", "mine:model", *words)
    words = (
        "--estimator",
        "mine:Half",
        "--task",
        "pair-d16",
        "--num-samples",
        "64",
        "--seeds",
        "1",
    )
    assert "mine:Half" in run("gmm-speciation", "benchmark", *words, "--jobs", "1", "--out", "b")
