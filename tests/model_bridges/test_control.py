"""Control of trained models: exact identities along guided trajectories, removal, intervals, commands.

Models are exact mixtures posing as trained ones wherever that will do: what they must give is known.
"""

import dataclasses
import json
import struct
import sys
import types

import jax
import numpy as np
import pytest
import torch
from heard import Heard

from gmm_speciation import GaussianMixture, entropy_curve, exact
from gmm_speciation.estimate import Estimate
from gmm_speciation.guidance import GuidedCurve, guided_curve
from gmm_speciation.reporting.claims import at_least, at_most, check_records, check_rows, equal
from model_bridges.cli import main
from model_bridges.control import interval_search
from model_bridges.control.drawing import draw
from model_bridges.control.guided import (
    GuidedRun,
    commitment,
    commitments,
    constant,
    feedback_kinds,
    guided_run,
)
from model_bridges.control.information import SCALES, guided_information, ratio
from model_bridges.control.interval_search import search_intervals
from model_bridges.control.judged import JudgedModel, own_model
from model_bridges.control.plotting import plot_removal
from model_bridges.control.removal import (
    CLASSES,
    DNG,
    NP,
    SLD,
    STRENGTHS,
    remove_class,
    share_difference,
)
from model_bridges.control.report import guidance_record, guidance_report, information_rows
from model_bridges.control.study import GuidanceStudy, study_guidance
from model_bridges.control.time_grids import CLASS, KARRAS, STATE, compare_grids, entropic_levels
from model_bridges.denoisers.base import Unconditional, Wrapped
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.entropy.windows import guidance_interval
from model_bridges.guidance import ClassifierFree, Interval, Unguided
from model_bridges.images import read_image_files
from model_bridges.images.labelled import LabelledImages
from model_bridges.quality import Judge, Quality, QualityCurve, Reference
from model_bridges.quality.frontier import compare_fronts
from model_bridges.quality.jackknife import Jackknifed
from model_bridges.samplers import karras_sigmas
from model_bridges.tracking.forward import track
from model_bridges.tracking.readouts import tracked_curve

WEIGHTS = (0.4, 0.2, 0.2, 0.2)  # the class that is removed has a share of its own


def law():
    """Four classes in the plane; neighbours are 3 apart with standard deviations of 0.7."""
    return GaussianMixture.isotropic(
        [[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0], [0.0, 3.0]], 0.5, WEIGHTS
    )


class Inconsistent(Wrapped):
    """Classes of one law, the whole of another one: a model that nothing trained well."""

    def __init__(self, classes, whole):
        self.denoiser, self.whole = classes, whole

    def _of(self, label):
        return self.whole if isinstance(label, Unconditional) else self.denoiser

    def raw(self, x, sigma, label):
        return self._of(label).raw(x, sigma, label)

    def __call__(self, x, sigma, label):
        return self._of(label)(x, sigma, label)


def inconsistent():
    wrong = GaussianMixture.isotropic([[1.0, 1.0], [-1.0, 2.0]], 1.5, [0.7, 0.3])
    return Inconsistent(mixture_denoiser(law()), mixture_denoiser(wrong))


def turns(num, classes=4):
    return torch.arange(num) % classes


# Guided trajectories


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("model", ["exact", "inconsistent"])
def test_the_identity_of_guided_information_holds_for_any_model(model, scale):
    """E[d log P] = (2w - 1) (1/sigma'^2 - 1/sigma^2) / 2 E|D_c - D_u|^2, whatever the steps."""
    denoiser = mixture_denoiser(law()) if model == "exact" else inconsistent()
    sigmas = np.geomspace(0.1, 20, 10)  # coarse: nothing is to vanish with the step
    run = guided_run(
        denoiser, constant(scale), turns(1200), sigmas, scales=np.full(10, scale), max_batch=10_000
    )
    assert abs(run.balance.value) < 4 * run.balance.stderr
    # It tells the scale: with another one in place, half the squared distance of the denoisers is left.
    other = guided_run(
        denoiser,
        constant(scale),
        turns(1200),
        sigmas,
        scales=np.full(10, scale + 0.5),
        max_batch=10_000,
    )
    assert abs(other.balance.value) > 8 * other.balance.stderr


def test_scale_one_half_keeps_log_p_and_larger_ones_raise_it():
    sigmas = np.geomspace(0.1, 20, 10)
    gained = {}
    for scale in (0.5, 1.0, 2.0):
        # Scales of 1/2 in the identity leave log P gained alone.
        run = guided_run(
            inconsistent(), constant(scale), turns(1200), sigmas, scales=np.full(10, 0.5)
        )
        gained[scale] = run.balance
    assert abs(gained[0.5].value) < 4 * gained[0.5].stderr
    assert gained[1.0].value > 8 * gained[1.0].stderr
    assert gained[2.0].value > gained[1.0].value


def extrapolated(denoiser, scale, labels, sigma_max, sigma_min, num=31):
    """Cross-entropies at `num` levels, noise first, free of the first order in the step: 2 fine - coarse."""
    found = []
    for levels, seed in ((num, 1), (2 * num - 1, 2)):
        sigmas = np.geomspace(sigma_min, sigma_max, levels)
        run = guided_run(denoiser, constant(scale), labels, sigmas, seed=seed, max_batch=10**6)
        found.append(run.curve.cross_entropy[:: (levels - 1) // (num - 1)])
    coarse, fine = found
    value = 2 * np.asarray(fine.value) - np.asarray(coarse.value)
    error = np.hypot(2 * np.asarray(fine.stderr), np.asarray(coarse.stderr))
    return np.geomspace(sigma_max, sigma_min, num), value, error


def test_unguided_cross_entropy_is_the_conditional_entropy_of_the_class():
    mixture = GaussianMixture.isotropic([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]], 0.5, [1 / 3] * 3)
    labels = turns(1800, 3)
    sigma, value, error = extrapolated(mixture_denoiser(mixture), 1.0, labels, 100.0, 0.3)
    grid = np.sort(-2 * np.log(sigma))[::-1]
    curve = entropy_curve(mixture, grid, num_samples=2**13, key=jax.random.key(0))
    wanted, known = (np.asarray(a)[::-1] for a in (curve.entropy.value, curve.entropy.stderr))
    error = np.hypot(error, known)
    print(f"largest deviation {np.abs(value - wanted).max():.4f} nats, error {error.max():.4f}")
    np.testing.assert_array_less(np.abs(value - wanted), 4 * error + 2e-3)
    assert error.max() < 0.05


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_two_classes_follow_the_equation_of_guided_information(scale):
    """In the clock kappa = |m|^2 / (s^2 + sigma^2), whatever the variance and the dimension."""
    mean, variance = np.array([[1.2, -0.5, 0.3]]), 0.4
    pair = GaussianMixture.isotropic(np.concatenate([mean, -mean]), variance, [0.5, 0.5])
    sigma, value, error = extrapolated(mixture_denoiser(pair), scale, turns(2400, 2), 60.0, 0.3)
    kappa = (mean**2).sum() / (variance + sigma**2)
    wanted = np.asarray(guided_curve(scale, kappa).cross_entropy.value)
    print(f"w = {scale:g}: largest deviation {np.abs(value - wanted).max():.4f}, {error.max():.4f}")
    np.testing.assert_array_less(np.abs(value - wanted), 4 * error + 2e-3)


def test_an_interval_has_its_scale_inside_and_leaves_the_start_alone():
    sigmas, labels, denoiser = np.geomspace(0.1, 20, 14), turns(1200), inconsistent()
    scales = np.where((sigmas > 0.5) & (sigmas <= 3.0), 2.0, 1.0)
    run = guided_run(
        denoiser,
        lambda c: Interval(ClassifierFree(c, 2.0), 0.5, 3.0),
        labels,
        sigmas,
        scales=scales,
    )
    assert abs(run.balance.value) < 4 * run.balance.stderr
    plain = guided_run(denoiser, constant(1.0), labels, sigmas, scales=np.ones(14))
    # A level reached by steps from above the interval alone is the unguided one: the noise is the same.
    before = np.flatnonzero(sigmas[::-1] > 3.0)[-1] + 1
    np.testing.assert_array_equal(run.losses[: before + 1], plain.losses[: before + 1])
    assert np.abs(run.losses[before + 1] - plain.losses[before + 1]).max() > 1e-3
    assert run.losses[-1].mean() < plain.losses[-1].mean()
    # Kinds without a constant scale have no identity.
    assert guided_run(denoiser, constant(1.0), labels[:8], sigmas).imbalance is None


def run_of(losses, sigma):
    """A run with these losses, noise first, of a prior of log 10."""
    log_snr = -2 * np.log(sigma)
    curve = GuidedCurve(
        log_snr,
        Estimate.from_samples(losses, 1),
        Estimate.from_samples(losses, 1),
        Estimate.from_samples(np.exp(-losses), 1),
        np.log(10),
        "log_snr",
        "made",
    )
    named = losses[-1] < np.log(2)
    return GuidedRun(curve, losses, None, named, torch.zeros(losses.shape[1], 1))


def test_commitment_of_a_step_is_its_place():
    log_sigma = np.linspace(4, -4, 801)
    places = np.array([-2.0, -0.5, 0.3, 1.7])
    losses = np.log(10) * (log_sigma[:, None] > places[None]).astype(float)
    run = run_of(losses, np.exp(log_sigma))
    np.testing.assert_allclose(commitments(run), places, atol=0.0051)
    np.testing.assert_allclose(commitment(run).value, places.mean(), atol=0.0051)
    # Any curve: moved by a shift, it commits by that much earlier.
    smooth = [np.log(10) / (1 + np.exp(-4 * (log_sigma[:, None] - [[a, a]]))) for a in (0.2, 0.9)]
    early, late = (commitments(run_of(s, np.exp(log_sigma))) for s in reversed(smooth))
    np.testing.assert_allclose(early - late, 0.7, atol=1e-6)


# Information


def test_ratio_of_paired_means_and_its_error(rng):
    """Against the spread of many ratios; 400 of them know it to 4 %."""

    def pairs():
        common = rng.normal(size=150)
        return 2 + common + 0.5 * rng.normal(size=150), 5 + 2 * common + rng.normal(size=150)

    found = [ratio(*pairs()) for _ in range(400)]
    above, below = pairs()
    np.testing.assert_allclose(ratio(above, below).value, above.sum() / below.sum(), rtol=1e-12)
    spread = np.std([float(one.value) for one in found])
    error = np.sqrt(np.mean([float(one.stderr) ** 2 for one in found]))
    np.testing.assert_allclose(error, spread, rtol=0.15)
    same = ratio(above, above)
    assert (same.value, same.dof) == (1, 149)
    assert same.stderr < 1e-12


@pytest.fixture(scope="module")
def judged():
    """An exact mixture posing as a model, its judge trained on draws of it."""
    mixture = law()
    parts = []
    for seed, num in ((0, 1600), (1, 400)):
        rng = np.random.default_rng(seed)
        labels = rng.choice(4, num, p=WEIGHTS)
        x = np.asarray(mixture.means)[labels] + np.sqrt(0.5) * rng.normal(size=(num, 2))
        parts.append(LabelledImages(torch.from_numpy(x).float(), torch.from_numpy(labels), "draws"))
    judge = Judge.train(parts[0].images, parts[0].labels, hidden=(24, 6))
    return JudgedModel(
        "mixture",
        CountingDenoiser(mixture_denoiser(mixture, sigma_range=(0.02, 15.0))),
        tuple("abcd"),
        *parts,
        judge,
        Reference.of(judge, parts[0].images, parts[0].labels),
    )


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


def test_information_without_a_theory(judged):
    heard = Heard()
    found = guided_information(judged, (0.5, 4.0), num_paths=20, num_levels=10, progress=heard)
    assert not found.theory
    assert not any("fitted mixture" in check.statement for check in found.checks)
    assert all(np.isfinite(float(check.measured.value)) for check in found.checks)
    assert len(heard.steps) == len(set(heard.steps)) == len(SCALES) + 5
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
        patch.setattr("model_bridges.control.judged.NUM_STEPS", 16)
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
    curve = tracked_curve(record)
    parts = information, search, grids
    study = GuidanceStudy(
        judged.name, 0.8, curve, guidance_interval(curve), 100, information, search, grids
    )
    assert len(study.checks) == sum(len(part.checks) for part in parts)
    guidance_report(study, "All").write(tmp_path / "all", guidance_record(study))
    content = written(tmp_path / "all", {"guided.png", "intervals.png", "images.png", "grids.png"})
    assert len(content["checks"]) == len(study.checks)
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
    one = draw(judged, "unguided", lambda own: Unguided(own), 120)
    assert one.recognised.value > 0.9
    assert one.recognised.stderr > 0  # also where all are


# Removal


@pytest.fixture(scope="module")
def removal(judged):
    return remove_class(
        judged,
        0,
        num_images=400,
        num_steps=24,
        strengths={NP: (0.2, 2.0), SLD: (4.0,), DNG: (1.0,), CLASSES: (1.0,)},
    )


def test_dynamic_guidance_of_strength_one_draws_the_law_without_the_class(judged, removal):
    """Also where the class has a share of its own: what is left of it is the overlap of the others."""
    kept = judged.held_out.images[judged.held_out.labels != 0]
    overlap = float((judged.judge.predict(kept) == 0).mean())
    exact_one = removal.curves[CLASSES].points[1]
    left = exact_one.removed_share
    error = 4 * np.hypot(float(left.stderr), np.sqrt(overlap * (1 - overlap) / len(kept)) + 1e-3)
    print(f"left {left.value:.4f}, overlap {overlap:.4f}; balance {exact_one.balance.value:.4f}")
    assert abs(left.value - overlap) < error
    assert exact_one.balance.value < exact_one.balance_floor + 4 * exact_one.balance.stderr
    assert removal.unguided.removed_share.value > 0.3
    # And as near to the data without the class as other data of it.
    gap = exact_one.frechet - removal.floor.held_out.frechet
    assert gap.value < 4 * gap.stderr


def test_one_strength_everywhere_spoils_the_balance_and_a_dynamic_one_does_not(removal):
    points = {name: curve.points[-1] for name, curve in removal.curves.items()}
    np_, classes = points[NP].balance, points[CLASSES].balance
    assert np_.value - classes.value > 4 * np.hypot(np_.stderr, classes.stderr)
    check = next(c for c in removal.checks if c.statement.startswith("NP spoils"))
    assert check.verdict == "yes"


def test_removal_keeps_its_books(judged, removal):
    for curve in removal.curves.values():
        assert curve.strengths[0] == 0
        assert curve.points[0] is removal.unguided
    assert removal.evaluations == {"unguided": 24, NP: 48, SLD: 48, DNG: 48, CLASSES: 24 * 5}
    pairs = {(a, b, m) for a in (DNG, CLASSES) for b in (NP, SLD) for m in ("balance", "frechet")}
    assert set(removal.comparisons) == pairs
    assert all(np.isfinite(float(check.measured.value)) for check in removal.checks)
    for words, message in (
        ({"removed": 4}, "0 to 3; got 4"),
        ({"removed": -1}, "0 to 3; got -1"),
        ({"strengths": {"nonsense": (1.0,)}}, "got nonsense"),
        ({"strengths": {NP: (1.0, 1.0)}}, "increase strictly"),
        ({"strengths": {NP: (0.0,)}}, "must be positive"),
        ({"strengths": {NP: ()}}, "must be positive"),
        ({"strengths": {NP: (float("nan"),)}}, "finite"),
    ):
        before = judged.denoiser.evaluations
        with pytest.raises(ValueError, match=message):
            remove_class(judged, **{"removed": 0} | words)
        assert judged.denoiser.evaluations == before  # said before anything is drawn


def made_curve(strengths, prices, gains, noise):
    """A curve of known values; what is left out of a batch moves all of them alike."""
    one = Estimate.exact(0.5)
    points = []
    for price, gain in zip(prices, gains, strict=True):
        replicates = {
            name: Jackknifed(np.asarray(value), value + noise)
            for name, value in (("frechet", price), ("removed_share", gain))
        }
        points.append(Quality(100, 0, "made", one, one, one, one, one, one, one, one, replicates))
    return QualityCurve("made", np.array(strengths, float), tuple(points))


def test_the_area_between_fronts_is_that_of_its_triangles(rng):
    """In log price: a falls at once from 10 to 0 over a factor e^2, b over e^4 and stays at 2."""
    noise = 0.01 * rng.normal(size=20)
    a = made_curve([0, 1], np.exp([0.0, 2.0]), [10.0, 0.0], 0 * noise)
    b = made_curve([0, 1, 2], np.exp([0.0, 4.0, 5.0]), [10.0, 2.0, 3.0], 0 * noise)
    found = compare_fronts(a, b, "frechet", "removed_share", floor=0.5)
    # Integrals from 0 to 4, where b has reached its least: 10 of a, (10 + 2) / 2 * 4 = 24 of b.
    np.testing.assert_allclose(found.area.value, (10 - 24) / 4, rtol=1e-4)
    np.testing.assert_allclose(found.budgets[[0, -1]], np.exp([0.0, 4.0]))
    np.testing.assert_allclose(found.y_a.value, [10, 5, 0, 0, 0])
    np.testing.assert_allclose(found.y_b.value, [10, 8, 6, 4, 2])
    assert found.area.stderr < 1e-12
    back = compare_fronts(b, a, "frechet", "removed_share", floor=0.5)
    np.testing.assert_allclose(back.area.value, -found.area.value)
    assert compare_fronts(b, b, "frechet", "removed_share", floor=0.5).area.value == 0
    # More of a curve that has reached its end, dearer and no better, changes nothing.
    more = made_curve([0, 1, 2, 3], np.exp([0.0, 2.0, 6.0, 9.0]), [10.0, 0.0, 1.0, 0.0], 0 * noise)
    longer = compare_fronts(more, b, "frechet", "removed_share", floor=0.5)
    np.testing.assert_allclose(longer.area.value, found.area.value, rtol=1e-9)
    # A grid that ends too early is another front: the weak setting alone leaves 5.
    early = made_curve([0, 1], np.exp([0.0, 1.0]), [10.0, 5.0], 0 * noise)
    assert compare_fronts(early, b, "frechet", "removed_share", floor=0.5).area.value > -1.4
    for floor, start in ((0.0, 0), (0.5, 1)):
        other = made_curve([start, 2], np.exp([0.0, 2.0]), [10.0, 0.0], noise)
        with pytest.raises(ValueError, match="start at strength 0"):
            compare_fronts(a, other, "frechet", "removed_share", floor=floor)


def test_a_budget_buys_the_cheaper_of_a_price_that_first_falls():
    """Prices below that of exact draws are noise, and what no price buys is not bought."""
    a = made_curve([0, 1, 2], np.exp([2.0, 0.0, 4.0]), [10.0, 4.0, 2.0], np.zeros(20))
    b = made_curve([0, 1, 2], [np.exp(2.0), np.nan, np.exp(3.0)], [10.0, 0.0, 9.0], np.zeros(20))
    found = compare_fronts(a, b, "frechet", "removed_share", floor=1.0)
    np.testing.assert_allclose(found.y_a.value, [4, 3.5, 3, 2.5, 2])
    np.testing.assert_allclose(found.y_b.value[:3], 10)
    raised = compare_fronts(a, b, "frechet", "removed_share", floor=np.exp(1.0))
    np.testing.assert_allclose(raised.budgets[0], np.exp(1.0))


def test_the_interval_of_an_area_covers_the_true_one():
    """Gains of 20 batches with known noise, part of it shared by both kinds, which cancels."""
    rng, hits, widths = np.random.default_rng(5), 0, []
    price = np.exp([0.0, 1.0, 2.0])
    for _ in range(200):
        shared, own = rng.normal(size=(20, 1)), 0.1 * rng.normal(size=(2, 20, 3))
        curves = []
        for noise, gains in zip(own, ([1.0, 0.4, 0.1], [1.0, 0.6, 0.3]), strict=True):
            noise[:, 0] = 0  # one unguided run for both
            batches = np.array(gains) + shared + noise
            points = []
            for s in range(3):
                values = batches[:, s]
                share = Jackknifed(np.asarray(values.mean()), (values.sum() - values) / 19)
                one = Estimate.exact(0.5)
                replicates = {
                    "frechet": Jackknifed(np.asarray(price[s]), np.full(20, price[s])),
                    "removed_share": share,
                }
                points.append(Quality(100, 0, "", *[one] * 8, replicates))
            curves.append(QualityCurve("made", np.arange(3.0), tuple(points)))
        area = compare_fronts(*curves, "frechet", "removed_share", floor=1e-3).area
        truth = -0.2 * 0.75  # trapezoid of 0, -0.2, -0.2
        low, high = area.interval()
        hits += bool(low <= truth <= high)
        widths.append(float(area.half_width()))
    assert 182 <= hits <= 198  # 190 expected, deviation 3
    assert np.mean(widths) < 0.1  # shared noise of 1 / sqrt(20) would give 0.47


def test_strengths_go_on_until_the_front_ends(judged, tmp_path):
    """Weak negative prompting is doubled to its floor; a second run reads every image."""

    heard = Heard()
    words = {"num_images": 60, "num_steps": 8, "folder": tmp_path}
    found = remove_class(judged, 0, strengths={NP: None, DNG: (1.0,)}, progress=heard, **words)
    strengths = found.curves[NP].strengths
    extended = strengths[strengths > 0.8]
    np.testing.assert_allclose(extended, 1.6 * 2.0 ** np.arange(len(extended)))
    runs = [name for name in heard.steps if name.startswith(NP)]
    assert len(extended) == len(runs) - len(STRENGTHS[NP])
    assert found.ends[DNG] == "given"
    assert found.ends[NP] != "given"
    if "as little" in found.ends[NP]:
        least = float(found.floor.held_out.removed_share.value)
        assert float(found.curves[NP].points[-1].removed_share.value) <= least + 1 / 60
    before = judged.denoiser.evaluations
    again = remove_class(judged, 0, strengths={NP: None, DNG: (1.0,)}, **words)
    assert judged.denoiser.evaluations == before
    for key, images in found.pictures.items():
        torch.testing.assert_close(images, again.pictures[key], rtol=0, atol=0)
    assert again.evaluations == found.evaluations
    damaged = sorted(tmp_path.glob("*.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-7])
    remove_class(judged, 0, strengths={NP: None, DNG: (1.0,)}, **words)
    assert judged.denoiser.evaluations > before  # drawn again
    other = judged.denoiser.evaluations
    remove_class(judged, 0, strengths={NP: (0.4,)}, seed=1, **words)
    assert judged.denoiser.evaluations > other  # another seed reads nothing of this one


def test_labels_of_strengths_cover_each_other_nowhere(removal):
    figure = plot_removal(removal)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [
            t.get_window_extent() for t in axes.texts if t.get_text().replace(".", "").isdigit()
        ]
        assert len(boxes) == 5
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_two_runs_without_a_difference_are_not_known_to_be_alike():
    same = share_difference(Estimate.exact(0.0), 200)
    assert same.stderr == pytest.approx(1 / 200)
    assert at_most("less", same, 0.0).verdict == "open"
    wide = share_difference(Estimate(-0.1, 0.02, 19.0), 200)
    assert wide.stderr == pytest.approx(0.02)


# Verdicts


def test_verdicts_need_the_whole_interval():
    """Half-widths of 95 %: 1.96 standard errors."""
    low, near, high = (Estimate(v, 0.1) for v in (-1.0, 0.1, 1.0))

    def said(claim, *arguments):
        rows = check_rows([claim("a", one, *arguments) for one in (low, near, high)])[1]
        return [row[-1] for row in rows]

    assert said(at_most, 0.0) == ["yes", "open", "no"]
    assert said(at_least, 0.0) == ["no", "open", "yes"]
    assert said(equal, 0.0, 0.2) == ["no", "open", "no"]
    assert said(equal, 0.0, 0.3) == ["no", "yes", "no"]
    assert said(equal, 0.5, 0.25) == ["no", "open", "no"]
    # Few samples widen the interval; nothing known decides nothing.
    assert at_most("a", Estimate(-0.3, 0.1, 1.0), 0.0).verdict == "open"
    assert at_most("a", Estimate(np.nan, np.nan), 0.0).verdict == "open"


def test_claims_are_recorded_with_their_verdicts():
    known = at_most("a claim", Estimate(0.1, 0.1), 0.0, "a source")
    unknown = equal("another", Estimate(np.nan, np.nan), 0.5, 0.4)
    records = check_records([known, unknown])
    assert records[0].pop("half_width") == pytest.approx(0.196, abs=1e-4)
    texts = [records[0][key] for key in ("claim", "expected", "verdict", "note")]
    assert texts == ["a claim", "≤ 0", "open", "a source"]
    assert (records[0]["measured"], records[0]["holds"]) == (0.1, False)
    assert (records[1]["expected"], records[1]["half_width"]) == ("0.5 ± 0.4", None)
    assert check_rows([at_least("a", Estimate(1.0, 0.1), 0.0)])[1][0][1] == "≥ 0"


# Commands


def write_idx(folder, parts):
    for name, (pixels, labels) in parts.items():
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            magic = {3: 2051, 1: 2049}[array.ndim]
            head = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())


def digit_files(folder, train=500, test=120):
    """Real digits of 8 x 8 pixels as MNIST-style files; returns bytes and classes of the training part."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    cut = slice(0, train), slice(train, train + test)
    parts = [(images[c], labels[c].astype(np.uint8)) for c in cut]
    write_idx(folder, dict(zip(("train", "t10k"), parts, strict=True)))
    return parts[0]


def serve(monkeypatch, denoiser):
    """Make `mine:model` return this denoiser."""
    module = types.ModuleType("mine")
    module.model = lambda: denoiser
    monkeypatch.setitem(sys.modules, "mine", module)


def fitted(pixels, labels, **options):
    """A mixture of one Gaussian a class fitted to bytes as the commands scale them."""
    x = pixels.reshape(len(pixels), -1) / 127.5 - 1
    means = np.stack([x[labels == c].mean(0) for c in range(10)])
    variance = np.stack([x[labels == c].var(0) for c in range(10)]).mean(0) + 0.02
    mixture = GaussianMixture.diagonal(means, np.broadcast_to(variance, means.shape), [0.1] * 10)
    return mixture_denoiser(mixture, sigma_range=(0.05, 30.0), **options)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of digits, and a model of them called mine:model."""
    folder = tmp_path / "files"
    folder.mkdir()
    serve(monkeypatch, fitted(*digit_files(folder), event_shape=(1, 8, 8)))
    return folder


def test_held_out_files_are_shuffled_as_pairs(mine):
    """Some files list class by class; the first images are taken for the entropy curve."""
    found = own_model("mine:model", mine).held_out
    files = read_image_files(mine).test
    assert not torch.equal(found.labels, files.labels)

    def listed(part):
        rows = zip(part.images.flatten(1).tolist(), part.labels.tolist(), strict=True)
        return sorted((*pixels, label) for pixels, label in rows)

    assert listed(found) == listed(files)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["remove", "digits", "--class", "11"], "'--class'"),
        (["remove", "digits", "--kind", "nonsense"], "Unknown kind 'nonsense'"),
        (["remove", "digits", "--kind", "DGN"], "Did you mean 'DNG'?"),
        (["remove", "digits", "--strengths", "1,x"], "`--strengths` takes numbers"),
        (["remove", "digits", "--images", "10"], "--images"),
        (["remove", "digit"], "Did you mean 'digits'?"),
        (["remove", "mine:model"], "needs images to be judged on: `--data DIR`"),
        (["remove", "digits", "--data", "."], "brings its own data"),
        (["guidance", "digits", "--section", "nonsense"], "Unknown section 'nonsense'"),
        (["guidance", "digits", "--mass", "2"], "inside (0, 1); got 2"),
        (["guidance", "mine:model", "--data", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(words, message, capsys)


def refused(words, message, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err + captured.out


def test_files_and_models_that_do_not_fit_are_refused(mine, capsys, monkeypatch):
    words = ["remove", "mine:model", "--data", str(mine)]
    refused([*words, "--strengths", "0,1", "--kind", "NP"], "must be positive", capsys)
    pixels, labels = digit_files(mine)
    means = np.zeros((10, 81)) + np.arange(10)[:, None]
    serve(monkeypatch, mixture_denoiser(GaussianMixture.isotropic(means, 1.0), None, (1, 9, 9)))
    refused(words, "states of shape (1, 9, 9)", capsys)
    means = np.zeros((9, 64)) + np.arange(9)[:, None]
    serve(monkeypatch, mixture_denoiser(GaussianMixture.isotropic(means, 1.0), None, (1, 8, 8)))
    refused(words, "has 9 classes and the data 10", capsys)
    write_idx(mine, {"train": (pixels[:300], labels)})
    refused(words, "train-", capsys)
    (mine / "train-images-idx3-ubyte").write_bytes(b"not an image file")
    refused(words, "train-images-idx3-ubyte", capsys)


def written(out, pictures):
    """The record of a run, whose page and pictures are there."""
    assert {path.name for path in out.glob("*.png")} == pictures
    assert all(path.stat().st_size > 3000 for path in out.glob("*.png"))
    page = (out / "report.html").read_text()
    assert page.count("<img") == len(pictures)
    return json.loads((out / "result.json").read_text())


def test_removal_on_idx_files(mine, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--class", "3", "--images", "60", "--steps", "8", "--kind", "NP", "--kind", "SLD"]
    words += ["--kind", "DNG, classes", "--strengths", "3,1", "--out", str(out)]
    assert main(["remove", "mine:model", "--data", str(mine), *words]) == 0
    assert "Class 3 removed from what mine:model draws" in capsys.readouterr().out
    record = written(out, {"images.png", "removal.png"})
    assert record["removed"] == 3
    assert record["num_images"] == 60
    assert {k: [p["strength"] for p in v] for k, v in record["kinds"].items()} == {
        name: [1, 3] for name in ("NP", "SLD", "DNG, classes")
    }
    assert record["evaluations_per_image"]["DNG, classes"] == 11 * 8
    left = [p["removed_share"]["value"] for p in record["kinds"]["DNG, classes"]]
    assert max(left) < 0.05
    assert {c["claim"].partition(",")[0] for c in record["checks"]} >= {"DNG"}


def test_removal_on_cifar_files(tmp_path, rng, monkeypatch):
    """Colour planes of 32 x 32: the classes are made, flat colours with noise."""
    colours = rng.integers(60, 196, (10, 3, 1, 1))
    drawn = {}
    for name, num in (*((f"data_batch_{i}", 20) for i in range(1, 6)), ("test_batch", 60)):
        labels = (np.arange(num) % 10).astype(np.uint8)
        pixels = colours[labels] + rng.integers(-40, 41, (num, 3, 32, 32))
        drawn[name] = pixels.astype(np.uint8), labels
        records = [bytes([c]) + x.tobytes() for x, c in zip(*drawn[name], strict=True)]
        (tmp_path / f"{name}.bin").write_bytes(b"".join(records))
    train = [drawn[f"data_batch_{i}"] for i in range(1, 6)]
    pixels, labels = (np.concatenate([part[i] for part in train]) for i in range(2))
    serve(monkeypatch, fitted(pixels, labels, event_shape=(3, 32, 32)))
    words = ["--class", "9", "--images", "40", "--steps", "6", "--kind", "DNG", "--strengths", "1"]
    out = tmp_path / "out"
    words += ["--data", str(tmp_path), "--out", str(out), "--quiet"]
    assert main(["remove", "mine:model", *words]) == 0
    record = written(out, {"images.png", "removal.png"})
    assert len(record["unguided"]["shares"]["value"]) == 10
    assert record["kinds"]["DNG"][0]["removed_share"]["value"] < 0.1


def test_removal_on_the_shipped_digits(tmp_path, capsys):
    words = ["--images", "40", "--steps", "6", "--kind", "NP", "--kind", "DNG", "--strengths", "1"]
    assert main(["remove", "digits", *words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "DNG leaves less" in printed
    assert written(tmp_path / "out", {"images.png", "removal.png"})["model"] == "digits"


@pytest.mark.slow
def test_grids_for_a_model_of_ones_own(mine, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--section", "grids", "--images", "40", "--data", str(mine), "--out", str(out)]
    assert main(["guidance", "mine:model", *words]) == 0
    assert "beats Karras" in capsys.readouterr().out
    record = written(out, {"grids.png"})
    assert record["interval"][0] < record["interval"][1]
    assert len(record["grids"]) == 18


EVERY = {"guided.png", "intervals.png", "images.png", "grids.png"}


@pytest.mark.slow
def test_guidance_of_a_model_of_ones_own(mine, tmp_path, capsys):
    """All sections, without a theory beside them."""
    out = tmp_path / "out"
    words = ["--images", "40", "--paths", "20", "--data", str(mine), "--out", str(out)]
    assert main(["guidance", "mine:model", *words]) == 0
    printed = capsys.readouterr().out
    for text in ("commits at", "neutral point", "interval of the curve"):
        assert text in printed
    assert written(out, EVERY)["information"]["theory"] == {}
    assert "fitted to the data" not in (out / "report.md").read_text()


@pytest.mark.slow
def test_guidance_of_the_shipped_digits(tmp_path):
    words = ["--images", "40", "--paths", "20", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["guidance", "digits", *words]) == 0
    record = written(tmp_path / "out", EVERY)
    identity = [c for c in record["checks"] if c["claim"].startswith("identity")]
    assert sum(c["holds"] for c in identity) >= len(identity) - 1
    assert "shift, mixture" in (tmp_path / "out" / "report.md").read_text()


def test_a_scale_of_intervals_guides(judged):
    with pytest.raises(ValueError, match="above 1"):
        study_guidance(judged, scale=1.0)
