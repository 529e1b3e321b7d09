"""`gmm-speciation verify`: the claims hold, and one percent of error in any prediction is seen."""

import json

import jax
import numpy as np
import pytest

from gmm_speciation import exact, hopfield
from gmm_speciation.cli import main
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Claim, Verdict
from gmm_speciation.verification import SECTIONS
from gmm_speciation.verification.backward import means_backward

# What a published simulation or a few thousand paths cannot tell to one percent: the row says how far.
COARSE = (
    "simulated",
    "Fig. 1",
    "any mixture",
    "classes, w = 2",
    "removed one",
    "neighbour",
    "spread",
)


def _claims(section: str, num_samples: int) -> list[Claim]:
    key = jax.random.fold_in(jax.random.key(0), list(SECTIONS).index(section))
    return SECTIONS[section].check(key, num_samples)[0]


def _one_percent_is_seen(claims: list[Claim]) -> None:
    """Every prediction in turn, both ways; the measurement is not run again."""
    for claim in claims:
        assert claim.as_expected, claim.statement
        apart = claim.tells_apart
        if apart is None:  # a bound
            continue
        if not any(word in claim.statement for word in COARSE):
            assert apart <= 0.01 + 1e-12, (claim.statement, apart)
        if claim.expected == Verdict.YES:
            for factor in (1 - max(apart, 0.01) * 1.0001, 1 + max(apart, 0.01) * 1.0001):
                wrong = claim.given(factor * claim.predicted)
                assert wrong.verdict != Verdict.YES, (claim.statement, factor)


def test_one_percent_of_any_prediction_is_seen_in_deterministic_claims():
    _one_percent_is_seen(_claims("memory", 512))


@pytest.mark.parametrize("section", ["identities", "many"])
def test_one_percent_of_any_prediction_is_seen(section):
    _one_percent_is_seen(_claims(section, 8192))


@pytest.mark.slow
@pytest.mark.parametrize("section", ["pairs", "asymptotics", "published", "guidance"])
def test_one_percent_of_any_prediction_is_seen_or_the_row_says_what_is(section):
    _one_percent_is_seen(_claims(section, 8192))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_claims_hold_whatever_the_seed(seed):
    sections = ("identities", "pairs", "many", "asymptotics")
    for section in sections:
        key = jax.random.fold_in(jax.random.key(seed), list(SECTIONS).index(section))
        for claim in SECTIONS[section].check(key, 8192)[0]:
            assert claim.as_expected, (seed, claim.statement)


def test_deterministic_claims_hold_and_the_report_reads_back(tmp_path):
    assert main(["verify", "--section", "memory", "--quiet", "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(result["claims"]) == 13
    assert all(one["verdict"] == "yes" for one in result["claims"])
    assert all(np.isfinite(one["measured"]["value"]) for one in result["claims"])
    assert "half-width of the 95 % interval" in (tmp_path / "out" / "report.md").read_text()


def test_a_prediction_off_by_one_percent_fails_the_command(monkeypatch, capsys):
    right = hopfield.critical_betas

    def wrong(num_patterns):
        betas = right(num_patterns)
        return hopfield.CriticalBetas(1.01 * betas.appearance, betas.equal_energy, betas.stability)

    monkeypatch.setattr(hopfield, "critical_betas", wrong)
    assert main(["verify", "--section", "memory"]) == 1
    assert "appearance" in capsys.readouterr().out


@pytest.fixture
def anew():
    """Compiled anew, before and after: programs keep the functions that they were compiled from."""
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.slow
@pytest.mark.usefixtures("anew")
def test_an_entropy_off_by_one_percent_fails_the_command(monkeypatch):
    right = exact.binary_entropy
    monkeypatch.setattr(exact, "binary_entropy", lambda *args: 1.01 * right(*args))
    assert main(["verify", "--section", "pairs", "--quiet"]) == 1


def test_an_unknown_section_is_one_line(capsys):
    assert main(["verify", "--section", "everything"]) == 2
    assert "identities" in capsys.readouterr().err


def test_a_published_claim_that_fails_stays_and_an_open_one_fails_the_command(monkeypatch, capsys):
    from gmm_speciation import verification

    def section(stderr):
        measured = Estimate(np.asarray(2.0), np.asarray(stderr), 100.0)

        def claims(key, num_samples):
            return [
                Claim("it grows", 1.0, measured, relation="at least"),
                Claim("it shrinks", 1.0, measured, 0.01, expected=Verdict.NO),
            ]

        return verification.Section("Two claims", claims)

    monkeypatch.setitem(verification.SECTIONS, "guidance", section(0.0))
    assert main(["verify", "--guidance"]) == 0
    assert "1 of 2 claims hold; 1 published" in capsys.readouterr().out
    assert main(["verify", "--guidance", "--section", "memory"]) == 2
    monkeypatch.setitem(verification.SECTIONS, "guidance", section(1.0))
    assert main(["verify", "--guidance"]) == 1
    assert "2 are open" in capsys.readouterr().out


def test_the_backward_equation_of_ornstein_uhlenbeck():
    """`E[y_T^2] = y^2 e^{-2T} + 1 - e^{-2T}` for `dy = -y dt + sqrt(2) dW`."""
    y = np.linspace(-9, 9, 1801)
    solved = means_backward(y**2, y, lambda _: -y, 1.0, 1e-3)
    for _ in range(700):
        u = next(solved)
    inside = abs(y) < 3
    expected = y**2 * np.exp(-1.4) + 1 - np.exp(-1.4)
    np.testing.assert_allclose(u[inside], expected[inside], rtol=2e-4)
