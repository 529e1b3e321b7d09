"""A report is one folder: readable offline, readable back, complete or absent."""

import json
import math
import re
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from refusals import refused

from gmm_speciation import cli, families, plotting
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.records import (
    format_estimate,
    provenance,
    to_json,
)
from gmm_speciation.reporting.report import Report, check_report
from gmm_speciation.reporting.stored import load_curve, load_result

GRID = np.linspace(4.0, -6.0, 12)


@pytest.fixture(scope="module")
def sampled():
    return entropy_curve(
        families.equidistant(3, 4, 3.0), GRID, num_samples=64, method="monte-carlo"
    )


def picture() -> Figure:
    figure, (axes,) = plotting.panels([1.0])
    axes.plot([0, 1], [0, 1])
    return figure


def report() -> Report:
    return (
        Report("Title & <tag>")
        .text("Some *text*.\n\n<script>alert(1)</script> ![x](http://example.org/x.png)")
        .table(["quantity", "value"], [["a|b", Estimate.exact(np.array(0.5))]], caption="A table")
        .figure(picture(), "line", "A line [1]")
    )


def test_html_is_one_file_that_loads_nothing(tmp_path):
    page = (report().write(tmp_path / "out", {}) / "report.html").read_text()
    assert "data:image/png;base64,iVBOR" in page
    # Everything a browser would fetch or run.
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert not re.findall(r"<(?:script|link|iframe|object)|url\(|@import", page)
    assert "<title>Title &amp; &lt;tag&gt;</title>" in page
    assert '<td style="text-align:right">0.5</td>' in page
    assert "<td>a|b</td>" in page


def test_markdown_names_pictures_that_are_there(tmp_path):
    out = report().write(tmp_path / "out", {})
    names = re.findall(r"!\[A line 1\]\((.*?)\)", (out / "report.md").read_text())
    assert names == ["line.png"]
    assert (out / "line.png").read_bytes().startswith(b"\x89PNG")
    assert set(load_result(out)["files"]) == {path.name for path in out.iterdir()}


@pytest.mark.parametrize("method", ["exact", "monte-carlo"])
def test_curve_reads_back_equal(tmp_path, method):
    mixture = families.symmetric_pair(3)
    curve = entropy_curve(mixture, GRID, method=method, num_samples=64)
    Report("r").write(tmp_path / "out", {"curves": {"pair": curve}})
    for path in (tmp_path / "out", tmp_path / "out" / "result.json"):
        back = load_curve(path)
        np.testing.assert_array_equal(back.log_snr, curve.log_snr)
        for name in ("entropy", "rate"):
            was, now = getattr(curve, name), getattr(back, name)
            np.testing.assert_array_equal(now.value, was.value)
            np.testing.assert_array_equal(now.stderr, was.stderr)
            assert now.dof == was.dof
        assert (back.prior_entropy, back.method) == (curve.prior_entropy, curve.method)
        # Jackknife errors come from the batches, so these came back too.
        errors = back.peak().log_snr.stderr, curve.peak().log_snr.stderr
        np.testing.assert_allclose(*errors, rtol=1e-12)
        assert (errors[1] > 0) == (method == "monte-carlo")


def test_curve_is_asked_for_by_name(tmp_path, sampled):
    Report("r").write(tmp_path, {"curves": {"a": sampled, "b": sampled}})
    assert load_curve(tmp_path, "b").method == "monte-carlo"
    with pytest.raises(ValueError, match="has the curves a, b; got `name='c'`"):
        load_curve(tmp_path, "c")
    with pytest.raises(ValueError, match="has the curves a, b"):
        load_curve(tmp_path)


def test_checks_that_older_results_have_beside_their_curves_are_read(tmp_path, sampled):
    """As version 0.2.0 wrote them up to 29 November 2026: the curve says null, the block above has it."""
    names = ("a: b: tracking", "single classes: tracked", "single classes: theory", "lone: gap")
    Report("Old").write(tmp_path, {"curves": dict.fromkeys(names, sampled)})
    content = json.loads((tmp_path / "result.json").read_text())
    assert all(one["trust"] is None for one in content["curves"].values())
    check = {"name": "denoising error", "expected": "≤ 1.25", "measured": 1.6, "verdict": "no"}
    check |= {"type": "Check", "remedy": "Look at it", "half_width": 0.1, "sigma": 2.0}
    block = {"ok": False, "checks": [check]}
    content["trust"] = {"a: b, tracking": block, "single classes": block}
    (tmp_path / "result.json").write_text(json.dumps(content))
    for name in names[:2]:
        found = load_curve(tmp_path, name).trust
        assert not found.ok
        assert found.reasons.startswith("denoising error: 1.6 ± 0.1 at σ = 2, expected ≤ 1.25.")
    for name in names[2:]:
        assert load_curve(tmp_path, name).trust is None
    del check["verdict"]
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is not complete: 'verdict'"):
        load_curve(tmp_path, names[0])


def test_a_result_says_its_units_whatever_the_pictures_are_in(tmp_path, capsys):
    """H(C) of two equal classes is log 2 in nats; older results, without the entry, are read as they were."""
    words = ["curve", "symmetric-pair", "--dim", "4", "--unit", "bits", "--points", "60", "--json"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    said, content = json.loads(capsys.readouterr().out), load_result(tmp_path)
    (curve,) = content["curves"].values()
    assert said["units"] == content["units"]
    assert content["units"]["entropy"] == "nats"
    assert content["units"]["rate"] == "nats per unit log-SNR"
    assert curve["prior_entropy"] == pytest.approx(math.log(2))
    entropy, rate = (np.array(curve[name]["value"]) for name in ("entropy", "rate"))
    slope = -np.gradient(entropy, curve["log_snr"])
    np.testing.assert_allclose(slope[2:-2], rate[2:-2], atol=0.05 * rate.max())
    del content["units"]
    (tmp_path / "result.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(load_curve(tmp_path).entropy.value, entropy)


def test_unreadable_results_are_named(tmp_path):
    with pytest.raises(ValueError, match="No result at"):
        load_curve(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ValueError, match="is not a result"):
        load_curve(tmp_path)
    (tmp_path / "result.json").write_text('{"curves": {"a": {"log_snr": [1, 0]}}}')
    with pytest.raises(ValueError, match="not complete"):
        load_curve(tmp_path)


def test_every_result_has_a_format_and_others_are_refused_by_name(tmp_path, sampled):
    Report("r").write(tmp_path, {"curves": {"a": sampled}})
    path = tmp_path / "result.json"
    content = json.loads(path.read_text())
    assert content["format"] == 1
    for other in (2, 0, "1", True, None, 1.5, [1]):
        path.write_text(json.dumps({**content, "format": other}))
        for read in (load_result, load_curve):
            with pytest.raises(ValueError, match=r"written in format .* reads format 1"):
                read(tmp_path)
    del content["format"]  # as files were before there was one
    path.write_text(json.dumps(content))
    np.testing.assert_array_equal(load_curve(tmp_path).log_snr, sampled.log_snr)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch, existing):
    out = tmp_path / "out"
    if existing:
        report().write(out, {"run": 1})
    before = files(out) if existing else None

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    # After the pictures and the pages, in the middle of the numbers.
    monkeypatch.setattr(json, "dumps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report().write(out, {"run": 2})
    assert (files(out) if out.exists() else None) == before
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if existing else [])


def test_a_second_run_replaces_the_first_and_spares_other_files(tmp_path):
    out = report().write(tmp_path / "out", {"run": 1})
    (out / "notes.txt").write_text("mine")
    Report("Second").write(out, {"run": 2})
    assert set(files(out)) == {"report.md", "report.html", "result.json", "notes.txt"}
    assert load_result(out)["run"] == 2
    assert "Second" in (out / "report.md").read_text()


def test_a_report_does_not_land_on_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        Report("r").write(tmp_path / "file" / "deeper", {})
    with pytest.raises(ValueError, match="must have a name"):
        Report("r").write("", {})


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="a file system without files of one's own"
)
def test_a_folder_that_takes_no_files_is_found_before_the_work():
    """Whatever the rights say."""
    with pytest.raises(ValueError, match="cannot be written to"):
        check_report("/proc/nope")


def test_json_of_every_kind():
    content = to_json(
        {
            "estimate": Estimate(jnp.array([1.0]), jnp.array([0.5]), 4.0),
            "array": np.array([[1, 2]], np.int32),
            "jax": jnp.float32(0.25),
            "inf": [math.inf, -math.inf, np.float64("nan")],
            "none": (None, True, "text"),
        }
    )
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["estimate"]["value"] == [1.0]
    half = 2.7764451052 * 0.5  # Student's t, 4 degrees of freedom
    np.testing.assert_allclose(content["estimate"]["interval_95"], [[1 - half], [1 + half]])
    assert content["array"] == [[1, 2]]
    assert content["jax"] == 0.25
    assert content["inf"] == ["inf", "-inf", None]
    with pytest.raises(ValueError, match="got object"):
        to_json({"a": object()})


def test_provenance_is_in_the_result_and_at_the_foot(tmp_path):
    stamp = provenance("gmm-speciation curve x", seed=7)
    out = Report("r").write(tmp_path / "out", {"provenance": stamp})
    kept = load_result(out)["provenance"]
    assert kept["seed"] == 7
    assert {"gmm-speciation", "python", "jax", "numpy"} <= set(kept["versions"])
    assert kept["date"].endswith("UTC")
    assert "<code>gmm-speciation curve x</code>" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (0.35634, 0.00042, "0.35634 ± 0.00090"),
        (0.35634, 0.00014, "0.35634 ± 0.00030"),
        (-3.7524, 0.012, "−3.752 ± 0.026"),
        (449.21, 2.6, "449.2 ± 5.5"),
        (0.35634, 0.0, "0.3563"),
        (-0.0, 0.0, "0"),
        (math.nan, 0.0, "not defined"),
    ],
)
def test_estimates_read_to_the_digits_they_have(value, stderr, shown):
    assert format_estimate(Estimate(np.array(value), np.array(stderr), 15.0)) == shown


def test_bad_parts_are_refused():
    with pytest.raises(ValueError, match="needs 2 cells"):
        Report("r").table(["a", "b"], [["only one"]])
    twice = Report("r").figure(picture(), "same", "c")
    for name in ("same", "../escape"):
        with pytest.raises(ValueError, match="new name"):
            twice.figure(picture(), name, "c")


def test_what_is_written_can_be_read_back_or_is_refused(tmp_path):
    long = {"a": 2**64 - 1, "b": -(2**63), "name": "caf\udce9"}
    assert load_result(Report("t").write(tmp_path / "a", long))["a"] == 2**64 - 1
    beyond = load_result(Report("t").write(tmp_path / "c", {"a": 2**64, "b": -(10**300)}))
    assert (int(beyond["a"]), int(beyond["b"])) == (2**64, -(10**300))
    with pytest.raises(ValueError, match="must differ as text"):
        Report("t").write(tmp_path / "b", {"a": {1: "a", "1": "b"}})
    assert not (tmp_path / "b").exists()


def test_a_picture_of_another_is_kept_beside(tmp_path):
    report = Report("t").figure(picture(), "mine", "c")
    (tmp_path / "mine.png").write_text("not the report's")
    with pytest.warns(UserWarning, match=r"mine\.png was of no report; it is mine\.png~ now"):
        report.write(tmp_path, {})
    with warnings.catch_warnings(action="error"):  # its own is replaced
        report.write(tmp_path, {})
    assert (tmp_path / "mine.png~").read_text() == "not the report's"
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["report.md", "report.html", "result.json"])
def test_a_file_that_is_of_no_report_is_not_overwritten(tmp_path, name, capsys):
    """Nor is the work done first; an older report there is replaced, whatever its format."""
    (tmp_path / name).write_text('{"mine": 1}')
    words = ["curve", "symmetric-pair", "--out", str(tmp_path)]
    assert cli.main([*words, "--dim", "3"]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert "Move it" in error
    with pytest.raises(ValueError, match="belongs to no report"):
        Report("r").write(tmp_path, {})
    assert (tmp_path / name).read_text() == '{"mine": 1}'
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / name).unlink()
    Report("first").write(tmp_path, {})
    content = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(content | {"format": 99}))
    Report("second").write(tmp_path, {})
    assert load_result(tmp_path)["title"] == "second"


def test_the_report_of_another_command_is_not_replaced(tmp_path, capsys):
    """Before the work; that of the same is, and a command is not the group that it is in."""
    mixture, out = ["symmetric-pair", "--dim", "3", "--quiet"], ["--out", str(tmp_path / "o")]
    assert cli.main(["curve", *mixture, "--points", "8", *out]) == 0
    before = files(tmp_path / "o")
    says = "has the report of 'gmm-speciation curve', which that of 'gmm-speciation times' would replace"
    refused(cli.main, ["times", *mixture, *out], says, capsys)
    assert files(tmp_path / "o") == before
    assert cli.main(["curve", *mixture, "--points", "9", *out]) == 0
    assert cli.main(["times", *mixture, "--out", str(tmp_path / "t")]) == 0
    show = ["show", str(tmp_path / "o"), "--quiet", "--out"]
    refused(
        cli.main, [*show, str(tmp_path / "t")], "has the report of 'gmm-speciation times'", capsys
    )
    for _ in range(2):  # it draws that of the same command
        assert cli.main([*show, str(tmp_path / "again")]) == 0
    for line, error in (
        ("gmm-speciation benchmark --profile small", "Unknown task"),
        ("gmm-speciation benchmark score a.csv", "the report of 'gmm-speciation benchmark score'"),
        ("model-bridges entropy digits", "the report of 'model-bridges entropy'"),
    ):
        Report("r").write(tmp_path / "b", {"provenance": provenance(line)})
        words = ["benchmark", "--task", "none", "--out", str(tmp_path / "b")]
        refused(cli.main, words, error, capsys)
