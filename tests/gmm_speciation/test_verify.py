"""`gmm-speciation verify`: the claims hold, and a wrong ingredient is seen."""

import json

import numpy as np
import pytest

from gmm_speciation import exact, hopfield
from gmm_speciation.cli import main
from gmm_speciation.estimate import Estimate
from gmm_speciation.verification.claims import Claim


def test_a_claim_holds_inside_its_error_bar_and_not_outside():
    def claim(value, stderr, slack=0.0):
        measured = Estimate(np.asarray(value), np.asarray(stderr), 100.0)
        return Claim("a number", "nobody", "by hand", 1.0, measured, slack)

    assert claim(1.03, 0.01).holds
    assert not claim(1.05, 0.01).holds
    assert claim(1.05, 0.01, slack=0.02).holds
    assert not claim(1.0 + 1e-6, 0.0).holds
    assert not claim(np.nan, 1.0).holds


def test_deterministic_claims_hold_and_the_report_reads_back(tmp_path):
    assert main(["verify", "--section", "memory", "--quiet", "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(result["claims"]) == 7
    assert all(one["holds"] for one in result["claims"])
    assert all(np.isfinite(one["measured"]["value"]) for one in result["claims"])


def test_a_prediction_off_by_one_percent_fails(monkeypatch, capsys):
    right = hopfield.critical_betas

    def wrong(num_patterns):
        betas = right(num_patterns)
        return hopfield.CriticalBetas(1.01 * betas.appearance, betas.equal_energy, betas.stability)

    monkeypatch.setattr(hopfield, "critical_betas", wrong)
    assert main(["verify", "--section", "memory"]) == 1
    assert "appearance" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("section", ["identities", "pairs", "many", "asymptotics", "published"])
def test_sampled_claims_hold(section):
    assert main(["verify", "--section", section, "--quiet"]) == 0


@pytest.mark.slow
def test_an_entropy_off_by_one_percent_fails(monkeypatch):
    right = exact.binary_entropy
    monkeypatch.setattr(exact, "binary_entropy", lambda *args: 1.01 * right(*args))
    assert main(["verify", "--section", "pairs", "--quiet"]) == 1


def test_an_unknown_section_is_one_line(capsys):
    assert main(["verify", "--section", "everything"]) == 2
    assert "identities" in capsys.readouterr().err


def test_bounds_hold_where_the_whole_bar_is_inside_them():
    def claim(value, relation, stderr=0.0):
        measured = Estimate(np.asarray(value), np.asarray(stderr), 100.0)
        return Claim("a number", "nobody", "by hand", 1.0, measured, relation=relation)

    assert claim(1.1, "at least").holds
    assert not claim(0.9, "at least").holds
    assert not claim(1.1, "at least", stderr=0.1).holds
    assert claim(0.9, "at most").holds
    assert not claim(1.1, "at most").holds
    with pytest.raises(ValueError, match="at least or at most"):
        claim(1.0, "about")


def test_a_published_claim_that_fails_stays_and_does_not_fail_the_command(monkeypatch, capsys):
    from gmm_speciation import verification
    from gmm_speciation.verification.claims import measured

    def claims(key, num_samples):
        return [
            Claim("it grows", "nobody", "by hand", 1.0, *measured(2.0, 0.0), relation="at least"),
            Claim("it shrinks", "nobody", "by hand", 1.0, *measured(2.0, 0.0), expected=False),
        ]

    section = verification.Section("Two claims", claims)
    monkeypatch.setitem(verification.SECTIONS, "guidance", section)
    assert main(["verify", "--guidance"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 claims hold; 1 published" in shown
    assert main(["verify", "--guidance", "--section", "memory"]) == 2


@pytest.mark.slow
def test_claims_of_guidance_come_out_as_expected():
    assert main(["verify", "--guidance", "--quiet"]) == 0
