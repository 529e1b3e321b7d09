"""`model-bridges paper`: rows of every paper on an exact mixture, plans, refusals, resuming, `show`."""

import json
import time

import numpy as np
import pytest
from controlled import digit_files, fitted, law, serve, written

from gmm_speciation.reporting.claims import Verdict
from model_bridges.classes.groups import read_selection
from model_bridges.cli import main
from model_bridges.cli.paper import STAND_INS
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.edm2.imagenet import vocabulary
from model_bridges.papers import PAPERS, Settings, Subject
from model_bridges.papers.decisions import (
    OURS,
    PAPERS_WAY,
    decide,
    decision_claims,
    half_point,
    window_share,
)
from model_bridges.papers.selections import Choice, choices, one_a_family, prompts

NEAR, FAR = Choice("near", "a | b", "3 apart"), Choice("far", "a | c", "6 apart")
SMALL = Settings(quick=True)


@pytest.fixture(scope="module")
def subject(judged):
    return Subject("mixture", judged, [NEAR, FAR], [Choice("depth 1", "a, b | c, d", "halves")])


@pytest.fixture(scope="module")
def rows(subject):
    """Rows of every paper on the mixture; the two of removal and guidance are small."""
    return {name: PAPERS[name].run([subject], SMALL) for name in PAPERS}


@pytest.mark.parametrize(
    ("name", "least"), [("handke2026", 30), ("handke2025", 8), ("koulischer2025", 15)]
)
def test_every_row_is_whole(rows, name, least):
    found = rows[name]
    assert len(found.rows) >= least
    for one in found.rows:
        assert one.place.where
        assert any(word in one.place.origin for word in ("theory", "the paper"))
    statements = [one.claim.statement for one in found.rows]
    assert len(set(statements)) == len(statements)
    named = {one.place.figure for one in found.rows} - {""}
    assert named <= set(found.pictures)
    for draw, caption in found.pictures.values():
        assert draw().axes
        assert caption


def test_read_outs_on_two_gaussians_are_what_they_are_known_for(rows):
    """Class against class is exact; the prior of one half is biased for one class of two (THEORY's 0.13)."""
    verdicts = {
        one.claim.statement.split("'")[1]: one.claim.verdict
        for one in rows["handke2026"].rows
        if one.claim.statement.startswith("read-out")
    }
    assert verdicts[OURS] != Verdict.NO
    assert verdicts[PAPERS_WAY] == Verdict.NO
    assert verdicts["tracking-ratio"] in tuple(Verdict)


@pytest.mark.parametrize("choice", [NEAR, FAR])
def test_a_decision_lies_where_two_gaussians_decide(subject, choice):
    """Half of log 2 is left where alpha^2 |m_a - m_b|^2 / (4 v) is 1.0440133, v = sigma^2 + 1/2."""
    settings = Settings(quick=True, num_samples=400)
    found = decide(subject, choice, settings)
    first, second = (
        np.asarray(law().means)["abcd".index(one)] for one in choice.groups.split(" | ")
    )
    sigma_squared = np.sum((first - second) ** 2) / 4 / 1.0440133 - 0.5
    prior = found.curves[OURS].prior_entropy
    if choice is NEAR:  # unequal shares, 0.4 and 0.2: near that of equal ones
        assert prior == pytest.approx(-(2 / 3) * np.log(2 / 3) - np.log(1 / 3) / 3)
    point = half_point(found.curves[OURS])
    low, high = point.interval()
    assert low - 0.25 < -np.log(sigma_squared) < high + 0.25
    assert 0.1 < float(window_share(found.curves[OURS]).value) < 0.5
    narrow, beside, theory = decision_claims("x", found)
    assert narrow.verdict == Verdict.YES
    assert theory is not None
    assert theory.predicted == pytest.approx(-np.log(sigma_squared), abs=0.2)
    assert beside is not None


def test_far_pairs_are_decided_first(rows):
    (order,) = (
        one.claim
        for one in rows["handke2026"].rows
        if "far is decided at higher noise than near" in one.claim.statement
    )
    # 6 against 3 apart: log 2 and more in sigma.
    assert float(order.measured.value) == pytest.approx(np.log(2), abs=0.5)


def test_a_run_continues_in_its_folder(subject, tmp_path):
    settings = Settings(quick=True, num_samples=24, folder=tmp_path)
    first = decide(subject, FAR, settings)
    spent = subject.model.denoiser.evaluations
    again = decide(subject, FAR, settings)
    assert subject.model.denoiser.evaluations - spent < 100  # the pilot's probe
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


@pytest.fixture
def mine(tmp_path, monkeypatch):
    folder = tmp_path / "files"
    folder.mkdir()
    serve(monkeypatch, fitted(*digit_files(folder), event_shape=(1, 8, 8)))
    return folder


def test_the_command_writes_and_show_reads_back(mine, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["paper", "handke2025", "--model", "mine:model", "--data", str(mine), "--quick"]
    assert main([*words, "--samples", "20", "--out", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "claims hold" in shown
    assert "intervals are wide" in shown
    record = written(out, {"four-points.png", "mine-model-one-against-all.png"})
    assert len(record["claims"]) >= 6 + 10
    assert all(row["verdict"] in ("yes", "no", "open") for row in record["claims"])
    assert all(row["where"] and row["predicted_by"] and row["command"] for row in record["claims"])
    assert main(["show", str(out)]) == 0
    again = capsys.readouterr().out
    assert "0 or not" in again
    assert main([*words, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    # 24 trajectories, 24 levels, one to draw, ten classes and the whole.
    assert plan[1]["evaluations of the network"] == f"{24 * 24 * 12:,}"


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
