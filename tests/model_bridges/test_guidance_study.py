"""Studies of guidance on an exact mixture: information, levels equally spaced in it, intervals, the page."""

import dataclasses

import numpy as np
import pytest
import torch
from controlled import WEIGHTS, turns, written
from heard import Heard

from gmm_speciation import GaussianMixture, exact
from gmm_speciation.reporting.trust import TrustWarning
from model_bridges.control import interval_search
from model_bridges.control.drawing import Wanted, draw_all
from model_bridges.control.guided import feedback_kinds
from model_bridges.control.information import SCALES, guided_information
from model_bridges.control.interval_search import search_intervals
from model_bridges.control.plotting import plot_guided
from model_bridges.control.report import guidance_record, guidance_report, information_rows
from model_bridges.control.study import GuidanceStudy, study_guidance
from model_bridges.control.time_grids import CLASS, KARRAS, STATE, compare_grids, entropic_levels
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.denoisers.weighted import Weighted
from model_bridges.entropy.curve import trusted_curve
from model_bridges.entropy.windows import guidance_interval
from model_bridges.guidance import Unguided
from model_bridges.samplers import karras_sigmas
from model_bridges.tracking.forward import track


@pytest.fixture(scope="module")
def information(judged):
    return guided_information(
        judged, (0.7, 4.0), theory=judged.denoiser, num_paths=40, num_levels=14
    )


def test_information_of_a_model_that_is_the_theory(information):
    found = information
    assert all(np.isfinite(float(check.measured.value)) for check in found.checks)
    by_claim = {check.statement: check for check in found.checks}
    assert len(by_claim) == len(found.checks)
    constants = [c for c in found.checks if "feedback" in c.statement or "λ_max" in c.statement]
    assert len(constants) == 3
    assert all(check.verdict == "yes" for check in constants)
    # The same noise drives both, so a model that is the mixture agrees with it to rounding.
    same = [check for check in found.checks if "as in the fitted mixture" in check.statement]
    assert len(same) == sum(scale > 1 for scale in SCALES)
    for check in same:
        assert check.verdict == "yes"
        assert float(check.measured.half_width()) < 1e-10
    inside = [claim for claim in by_claim if claim.endswith("inside the window [nats]")]
    assert len(inside) == 1
    assert set(found.shares) == set(found.limited)
    assert found.sigmas.min() <= found.read_out <= found.sigmas.max()


def test_information_without_a_theory_and_without_feedback(judged):
    heard = Heard()
    found = guided_information(
        judged, (0.5, 4.0), num_paths=20, num_levels=10, feedback=False, progress=heard
    )
    assert not found.theory
    assert not found.feedback
    assert plot_guided(found).axes
    assert not any("fitted mixture" in check.statement for check in found.checks)
    assert all(np.isfinite(float(check.measured.value)) for check in found.checks)
    assert len(heard.steps) == len(set(heard.steps)) == len(SCALES) + 3
    # More guidance, more certainty half way.
    middle = [np.asarray(found.runs[w].curve.cross_entropy.value)[3] for w in (1.0, 2.0, 4.0)]
    assert middle[0] > middle[1] > middle[2]


# Levels equally spaced in information


def test_levels_of_a_gaussian_are_equally_spaced_in_its_entropy(rng):
    """H(x_0|x) = (d/2) log(s^2 sigma^2 / (s^2 + sigma^2)) + const, rate d s^2 / (s^2 + sigma^2)."""
    dim, variance, ends = 6, 0.7, (0.02, 30.0)
    normal = GaussianMixture.isotropic(np.zeros((1, dim)), variance)
    model = mixture_denoiser(normal, sigma_range=ends)
    x0 = torch.from_numpy(rng.normal(size=(300, dim)) * np.sqrt(variance))
    record = track(model, x0, sigmas=np.geomspace(*ends, 60))

    def entropy(sigma):
        return dim / 2 * np.log(variance * sigma**2 / (variance + sigma**2))

    total = entropy(ends[1]) - entropy(ends[0])
    levels = entropic_levels(record, 9, STATE, ends)
    assert (levels[0], levels[-1]) == (ends[1], ends[0])
    assert np.all(np.diff(levels) < 0)
    np.testing.assert_allclose(-np.diff(entropy(levels)), total / 8, rtol=0.1)
    # Within a part of the record, and without what is decided outside.
    part = entropic_levels(record, 6, STATE, (0.3, 3.0))
    assert (part[0], part[-1]) == (3.0, 0.3)
    np.testing.assert_allclose(-np.diff(entropy(part)), (entropy(3.0) - entropy(0.3)) / 5, rtol=0.1)
    # Without the noise of the images the rest is the rule of the integral.
    noise = dim * variance * record.sigmas**2 / (variance + record.sigmas**2)
    sharp = dataclasses.replace(record, unconditional_error=np.repeat(noise[:, None], 300, 1))
    levels = entropic_levels(sharp, 9, STATE, ends)
    np.testing.assert_allclose(-np.diff(entropy(levels)), total / 8, rtol=5e-3)


def test_levels_of_two_classes_are_equally_spaced_in_the_class_entropy(rng):
    variance, ends = 0.2, (0.02, 60.0)
    pair = GaussianMixture.isotropic([[-1.0, 0.0], [1.0, 0.0]], variance, [0.5, 0.5])
    model = mixture_denoiser(pair, sigma_range=ends)
    labels = turns(600, 2)
    x0 = torch.from_numpy(rng.normal(size=(600, 2)) * np.sqrt(variance))
    x0[:, 0] += 2.0 * labels - 1
    record = track(model, x0, labels, sigmas=np.geomspace(*ends, 48), max_batch=10_000)
    levels = entropic_levels(record, 8, CLASS, ends)
    assert np.all(np.diff(levels) < 0)
    assert (levels[0], levels[-1]) == (ends[1], ends[0])
    entropy = np.asarray(exact.binary_entropy(1 / (variance + levels**2)))
    np.testing.assert_allclose(-np.diff(entropy)[1:-1], np.log(2) / 7, atol=0.02)
    with pytest.raises(ValueError, match=r"got 'H\(x\)'"):
        entropic_levels(record, 8, "H(x)", ends)
    alone = dataclasses.replace(record, unconditional_error=None)
    with pytest.raises(ValueError, match="with an unconditional part"):
        entropic_levels(alone, 8, STATE, ends)
    for rate in (0.0, np.nan, np.inf):
        still = dataclasses.replace(
            record, unconditional_error=np.full_like(record.unconditional_error, rate)
        )
        with pytest.raises(
            ValueError, match=r"sigma = 60 and 0\.02 the record must decide something"
        ):
            entropic_levels(still, 8, STATE, ends)
    with pytest.raises(ValueError, match="`num_levels` must be a whole number of at least 2"):
        entropic_levels(record, 0, STATE, ends)
    with pytest.raises(ValueError, match="must be 0 < low < high"):
        entropic_levels(record, 8, CLASS, (3.0, 2.0))
    for of in (STATE, CLASS):
        levels = entropic_levels(record, 6, of, (0.5, 2.0))
        assert (levels[0], levels[-1]) == (2.0, 0.5)
        assert np.all(np.diff(levels) < 0)


@pytest.fixture(scope="module")
def record(judged):
    """The judged model's classes, tracked on data."""
    chosen = judged.held_out
    return track(
        judged.denoiser,
        chosen.images[:100].double(),
        chosen.labels[:100],
        sigmas=np.geomspace(*judged.denoiser.sigma_range, 24),
    )


@pytest.fixture(scope="module")
def grids(judged, record):
    return compare_grids(judged, record, num_levels=(5, 24), num_images=120)


def test_grids_of_the_same_number_of_levels_cost_the_same(judged, grids):
    found = grids
    for (grid, count), levels in found.levels.items():
        assert len(levels) == count
        np.testing.assert_allclose(levels[[0, -1]], judged.denoiser.sigma_range[::-1], rtol=1e-9)
        assert found.draws[grid, "ancestral", count].evaluations == count
        assert found.draws[grid, "probability-flow", count].evaluations == 2 * count - 1  # Heun
    assert all(np.isfinite(float(check.measured.value)) for check in found.checks)
    assert len(found.checks) == 8
    many, few = (found.draws[KARRAS, "ancestral", n].quality.frechet.value for n in (24, 5))
    assert many < few


# The interval of the curve against a search


@pytest.fixture(scope="module")
def search(judged):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interval_search, "NUM_STEPS", 16)
        patch.setattr("model_bridges.studied.NUM_STEPS", 16)
        return search_intervals(judged, (0.7, 4.0), 1000, num_images=240)


def test_search_of_intervals(search):
    found = search
    # Of the inner edges 0.3, 1, 3 and 10 times the spread of about 1.9 the last is out of range.
    edges = sorted({end for ends in found.cells for end in ends})
    assert len(edges) == 5
    assert (edges[0], edges[-1]) == (0, 15)
    assert len(found.cells) == 10
    assert all(np.isfinite(float(check.measured.value)) for check in found.checks)
    distances = {ends: float(cell.quality.frechet.value) for ends, cell in found.cells.items()}
    assert distances[found.best] == min(distances.values())
    assert found.full is found.cells[0, 15]
    # An evaluation a step and image, and a second one where the guidance acts.
    assert found.unguided.evaluations == 16
    assert [one.evaluations for one in (found.full, *found.feedback)] == [32] * 3
    assert [one.name for one in found.feedback] == list(
        feedback_kinds(karras_sigmas(16, 0.02, 15.0).numpy())
    )
    assert 16 < found.entropic.evaluations < 32
    assert found.search_evaluations == 240 * sum(c.evaluations for c in found.cells.values())
    assert found.curve_evaluations == 1000
    # Diversity: guidance everywhere draws images more alike than those of the law.
    assert found.full.quality.diversity.value < found.unguided.quality.diversity.value


def test_the_page_of_a_study(judged, information, search, grids, record, tmp_path):
    """Tables, pictures and the record of all sections, and of one."""
    images, labels = judged.held_out.images[:100].double(), judged.held_out.labels[:100]
    curve = trusted_curve(record, images, labels)
    parts = information, search, grids
    study = GuidanceStudy(
        judged.name, 0.8, curve, guidance_interval(curve), 100, information, search, grids
    )
    assert len(study.checks) == sum(len(part.checks) for part in parts)
    guidance_report(study, "All").write(tmp_path / "all", guidance_record(study))
    content = written(tmp_path / "all", {"guided.png", "intervals.png", "images.png", "grids.png"})
    assert len(content["checks"]) == len(study.checks)
    assert content["trust"]["curve"]
    assert "Can the curve be trusted?" in (tmp_path / "all" / "report.md").read_text()
    assert set(content["information"]["theory"]) == {f"{w:g}" for w in SCALES}
    assert len(content["intervals"]["draws"]) == 14
    assert tuple(content["intervals"]["best"]) == search.best
    assert "recognised" in content["intervals"]["draws"][0]
    assert "recognised" not in content["grids"][0]  # no class was asked for
    headers, rows = information_rows(information)
    assert [row[0] for row in rows] == [
        *(f"w = {w:g}" for w in SCALES),
        "w = 2 inside the window",
        "w = 2 at more noise than the window",
        "w = 2 at less noise than the window",
        *information.feedback,
    ]
    shifts = headers.index("shift [log σ]"), headers.index("shift, mixture")
    assert rows[0][shifts[0]] == rows[0][shifts[1]]  # the model is the mixture
    assert rows[-1][headers.index("identity, nats")] == "—"  # feedback has no constant scale
    assert {len(row) for row in rows} == {len(headers)}
    shown = (row[headers.index("half left at λ")].split()[0] for row in rows[1:5])
    half = [float(text.replace("−", "-")) for text in shown]
    assert half == sorted(half, reverse=True)  # the larger w, the more noise


def test_an_exact_model_is_at_the_floor(judged):
    """Draws are as far from the training data as held-out data are."""
    # Classes in turn are not the law's shares: each is drawn as often as the law has it.
    order = torch.from_numpy(np.repeat(np.arange(4), np.multiply(WEIGHTS, 10).round().astype(int)))
    labels = order.repeat(40)
    images = judged.draw(lambda own: Unguided(labels[: len(own)]), 400)
    found, held_out = (judged.assess(x).frechet for x in (images, judged.held_out.images))
    gap = found - held_out
    print(f"Fréchet distance {found.value:.3f}, held out {held_out.value:.3f}, {gap.stderr:.3f}")
    assert abs(gap.value) < 4 * gap.stderr
    (one,) = draw_all(judged, [Wanted("unguided", lambda own: Unguided(own), 120)])
    assert one.recognised.value > 0.9
    assert one.recognised.stderr > 0  # also where all are


def test_a_scale_of_intervals_guides(judged):
    with pytest.raises(ValueError, match="above 1"):
        study_guidance(judged, scale=1.0)


def test_an_interval_of_a_curve_that_cannot_be_trusted_is_said(judged):
    """A network of the wrong sign, and images of other shares than the weights."""
    right = judged.denoiser.denoiser
    sign = dataclasses.replace(
        right,
        coefficient_function=lambda sigma: (0 * torch.as_tensor(sigma), -torch.ones_like(sigma)),
    )
    for wrong, says in (
        (sign, "denoising error"),
        (Weighted(right, (0.1, 0.1, 0.1, 0.7)), "divergence of the labels' shares"),
    ):
        model = dataclasses.replace(judged, denoiser=CountingDenoiser(wrong))
        with pytest.warns(TrustWarning, match=says):
            found = study_guidance(model, sections=("information",), num_paths=20, curve_images=200)
        assert not found.curve.trust.ok
