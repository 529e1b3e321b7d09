"""The trust block: wrong wrappers, units, networks and labels are named; right models pass.

Wrong models are made of the shipped digits networks, whose right wrapping is known. Bounds are compared
with dense linear algebra and scikit-learn, verdicts with their stated rate of false alarms.
"""

import json
import warnings
from dataclasses import replace

import jax
import numpy as np
import pytest
import test_wrapped_oracle as wrapped
import torch
from oracle import draw, ten_classes

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.report import load_curve
from model_bridges.cli import main
from model_bridges.denoisers.base import UNCONDITIONAL, NotFiniteError
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.digits import load_digits, load_networks
from model_bridges.edm2 import EDM2Network
from model_bridges.entropy.evidence import Evidence
from model_bridges.entropy.linear_bounds import scalar_bound, wiener_errors
from model_bridges.entropy.trust import Check, TrustWarning
from model_bridges.entropy.trust_checks import trusted

ERROR, LABELS, BUDGET = "denoising error", "cross-entropy of the true labels", "information budget"
NAMED, GAINED = "labels named", "information gained"
RIGHT = mb.load("digits")
LOW, HIGH = RIGHT.sigma_range
LEVELS = np.geomspace(LOW, HIGH, 11)
NUM_IMAGES = 48


def wrap(raw, coefficients=RIGHT.coefficients, **options):
    """A wrapper of the digits' networks that may be wrong."""
    shape, levels = RIGHT.event_shape, RIGHT.sigma_range
    sizes = {"num_classes": 10, "event_shape": shape, "sigma_range": levels, "outside": "accept"}
    return NetworkDenoiser(raw, coefficients, **sizes | options)


def plain(sigma):
    return torch.zeros_like(sigma), torch.ones_like(sigma)


def untrained(gain):
    torch.manual_seed(3)
    network = EDM2Network(**load_networks()[2].network_kwargs["conditional"]).eval()
    network.unet.out_gain.data.fill_(gain)
    return mb.from_edm2(network.requires_grad_(False), sigma_range=RIGHT.sigma_range)


def data():
    digits = load_digits()
    return digits.held_out_images[:NUM_IMAGES], digits.held_out_labels[:NUM_IMAGES]


def curve_of(denoiser, images, labels=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)
        return mb.entropy_curve(denoiser, images, labels, **{"sigmas": LEVELS} | options)


def failed(curve):
    return [check.name for check in curve.trust.failed]


WRONG = {
    "sign": lambda: wrap(lambda x, s, label: -RIGHT.raw(x, s, label)),
    "time": lambda: wrap(lambda x, s, label: RIGHT.raw(x, LOW * HIGH / s, label)),
    # A network whose images have half the contrast and another zero, given these as they are.
    "scale": lambda: wrap(lambda x, s, label: RIGHT(2 * x + 0.5, s, label), plain),
    "untrained": lambda: untrained(1.0),
    "untrained, silent": lambda: untrained(0.0),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_models_are_named_without_labels(kind):
    curve = curve_of(WRONG[kind](), data()[0])
    assert not curve.trust.ok
    assert any(ERROR in name for name in failed(curve))


@pytest.mark.parametrize("kind", ["sign", "time", "scale"])
def test_wrong_wrappers_are_named_by_labels_and_budget(kind):
    names = failed(curve_of(WRONG[kind](), *data()))
    for expected in (LABELS, NAMED, BUDGET):
        assert any(expected in name for name in names), expected


def test_a_model_that_knows_no_labels_decides_nothing():
    deaf = wrap(lambda x, s, label: RIGHT.raw(x, s, UNCONDITIONAL))
    assert [name for name in failed(curve_of(deaf, data()[0])) if GAINED in name]


def test_images_of_another_kind_are_named():
    images = data()[0]
    noise = images.std() * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    low, high = images.min(), images.max()
    for wrong in (noise, 255 * (images - low) / (high - low), (images - low) / (high - low)):
        assert any(ERROR in name for name in failed(curve_of(RIGHT, wrong)))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_shuffled_labels_are_named(share):
    images, labels = data()
    generator = torch.Generator().manual_seed(1)
    other = labels[torch.randperm(len(labels), generator=generator)]
    mixed = torch.where(torch.rand(len(labels), generator=generator) < share, other, labels)
    curve = curve_of(RIGHT, images, mixed)
    assert {LABELS, NAMED} <= {name.split(" minus")[0].split(" at ")[0] for name in failed(curve)}
    assert not any(ERROR in name for name in failed(curve))  # the network is right


@pytest.mark.parametrize("labelled", [True, False])
def test_the_digits_pass_and_nothing_is_evaluated_for_it(labelled):
    images, labels = data()
    meter = CountingDenoiser(RIGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrustWarning)
        curve = mb.entropy_curve(meter, images, labels if labelled else None, sigmas=LEVELS)
    assert curve.trust.ok, failed(curve)
    assert meter.evaluations == len(images) * len(LEVELS) * 11
    assert any(LABELS in check.name for check in curve.trust.checks) == labelled


def test_the_text_to_image_model_passes():
    from model_bridges.cli.inputs import gather, subject

    chosen = subject("digits-text")
    found = gather(chosen, None, None, limit=32)
    levels = np.geomspace(*chosen.denoiser.sigma_range, 10)
    curve = curve_of(chosen.denoiser, found.images, found.labels, sigmas=levels, max_batch=256)
    assert curve.trust.ok, failed(curve)


@pytest.mark.parametrize("dress", wrapped.DRESSES)
@pytest.mark.parametrize("estimator", wrapped.NUM_IMAGES)
def test_the_oracle_passes_in_every_dress(dress, estimator):
    x0, component = wrapped.MIXTURE.sample(jax.random.key(3), 64)
    x0, labels = (torch.from_numpy(np.array(a)) for a in (x0, component))
    curve = curve_of(
        wrapped.DRESSES[dress](),
        x0,
        labels.long(),
        estimator=estimator,
        sigmas=None,
        max_batch=100_000,
    )
    assert curve.trust.ok, failed(curve)


@pytest.mark.parametrize("estimator", ["elbo", "clones", "gap-sampled", "tracking-ratio"])
def test_every_estimator_sees_a_wrong_sign(estimator):
    mixture = ten_classes("isotropic")
    right = mb.mixture_denoiser(mixture)
    scale = float(np.sqrt(0.05 + 0.25**2))

    def coefficients(sigma):
        total = sigma**2 + scale**2
        return scale**2 / total, sigma * scale / total.sqrt()

    def raw(x, sigma, label):
        skip, out = (c[:, None] for c in coefficients(sigma))
        return -(right.raw(x, sigma, label) - skip * x) / out

    wrong = replace(right, raw_function=raw, coefficient_function=coefficients)
    x0, labels = draw(mixture, 48, 0)
    options = {"estimator": estimator, "sigmas": None if estimator != "tracking-ratio" else LEVELS}
    assert any(ERROR in name for name in failed(curve_of(wrong, x0, labels, **options)))
    right_curve = curve_of(right, x0, labels, **options)
    assert right_curve.trust.ok, failed(right_curve)


def test_trajectories_of_a_wrong_model_are_named():
    """The posterior is consistent with trajectories of any model; the denoising error is not."""
    from model_bridges.entropy.measure import measure
    from model_bridges.entropy.problem import problem

    states, levels = torch.zeros(24, *RIGHT.event_shape), np.geomspace(LOW, HIGH, 14)
    for denoiser, ok in ((RIGHT, True), (WRONG["sign"](), False)):
        given = problem(denoiser, states, torch.arange(24) % 10, sigmas=levels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrustWarning)
            curve = measure(given, ["tracking"], trajectories=True).variables["classes"].main
        assert curve.trust.ok == ok, failed(curve)


def test_two_networks_that_disagree_are_named_where_the_curve_rests_on_both():
    curve = curve_of(RIGHT, *data(), estimator="gap-unconditional")
    assert any("unconditional form" in name for name in failed(curve))
    assert curve_of(RIGHT, *data(), estimator="gap").trust.ok


# Bounds and verdicts


@pytest.mark.parametrize("num_images", [64, 200])
def test_bounds_are_those_of_dense_algebra(num_images):
    """`tr (1-G) C (1-G) + s^2 tr G^2` on the other half, with scikit-learn's covariance."""
    from sklearn.covariance import LedoitWolf

    rng = np.random.default_rng(0)
    x = 3 + rng.normal(size=(num_images, 24)) @ rng.normal(size=(24, 24)) / 5
    sigmas = np.array([1e-3, 0.3, 50.0])
    found = wiener_errors(torch.from_numpy(x), sigmas)
    halves = np.array_split(np.random.default_rng(0).permutation(num_images), 2)
    for known, tried in (halves, halves[::-1]):
        fitted = LedoitWolf().fit(x[known])
        for level, sigma in enumerate(sigmas):
            gain = fitted.covariance_ @ np.linalg.inv(fitted.covariance_ + sigma**2 * np.eye(24))
            left = (x[tried] - fitted.location_) @ (np.eye(24) - gain).T
            error = (left**2).sum(1) + sigma**2 * np.trace(gain @ gain.T)
            np.testing.assert_allclose(found[level, tried], error, rtol=1e-8)
    variance = x.var(0, ddof=1).mean()
    bound = scalar_bound(x.mean(0), (x**2).sum(1).mean(), num_images, sigmas)
    np.testing.assert_allclose(bound, 24 * variance * sigmas**2 / (variance + sigmas**2))


@pytest.mark.parametrize("num_images", [2, 3, 6])
def test_few_images_resolve_little_and_refuse_nothing(num_images):
    for seed in range(20):
        x0, labels = draw(wrapped.MIXTURE, num_images, seed)
        curve = curve_of(wrapped.EXACT, x0, labels, sigmas=np.geomspace(0.03, 30, 9), seed=seed)
        assert curve.trust.ok, failed(curve)


def test_one_class_of_an_uneven_prior_is_no_miscalibration():
    """All 40 images may be of the class of weight 0.97: their scatter is 0, and that says nothing."""
    means = 0.5 * np.array([[1.0, 0.0], [-1.0, 0.0]])
    mixture = gs.GaussianMixture.isotropic(means, 0.1, [0.97, 0.03])
    x0, labels = draw(mixture, 400, 1)
    of_one = labels == 0
    curve = curve_of(mb.mixture_denoiser(mixture), x0[of_one][:40], labels[of_one][:40])
    assert curve.trust.ok, failed(curve)
    wrong = curve_of(mb.mixture_denoiser(mixture), x0[of_one][:40], 1 - labels[of_one][:40])
    assert any(LABELS in name for name in failed(wrong))


def test_few_images_have_no_wiener_filter_and_equal_ones_no_bound():
    assert wiener_errors(torch.zeros(63, 4), LEVELS) is None
    assert wiener_errors(torch.zeros(64, 5000), LEVELS) is None
    assert np.all(wiener_errors(torch.ones(64, 4), LEVELS) == 0)
    np.testing.assert_array_equal(scalar_bound(np.ones(4), 4.0, 64, LEVELS), 0)


@pytest.mark.parametrize("num_images", [64, 400])
def test_no_exact_model_errs_by_more_than_the_bounds(num_images):
    """Of an isotropic Gaussian the scalar bound is the error itself: the hardest case."""
    mixture = gs.GaussianMixture.isotropic(np.zeros((2, 16)), 0.2)
    x0, labels = draw(mixture, num_images, 5)
    curve = curve_of(mb.mixture_denoiser(mixture), x0, labels)
    ratios = [check for check in curve.trust.checks if ERROR in check.name]
    assert len(ratios) == 2
    for check in ratios:
        assert check.measured - check.half_width < 1.02
        assert check.verdict != "no"


@pytest.mark.parametrize("dof", [4, 15])
def test_a_model_at_the_end_of_the_range_is_seldom_refused(dof):
    """Means of Gaussian samples at the very end: at most 1 % "no" for all levels together."""
    rng = np.random.default_rng(2)
    verdicts = []
    for _ in range(4000):
        estimate = Estimate.from_samples(rng.normal(size=(dof + 1, 20)))
        claim = Check.of("", "", "", estimate, np.ones(20), low=-9.0, high=0.0)
        verdicts.append(claim.verdict)
    assert verdicts.count("no") < 0.01 * 4000 + 3 * 40**0.5
    assert verdicts.count("yes") < 20


@pytest.mark.parametrize(
    ("value", "stderr", "verdict", "level"),
    [
        ([0.5, 0.9], [0.01, 0.01], "yes", 1),
        ([0.5, 1.0], [0.01, 0.3], "open", 1),
        ([2.0, 1.5], [0.5, 0.01], "no", 1),
        ([-3.0, 0.5], [0.01, 0.01], "no", 0),
        ([0.5, np.nan], [0.1, np.nan], "no", 1),
    ],
)
def test_verdicts(value, stderr, verdict, level):
    estimate = Estimate(np.array(value), np.array(stderr), 30.0)
    claim = Check.of("a", "0 to 1", "mend it", estimate, np.array([2.0, 3.0]), 0.0, 1.0)
    assert (claim.verdict, claim.sigma) == (verdict, [2.0, 3.0][level])


# The curve itself

GRID = np.linspace(6, -6, 13)
NOTHING = Evidence(np.exp(-GRID / 2), {})


def made(entropy, rate=None):
    rate = np.exp(-(GRID**2)) if rate is None else rate
    noise = 1e-3 * np.random.default_rng(0).normal(size=(8, len(GRID)))
    batches = Batches(entropy + noise, rate + noise)
    values = (Estimate.from_samples(part) for part in (batches.entropy, batches.rate))
    return EntropyCurve(GRID, *values, np.log(2), "made", batches)


def smooth(shift=0.0):
    return np.log(2) / (1 + np.exp(GRID - shift))


@pytest.mark.parametrize(
    ("curve", "name", "verdict", "log_snr"),
    [
        (made(smooth()), "peak", "yes", 0),
        (made(smooth(), np.exp(GRID)), "peak", "no", 6),
        (made(smooth(), np.exp(-GRID)), "peak", "no", -6),
        (made(smooth()), "window", "yes", None),
        (made(np.where(GRID > 0.5, 0.0, np.log(2))), "window", "open", None),
        (made(smooth(-6.0)), "window", "open", None),
        (made(np.full(13, np.log(2))), GAINED, "no", 6),
        (made(np.where(GRID == 3, -0.2, smooth())), "H(C|X)", "no", 3),
        (made(np.where(GRID == -3, 0.9, smooth())), "H(C|X)", "no", -3),
    ],
)
def test_faults_of_a_curve_are_named_with_their_level(curve, name, verdict, log_snr):
    checks = trusted(curve, NOTHING).trust.checks
    (check,) = [check for check in checks if name in check.name]
    assert check.verdict == verdict
    if log_snr is not None:
        assert check.sigma == pytest.approx(np.exp(-log_snr / 2))


def test_negative_cross_entropy_and_undecided_paths_are_named_with_their_level():
    flat = np.full(13, 0.3)
    cross = Estimate(np.where(GRID == 4, -0.5, flat), 0.01 * flat, 15.0)
    undecided = Estimate(np.array([0.6]), np.array([0.01]), 15.0)
    found = replace(NOTHING, cross_entropy=cross, undecided=undecided, num_images=64)
    checks = {check.name[:12]: check for check in trusted(made(smooth()), found).trust.checks}
    assert checks["extrapolated"].verdict == "no"
    assert checks["extrapolated"].sigma == pytest.approx(np.exp(-2))
    # Classes may overlap: that is no fault of a model.
    assert checks["paths whose "].verdict == "open"
    assert checks["paths whose "].measured == 0.6


# Outputs that are not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("max_batch", [7, 1024])
def test_a_network_that_is_not_finite_is_an_error_at_once(bad, foreign, max_batch):
    images = torch.arange(20.0)[:, None, None, None].expand(20, 1, 8, 8) / 20

    def raw(x, sigma, label):
        output = torch.zeros_like(x)
        if not isinstance(label, torch.Tensor):
            return output
        # Class 4 of the image that is 13 / 20 fails at the lowest level.
        hit = (label == 4) & ((x.mean((1, 2, 3)) - 13 / 20).abs() < 0.02) & (sigma < 1.001 * LOW)
        output[hit, 0, 3, 3] = bad
        return output

    denoiser = wrap(raw, plain, dtype=torch.float64)
    if foreign:  # what satisfies the protocol without our class around it
        denoiser = CountingDenoiser(denoiser)
        denoiser.denoiser = type("Bare", (type(denoiser),), {})(denoiser.denoiser)
    with pytest.raises(NotFiniteError, match=r"sigma = 0\.02 for class 4, image 13, in float64"):
        mb.entropy_curve(denoiser, images, sigmas=[LOW, 1.0, HIGH], max_batch=max_batch)


def test_samples_of_a_broken_network_are_its_fault_and_not_the_datas(tmp_path, capsys, monkeypatch):
    import sys

    def broken():
        return wrap(lambda x, s, label: torch.full_like(x, torch.nan))

    monkeypatch.setitem(sys.modules, "broken_network", type("M", (), {"broken": broken}))
    assert main(["entropy", "broken_network:broken", "--generate", "32"]) == 2
    error = capsys.readouterr().err
    assert "network's output must be finite" in error
    assert "sigma = 80 for class 0, image 0, in float32" in error
    half = wrap(lambda x, s, label: 1e5 * x, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"in float16\. .*65504"):
        half(torch.ones(2, 1, 8, 8), 1.0, UNCONDITIONAL)


# What a user sees


def wrong_digits():
    return WRONG["sign"]()


@pytest.fixture
def stored(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "test_trust", sys.modules[__name__])
    images, labels = data()
    path = tmp_path / "digits.npz"
    np.savez(path, states=images.numpy(), labels=labels.numpy())
    return path


def test_a_curve_that_fails_warns_with_number_and_remedy():
    with pytest.warns(TrustWarning, match=r"scalar linear bound.* ± .* at σ = .*parametrisation"):
        mb.entropy_curve(WRONG["sign"](), data()[0], sigmas=LEVELS)


def test_windows_that_mean_nothing_exit_with_3(stored, capsys):
    words = ["windows", "test_trust:wrong_digits", "--data", str(stored), "--levels", "9"]
    assert main(words) == 3
    shown = capsys.readouterr()
    record = json.loads(shown.out)
    assert "cannot be trusted" in record["windows"]["class"]["reason"]
    assert "sigma_low" not in record["windows"]["class"]
    assert not record["trust"]["class"]["ok"]
    assert "the window of class means nothing" in shown.err
    assert main([*words, "--force"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["windows"]["class"]["sigma_low"] > 0
    assert not record["trust"]["class"]["ok"]


def test_the_block_is_printed_and_in_record_and_report(stored, tmp_path, capsys):
    words = ["--data", str(stored), "--levels", "9", "--estimators", "tracking,gap"]
    out = tmp_path / "out"
    assert main(["entropy", "test_trust:wrong_digits", *words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "can it be trusted?" in printed
    assert "NO" in printed
    content = json.loads((out / "result.json").read_text())
    assert set(content["trust"]) == {"class, tracking", "class, gap"}
    block = content["trust"]["class, tracking"]
    assert block["ok"] is False
    keys = {"name", "expected", "measured", "half_width", "verdict", "remedy", "sigma"}
    assert all(keys <= set(check) for check in block["checks"])
    assert "Can the curves be trusted?" in (out / "report.md").read_text()
    assert load_curve(out, "class: tracking").trust is None


@pytest.mark.parametrize("num_levels", [3, 5, 8])
@pytest.mark.parametrize("estimator", ["tracking", "gap"])
def test_coarse_levels_are_not_held_against_a_right_model(num_levels, estimator):
    """With many images every error of the step is resolved; the ranges are widened by it."""
    mixture = ten_classes("isotropic")
    x0, labels = draw(mixture, 1500, 2)
    levels = np.geomspace(0.05, 40, num_levels)
    denoiser = mb.mixture_denoiser(mixture)
    curve = curve_of(denoiser, x0, labels, sigmas=levels, estimator=estimator)
    assert curve.trust.ok, failed(curve)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["isotropic", "full"])
@pytest.mark.parametrize("estimator", ["tracking", "gap", "gap-sampled", "tracking-ratio"])
def test_false_alarms_of_right_models(kind, estimator):
    """50 seeds of data and noise: at most 1 in 50 refused, where each claim allows 1 in 100."""
    mixture = ten_classes(kind)
    denoiser = mb.mixture_denoiser(mixture)
    alarms = 0
    for seed in range(50):
        x0, labels = draw(mixture, 96, seed)
        curve = curve_of(denoiser, x0, labels, estimator=estimator, seed=seed)
        alarms += not curve.trust.ok
    assert alarms <= 1
