"""What a page answers, and what commands say besides tables: JSON, examples, stored reports, the doctor."""

import html
import json
import re

import jax
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import cli
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Verdict
from gmm_speciation.reporting.explorer import Frames, explorer
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.tables import numeric
from gmm_speciation.reporting.trust import Check, Trust, trust_record

LEVELS = np.linspace(4.0, -4.0, 9)


def curve(height=1.0, levels=LEVELS):
    """H falls from log 2 to 0 as a logistic curve, with error bars that grow with the noise."""
    share = 1 / (1 + np.exp(levels))
    error = np.linspace(0.01, 0.05, len(levels))
    rate = height * share * (1 - share)
    return gs.EntropyCurve(
        levels,
        Estimate(np.log(2) * share, error, 10.0),
        Estimate(np.log(2) * rate, error, 10.0),
        float(np.log(2)),
        "by hand",
    )


def frames(num=2, classes=("cat", "dog</script><b>")):
    rng = np.random.default_rng(0)
    shape = (num, len(LEVELS), 3, 4, 5)
    p = rng.dirichlet([1, 1], (num, len(LEVELS)))
    pixels = [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(2)]
    return Frames([f"image {i}" for i in range(num)], list(classes), *pixels, p)


def data_of(page):
    (block,) = re.findall(r'<script type="application/json">(.*?)</script>', page, re.S)
    return json.loads(block)


def test_the_data_of_an_explorer_are_the_curves_and_the_images():
    given = frames()
    found = data_of(explorer({"one": curve(), "other": curve(2.0)}, given))
    assert found["log_snr"] == LEVELS.tolist()
    assert found["start"] == int(np.argmax(curve().rate.value))
    for shown, one in zip(found["curves"], (curve(), curve(2.0)), strict=True):
        np.testing.assert_allclose(shown["entropy"]["value"], one.entropy.value)
        np.testing.assert_allclose(shown["rate"]["half"], one.rate.half_width())
    assert found["classes"] == given.classes  # names steer nothing
    assert found["size"] == [4, 5]
    np.testing.assert_allclose(
        [one["posterior"] for one in found["images"]], given.posterior, atol=1e-4
    )


def test_an_explorer_refuses_what_is_not_on_one_grid():
    with pytest.raises(ValueError, match="one grid"):
        explorer({"one": curve(), "other": curve(levels=LEVELS[1:])})
    with pytest.raises(ValueError, match="one grid"):
        explorer({})
    with pytest.raises(ValueError, match="9 levels"):
        explorer({"one": curve()}, frames()._replace(noisy=np.zeros((2, 3, 1, 4, 5), np.uint8)))


def test_a_page_folds_its_verdicts_and_loads_nothing(tmp_path):
    headers = ["claim", "holds"]
    report = Report("Test").explore({"one": curve()})
    report.table(headers, [["a", "yes"], ["b", "yes"]]).table(headers, [["c", "yes"], ["d", "no"]])
    report.table(["no verdicts", "at all"], [["e", "yes"]]).write(tmp_path, {})
    page = (tmp_path / "report.html").read_text()
    assert "<details><summary>2 yes</summary>" in page
    assert "<details open><summary>1 yes, 1 no</summary>" in page
    assert page.count("<details") == 2
    assert not re.search(r"(src|href)=.(?!data:)|@import|url\(|fetch\(|import ", page)
    assert "\ue000" not in page + (tmp_path / "report.md").read_text()
    with pytest.raises(ValueError, match="one explorer"):
        Report("Test").explore({"one": curve()}).explore({"one": curve()})


@pytest.mark.parametrize(
    ("cells", "right"),
    [(["1.2", "−3"], True), (["yes", "no"], False), (["≤ 2", "word"], False), (["—", "2"], True)],
)
def test_columns_of_text_are_no_numbers(cells, right):
    assert numeric(cells) is right


def run(capsys, *words):
    code = cli.main([*words])
    streams = capsys.readouterr()
    assert code == 0, streams.err
    return streams.out


def test_json_is_the_result_and_nothing_else(tmp_path, capsys):
    words = ["times", "symmetric-pair", "--dim", "16"]
    found = json.loads(run(capsys, *words, "--json", "--out", str(tmp_path)))
    stored = gs.load_result(tmp_path)
    for key in ("criteria", "curves", "process", "format"):
        assert found[key] == stored[key]
    assert "criterion" in run(capsys, *words)  # the next command is not told to


def test_every_command_has_json_and_an_example(capsys):
    every = re.findall(r"^│ (\w+) ", run(capsys, "--help"), re.M)
    assert {"curve", "times", "verify", "hopfield", "benchmark", "show", "doctor"} <= set(every)
    named = [[one] for one in every] + [["benchmark", one] for one in ("list", "coverage")]
    for words in named:
        text = " ".join(html.unescape(run(capsys, *words, "--help")).split())
        assert "--json" in text, words
        assert f"gmm-speciation {' '.join(words)}" in text.split("Examples:")[1], words


def test_a_list_as_json(capsys):
    found = json.loads(run(capsys, "benchmark", "list", "--json"))
    assert {"estimator", "what", "kind", "knows", "source"} == set(found["estimators"][0])
    assert "qmc" in {one["estimator"] for one in found["estimators"]}


def test_a_stored_report_is_shown_and_drawn_again(tmp_path, capsys):
    folder, again = tmp_path / "first", tmp_path / "again"
    claims = [
        {
            "claim": "a claim",
            "predicted": 1.0,
            "measured": Estimate(1.1, 0.1, 9.0),
            "verdict": "yes",
        }
    ]
    report = Report("A title").text("Text.")
    failed = Check("denoising error", "≤ 1.25", 1.6, Verdict.NO, "Look at it", 0.1, 2.0)
    trust = trust_record({"one": Trust((failed,)), "two": Trust(())})
    report.write(folder, {"curves": {"one": curve()}, "claims": claims, "trust": trust})
    text = run(capsys, "show", str(folder), "--out", str(again))
    assert "A title" in text
    assert "a claim" in text
    assert "1.1 ± 0.23" in text  # Student's t with 9 degrees of freedom
    assert "0.6931" in text  # H(C)
    rows = [line.split() for line in text.splitlines()]
    assert ["one", "NO"] in rows
    assert "Look at it" in " ".join(text.split())
    assert ["two", "yes"] in rows
    np.testing.assert_allclose(gs.load_curve(again, "one").entropy.value, curve().entropy.value)
    assert gs.load_result(again)["claims"] == gs.load_result(folder)["claims"]
    assert (again / "curves.png").exists()


def printed(text):
    """Rows of tables, without the spaces that align them."""
    return [line.split() for line in text.splitlines() if line.startswith("  ")]


@pytest.mark.parametrize(
    "words",
    [
        "times symmetric-pair --process ve",
        "curve hierarchy --branching 2,2 --distances 8,3 --dim 3 --process ou --log-snr=-6,4 --points 8",
    ],
)
def test_what_a_command_printed_is_shown_again(words, tmp_path, capsys):
    first, again = tmp_path / "first", tmp_path / "again"
    said = run(capsys, *words.split(), "--num-samples", "64", "--out", str(first))
    assert "t," in said or "dH/dt, t" in said  # times on the clock are a part of it
    shown = run(capsys, "show", str(first), "--out", str(again))
    assert len(printed(said)) > 6
    assert printed(shown) == printed(said)
    assert gs.load_result(again)["tables"] == gs.load_result(first)["tables"]


def test_the_doctor_names_what_is_there_and_what_is_not(capsys, monkeypatch):
    from gmm_speciation.cli import doctor

    found = json.loads(run(capsys, "doctor", "--json"))
    assert found["packages"]["base"]["jax"] == jax.__version__
    assert found["devices"]["jax"].startswith("cpu")
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "rich" else real(name))
    text = run(capsys, "doctor")
    assert "missing: rich" in text
    assert 'pip install "gmm-speciation[cli]"' in text


def test_what_is_no_report_is_not_shown(tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text('{"curves": {}, "a": 1}')
    assert cli.main(["show", str(file)]) == 2
    assert "is not a report's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("curves", [1]),
        ("provenance", "me"),
        ("claims", {"a": 1}),
        ("claims", [1]),
        ("checks", [{"claim": "a", "measured": "much"}]),
        ("checks", [{"claim": "a", "measured": {"value": 1.0}}]),
        ("tables", ["one"]),
        ("tables", {"one": {"headers": ["a"], "rows": [["b", "c"]]}}),
        ("tables", {"one": {"headers": ["a"], "rows": [[1]]}}),
        ("trust", ["one"]),
        ("trust", {"one": {"ok": True}}),
        ("trust", {"one": {"checks": [{"name": "a", "verdict": "no"}]}}),
    ],
)
def test_a_result_whose_parts_are_none_is_one_line(part, value, tmp_path, capsys):
    content = {"format": 1, "provenance": {}, part: value}
    (tmp_path / "result.json").write_text(json.dumps(content))
    assert cli.main(["show", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert f"`{part}`" in error
    assert "\n" not in error
