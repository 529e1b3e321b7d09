"""The command line as a user meets it: exit codes, one-line errors, reports, fast help."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from refusals import refused

from gmm_speciation import cli, entropy
from gmm_speciation.cli.mixtures import FAMILIES, PROCESSES
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.families import equidistant
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.stored import load_curve, load_result

SMALL = ["--points", "8", "--num-samples", "64", "--log-snr", "-6,4"]


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "COLUMNS": "80"},
    )


def modules_after(code):
    """Top-level modules that a fresh interpreter holds after running `code`."""
    done = python("-c", f"{code}\nimport sys; print(*{{n.partition('.')[0] for n in sys.modules}})")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "words", [["--help"], ["curve", "--help"], ["times", "--help"], ["hopfield", "--help"]]
)
def test_help_loads_no_jax(words):
    code = f"import io, sys; from gmm_speciation.cli import main; assert main({words}) == 0"
    assert not modules_after(code) & {"jax", "matplotlib", "torch", "scipy"}


def test_help_and_version(capsys):
    assert cli.main(["curve", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in (*FAMILIES, *PROCESSES):
        assert name in text
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "gmm-speciation"


BAD = [
    (["curve", "symetric-pair"], "Did you mean 'symmetric-pair'?"),
    (["curve", "nonsense"], "Unknown family 'nonsense'"),
    (["curve", "symmetric-pair", "--variance", "-1"], "`variance` must not be negative"),
    (["curve", "symmetric-pair", "--variance", "nan"], "NaN"),
    (["curve", "symmetric-pair", "--separation", "inf"], "`separation` must be positive"),
    (["curve", "symmetric-pair", "--num-classes", "3"], "has no --num-classes"),
    (["curve", "symmetric-pair", "--dim", "x"], "--dim"),
    (["curve", "symmetric-pair", "--log-snr", "4,-8"], "LOW < HIGH"),
    (["curve", "symmetric-pair", "--log-snr", "3,3"], "LOW < HIGH"),
    (["curve", "symmetric-pair", "--log-snr", "a,b"], "`--log-snr` takes numbers"),
    (["curve", "symmetric-pair", "--log-snr", "nan,2"], "two finite numbers"),
    (["curve", "symmetric-pair", "--points", "1"], "at least 4 points"),
    (["curve", "symmetric-pair", "--method", "exacto", *SMALL], "`method` must be one of"),
    (["curve", "symmetric-pair", "--unit", "hartleys"], "Unknown unit"),
    (["curve", "symmetric-pair", "--seed", "-1"], "--seed"),
    (["curve", "equidistant", "--dim", "3"], "`dim` must be a whole number of at least 9"),
    (["curve", "equal-means", "--variances", "1,1"], "Noise takes nothing"),
    (["curve", "hierarchy", "--branching", "2,2.5"], "whole numbers"),
    (["curve", "hierarchy", "--branching", "2,3"], "one entry a level"),
    (["curve", "absent.npz"], "no file 'absent.npz'"),
    (["times", "paper-toy", "--process", "ddmp"], "Did you mean 'ddpm'?"),
    (["curve"], "Missing argument"),
    (["curve", "symmetric-pair", "--num-samples", "-1"], "--num-samples"),
    (["times", "symmetric-pair", "--num-samples", "-1"], "--num-samples"),
    (["curve", "paper-toy", "--out", ""], "a path must not be empty; for the current folder give"),
    (["hopfield", "--patterns", ""], "a path must not be empty"),
    (["curve", ""], "it must not be empty"),
    (["benchmark", "score", ""], "a path must not be empty"),
    (["curv", "paper-toy"], "curv"),
    (["curve", "paper-toy", "--nosuch"], "--nosuch"),
]


@pytest.mark.parametrize(("words", "says"), BAD)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, words, says):
    refused(cli.main, words, says, capsys)


def test_a_mistake_in_a_process_of_its_own():
    done = python("-m", "gmm_speciation.cli", "curve", "symetric-pair")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


MEANS = [[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"garbage", "not an archive of plain arrays"),
        (b"PK\x03\x04 cut short", "not an archive of plain arrays"),
        ({"means": MEANS}, "one of covariances, variances, variance"),
        ({"means": MEANS, "variance": 1.0, "variances": np.ones((3, 2))}, "one of"),
        ({"means": [[np.nan, 0.0], [1.0, 1.0]], "variance": 1.0}, "NaN"),
        ({"means": MEANS, "variance": -1.0}, "must not be negative"),
        ({"means": MEANS, "variance": 1.0, "weights": [0.5, 0.5, 0.5]}, "sum to 1"),
        ({"means": MEANS, "covariances": [[1.0, 2.0], [0.0, 1.0]]}, "symmetric"),
        ({"means": MEANS, "variance": 1.0, "labels": [0, 2, 2]}, "Class 1 is empty"),
        ({"means": MEANS, "variance": 1.0, "labels": [0.5, 1, 1]}, "whole numbers"),
        ({"means": MEANS, "variance": 1.0, "labels": [0, 1]}, "got labels of 2"),
        ({"mean": MEANS, "variance": 1.0}, "Did you mean 'means'?"),
        ({"means": np.array([{}, {}], object), "variance": 1.0}, "not an archive of plain arrays"),
    ],
)
def test_a_bad_file_is_named(tmp_path, capsys, content, says):
    path = tmp_path / "mixture.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    refused(cli.main, ["curve", str(path)], says, capsys)


def test_a_bad_json_is_named(tmp_path, capsys):
    path = tmp_path / "mixture.json"
    for text in ("{", "[1]", '{"means": [[1], [1, 2]], "variance": 1}'):
        path.write_text(text)
        refused(cli.main, ["curve", str(path)], "is not a JSON object", capsys)


def test_curve_writes_what_the_library_computes(tmp_path, capsys):
    out = tmp_path / "a folder"
    words = ["curve", "equidistant", "--num-classes", "3", "--dim", "4", "--distance", "4", *SMALL]
    assert cli.main([*words, "--seed", "5", "--process", "ou", "--out", str(out)]) == 0
    names = {"report.md", "report.html", "result.json", "curve.png", "clock.png"}
    assert {path.name for path in out.iterdir()} == names
    direct = entropy_curve(
        equidistant(3, 4, 4.0), np.linspace(4, -6, 8), num_samples=64, key=jax.random.key(5)
    )
    back = load_curve(out)
    np.testing.assert_allclose(back.entropy.value, direct.entropy.value, rtol=1e-12)
    np.testing.assert_allclose(back.rate.stderr, direct.rate.stderr, rtol=1e-12)
    result = load_result(out)
    summary = result["summary"]["3 classes"]
    assert summary["peak, λ"]["value"] == pytest.approx(float(direct.peak().log_snr.value))
    assert result["provenance"]["seed"] == 5
    assert result["provenance"]["command"].startswith("gmm-speciation curve equidistant")
    assert "prior H(C)" in capsys.readouterr().out


def test_a_hierarchy_has_a_curve_a_level_and_quiet_is_quiet(tmp_path, capsys):
    words = ["curve", "hierarchy", "--branching", "2,2", "--distances", "8,3", "--dim", "3", *SMALL]
    assert cli.main([*words, "--quiet", "--out", str(tmp_path)]) == 0
    streams = capsys.readouterr()
    assert streams.out + streams.err == ""
    coarse, fine = (load_curve(tmp_path, f"{count} classes") for count in (2, 4))
    assert coarse.prior_entropy == pytest.approx(np.log(2))
    assert fine.prior_entropy == pytest.approx(np.log(4))
    assert np.all(np.asarray(fine.entropy.value) >= np.asarray(coarse.entropy.value))


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_a_mixture_from_a_file(tmp_path, suffix):
    path, content = tmp_path / f"m.{suffix}", {"means": MEANS, "variance": 1.0}
    content["labels"] = [[0, 0, 1], [0, 1, 2]]
    if suffix == "npz":
        np.savez(path, **content)
    else:
        path.write_text(json.dumps(content))
    assert cli.main(["curve", str(path), *SMALL, "--quiet", "--out", str(tmp_path / "o")]) == 0
    assert set(load_result(tmp_path / "o")["curves"]) == {"2 classes", "3 classes"}


def test_the_found_grid_spans_the_transition(tmp_path):
    words = ["curve", "symmetric-pair", "--dim", "16", "--points", "24", "--process", "flow"]
    assert cli.main([*words, "--quiet", "--out", str(tmp_path)]) == 0
    curve = load_curve(tmp_path)
    assert curve.entropy.value[0] < 0.01 * curve.prior_entropy
    assert curve.entropy.value[-1] > 0.99 * curve.prior_entropy


def test_levels_that_a_process_never_reaches_have_no_time(tmp_path):
    # |m| = 1e4: the classes part at log-SNR -18, noisier than the last step of DDPM.
    words = ["curve", "symmetric-pair", "--separation", "5000", "--dim", "4", "--process", "ddpm"]
    words += ["--log-snr", "-26,-14", "--points", "24", "--quiet"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    result = load_result(tmp_path)
    assert result["clock"] == {"2 classes": None}
    assert result["summary"]["2 classes"]["peak of dH/dt, t"] is None
    assert result["summary"]["2 classes"]["peak, λ"]["value"] < -14


def test_times_names_every_criterion(tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    assert cli.main(["times", "symmetric-pair", "--process", "ve", *out]) == 0
    shown = capsys.readouterr().out
    ((level, criteria),) = load_result(tmp_path)["criteria"].items()
    assert level == "2 classes"
    for name, point in criteria.items():
        assert name in shown
        # On this clock time is sigma itself.
        assert point["time"]["value"] == pytest.approx(point["sigma"]["value"], rel=1e-9)
    # Between the classes the covariance has the eigenvalue |m|^2 = d = 64.
    between = criteria["between-class spectral"]
    assert between["sigma"]["value"] == pytest.approx(8.0)


def test_interruption_exits_130_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(entropy, "entropy_curve", interrupted)
    words = ["curve", "symmetric-pair", *SMALL, "--out", str(tmp_path / "out")]
    assert cli.main(words) == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    assert not list(tmp_path.iterdir())


def test_interruption_while_jax_computes_exits_130():
    code = """
import sys
from gmm_speciation import cli, entropy

def interrupted(*args, **kwargs):
    import jax, jax.numpy as jnp
    x = jnp.ones((2000, 2000))
    jax.jit(lambda y: jax.lax.fori_loop(0, 20, lambda i, z: z @ x / 2000, y))(x)
    raise KeyboardInterrupt

entropy.entropy_curve = interrupted
sys.argv = ["gmm-speciation", "curve", "symmetric-pair", "--log-snr", "-6,4"]
sys.exit(cli.main())
"""
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("gmm_speciation.plotting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys.modules["gmm_speciation"], "plotting", None, raising=False)
    monkeypatch.delattr(sys.modules["gmm_speciation"], "plotting")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ["curve", "symmetric-pair", *SMALL, "--quiet"]
    assert cli.main(words) == 0  # no picture, no need of it
    words += ["--out", str(tmp_path / "out")]
    refused(cli.main, words, 'pip install "gmm-speciation[plots]"', capsys)


def test_a_defect_of_ours_is_not_hidden(monkeypatch):
    def broken(*args, **kwargs):
        raise AttributeError("a defect")

    monkeypatch.setattr(entropy, "entropy_curve", broken)
    with pytest.raises(AttributeError, match="a defect"):
        cli.main(["curve", "symmetric-pair", *SMALL])


def test_numbers_are_read_in_order():
    assert terminal.numbers("2,3", "--branching", int) == (2, 3)
    assert terminal.numbers("0.5,1e-3", "--variances") == (0.5, 1e-3)
