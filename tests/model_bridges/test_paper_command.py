"""`model-bridges paper`: rows of every paper on an exact mixture, plans, refusals, resuming, `show`."""

import json
import time

import numpy as np
import pytest
from controlled import law, serve, written

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Verdict
from model_bridges.classes.groups import read_selection
from model_bridges.cli import main
from model_bridges.cli.paper import STAND_INS
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.edm2.imagenet import vocabulary
from model_bridges.papers import PAPERS, Settings, Subject, handke2026, selections
from model_bridges.papers.decisions import (
    OURS,
    PAPERS_WAY,
    decide,
    decision_claims,
    half_point,
    window_claim,
    window_share,
)
from model_bridges.papers.parts import Found
from model_bridges.papers.selections import Choice, choices, one_a_family, prompts
from model_bridges.studied import study_denoiser

NEAR, FAR = Choice("near", "b | d", "3 apart"), Choice("far", "a | c", "6 apart")
SMALL = Settings(quick=True)


@pytest.fixture(scope="module")
def subject(judged):
    """With data: a mixture is fitted, pictures are judged."""
    return Subject("mixture", judged, [NEAR, FAR], [Choice("depth 1", "a, b | c, d", "halves")])


@pytest.fixture(scope="module")
def bare():
    """The same without data."""
    model = study_denoiser(
        mixture_denoiser(law(), sigma_range=(0.02, 15.0)), "bare", class_names=tuple("abcd")
    )
    return Subject("bare", model, [NEAR, FAR])


@pytest.fixture(scope="module")
def rows(bare, subject):
    """Rows that need no fit; the others are in the slow test."""
    decisions = Found()
    handke2026._read_outs(decisions, SMALL)
    handke2026._decisions(decisions, bare, SMALL)
    found = {"handke2026": decisions}
    return found | {
        name: PAPERS[name].run([one], SMALL)
        for name, one in (("handke2025", bare), ("koulischer2025", subject))
    }


def check(found, least):
    assert len(found.rows) >= least
    for one in found.rows:
        assert one.place.where
        assert any(word in one.place.origin for word in ("theory", "the paper"))
    statements = [one.claim.statement for one in found.rows]
    assert len(set(statements)) == len(statements)
    assert {one.place.figure for one in found.rows} - {""} <= set(found.pictures)
    for draw, caption in found.pictures.values():
        assert draw().axes
        assert caption


@pytest.mark.parametrize(
    ("name", "least"), [("handke2026", 8), ("handke2025", 6), ("koulischer2025", 15)]
)
def test_every_row_is_whole(rows, name, least):
    check(rows[name], least)


@pytest.mark.slow
def test_every_row_is_whole_where_there_are_data(subject):
    found = PAPERS["handke2026"].run([subject], SMALL)
    check(found, 30)
    assert any(
        "intervals" in one.claim.statement or "interval" in one.claim.statement
        for one in found.rows
    )
    check(PAPERS["handke2025"].run([subject], SMALL), 8)


def test_read_outs_on_two_gaussians_are_what_they_are_known_for(rows):
    """Class against class is exact; the prior of one half is biased for one class of two."""
    verdicts = {
        one.claim.statement.split("'")[1]: one.claim.verdict
        for one in rows["handke2026"].rows
        if one.claim.statement.startswith("read-out")
    }
    assert set(verdicts) == {OURS, "tracking-ratio", PAPERS_WAY}
    assert verdicts[OURS] != Verdict.NO
    assert verdicts[PAPERS_WAY] == Verdict.NO


def test_a_decision_lies_where_two_gaussians_decide(subject):
    """Half of log 2 is left where alpha^2 |m_a - m_b|^2 / (4 v) is 1.0440133, v = sigma^2 + 1/2."""
    found = decide(subject, NEAR, Settings(quick=True, num_samples=120))
    expected = -np.log(9 / 4 / 1.0440133 - 0.5)
    low, high = half_point(found.curves[OURS]).interval()
    assert low < expected < high
    assert high - low < 1.5
    assert 0.1 < float(window_share(found.curves[OURS]).value) < 0.5
    narrow, beside, theory = decision_claims("x", found)
    assert narrow.verdict == Verdict.YES
    assert beside is not None
    assert theory is not None
    # Of a mixture fitted to 1600 draws.
    assert theory.predicted == pytest.approx(expected, abs=0.2)


def test_far_pairs_are_decided_first(rows):
    (order,) = (
        one.claim
        for one in rows["handke2026"].rows
        if "far is decided at higher noise than near" in one.claim.statement
    )
    sigma = np.sqrt(np.array([36, 9]) / 4 / 1.0440133 - 0.5)  # 6 against 3 apart; unequal shares
    low, high = order.measured.interval()
    assert low - 0.1 < np.log(sigma[0] / sigma[1]) < high + 0.1


def test_a_run_continues_in_its_folder(bare, tmp_path):
    settings = Settings(quick=True, num_samples=24, folder=tmp_path)
    first, again = decide(bare, FAR, settings), decide(bare, FAR, settings)
    # Chunks, read and not made again.
    assert sum(path.is_file() for path in tmp_path.rglob("*")) > 6
    for way in first.curves:
        np.testing.assert_array_equal(
            np.asarray(first.curves[way].entropy.value), np.asarray(again.curves[way].entropy.value)
        )


def test_ten_pairs_of_imagenet_and_four_depths_are_known():
    pairs, groups = choices("imagenet"), choices("imagenet groups")
    assert len(pairs) == 10
    assert {one.family for one in pairs} == {"near", "middle", "far"}
    assert [one.family for one in groups] == [f"depth {k}" for k in (1, 2, 3, 4)]
    for one in (*pairs, *groups):
        assert one.reason
        found = read_selection(one.groups, vocabulary())
        assert len(found.groups) == 2
        assert one in groups or found.classes == tuple(dict.fromkeys(found.classes))
        assert one in groups or len(found.classes) == 2
    sizes = [len(read_selection(one.groups, vocabulary()).classes) for one in groups]
    assert sizes == sorted(sizes, reverse=True)


def test_twelve_pairs_of_prompts_are_classes_that_can_be_named():
    pairs = choices("prompts")
    assert len(pairs) == 12
    assert sorted({one.family for one in pairs}) == ["attribute", "object", "setting", "style"]
    assert len(one_a_family(pairs)) == 4
    assert not any("," in one or ":" in one for one in prompts())  # they separate classes
    for one in pairs:
        assert one.reason
        assert all(side.strip() in prompts() for side in one.groups.split("|"))
    assert len(set(prompts())) == len(prompts())


def test_a_decision_that_is_not_made_has_no_window():
    """An almost flat curve loses 80 % of next to nothing in a narrow window."""
    levels = np.linspace(4.0, -4.0, 40)
    flat = np.log(2) - 0.01 / (1 + np.exp(-8 * levels))
    curve = EntropyCurve(
        levels, Estimate.exact(flat), Estimate.exact(np.zeros(40)), float(np.log(2)), "made up"
    )
    assert np.isnan(float(window_share(curve).value))
    assert window_claim("x", curve, "y").verdict == Verdict.OPEN


@pytest.mark.slow
def test_prompts_of_a_pipeline_are_decided(folder, tmp_path, monkeypatch, capsys):
    pairs = [Choice("object", "a cat | a dog", "x"), Choice("style", "a cat | a car", "x")]
    monkeypatch.setattr(selections, "choices", lambda kind: pairs)
    words = ["paper", "handke2026", "--sd", str(folder), "--quick", "--samples", "6"]
    assert main([*words, "--folder", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["claims"]
    assert sum(row["claim"].startswith("SD 1.5, ") for row in rows) == 4
    assert not any("stand-in" in row["predicted_by"] for row in rows)
    assert main([*words, "--plan"]) == 0
    # Two decisions, 6 trajectories, 16 levels, one to draw, two prompts and the empty one.
    assert f"{2 * 6 * 16 * 4:,}" in capsys.readouterr().out


def test_the_command_writes_and_show_reads_back(tmp_path, capsys, monkeypatch):
    serve(monkeypatch, mixture_denoiser(law(), sigma_range=(0.02, 15.0)))
    out = tmp_path / "out"
    words = ["paper", "handke2025", "--model", "mine:model", "--quick"]
    assert main([*words, "--samples", "20", "--out", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "claims hold" in shown
    assert "intervals are wide" in shown
    record = written(out, {"four-points.png", "mine-model-one-against-all.png"})
    assert len(record["claims"]) == 6
    assert all(row["verdict"] in ("yes", "no", "open") for row in record["claims"])
    assert all(row["where"] and row["predicted_by"] and row["command"] for row in record["claims"])
    assert main(["show", str(out)]) == 0
    assert "final tenth" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    # 24 trajectories, 16 levels, one to draw, four classes and the whole.
    assert plan[1]["evaluations of the network"] == f"{24 * 16 * 6:,}"
    assert "20 trajectories of 16 noise levels; the paper's network has 1000" in record["about"]
    assert main([*words, "--levels", "7", "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan[1]["evaluations of the network"] == f"{24 * 7 * 6:,}"


@pytest.mark.parametrize("name", PAPERS)
def test_a_run_says_how_near_to_the_paper_it_is(name, subject):
    """What was run is said in numbers, whatever was asked for; what is not known of the paper, too."""
    words = PAPERS[name].scale([subject], Settings(num_samples=137, num_levels=43))
    assert "137" in words
    assert "43" in words
    assert "not known" in words
    if name == "handke2026":
        released = PAPERS[name].scale(
            [Subject("EDM2-XS", subject.model, (), (), "handke2026-edm2")], Settings()
        )
        assert "EDM2-XS 3000 and 64" in released  # as the paper
        assert "Guided" not in released


def test_intervals_of_a_run_continue_in_its_folder(subject, tmp_path):
    """The images of an interval are read from the folder and not drawn again."""
    settings = Settings(quick=True, num_samples=40, folder=tmp_path)
    found = [Found(), Found()]
    spent = []
    for one in found:
        before = subject.model.denoiser.evaluations
        handke2026._intervals(one, subject, (0.5, 2.0), settings)
        spent.append(subject.model.denoiser.evaluations - before)
    assert spent[0] > 10 * 40 * 31
    assert spent[1] < spent[0] / 100
    for first, again in zip(*(one.rows for one in found), strict=True):
        assert str(first.claim.measured) == str(again.claim.measured)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["handke2027"], "Did you mean 'handke2026'?"),
        (["koulischer2023"], "Did you mean 'koulischer2025'?"),
        (["handke2025", "--edm2", "a,b"], "belong to handke2026"),
        (["handke2026", "--model", "digits"], "--model belongs to the other papers"),
        (["koulischer2025", "--data", "."], "belong to --model"),
        (["koulischer2025", "--model", "mine:model"], "comes without data"),
        (["handke2026", "--edm2", "absent.safetensors"], "absent.safetensors"),
        (["handke2026", "--samples", "1"], "--samples"),
    ],
)
def test_a_mistake_is_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    serve(monkeypatch, mixture_denoiser(law()))
    assert main(["paper", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", STAND_INS)
def test_quick_is_three_minutes(name, tmp_path):
    started = time.process_time()
    assert main(["paper", name, "--quick", "--quiet", "--out", str(tmp_path / "out")]) == 0
    assert time.process_time() - started < 180
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["claims"]
    assert len(rows) >= 10
    assert all(
        "stand-in" in row["predicted_by"] for row in rows if row["claim"].startswith("digits")
    )
