"""The trust block: wrong wrappers, units, networks and labels are named; right models pass.

Wrong models are made of the shipped digits networks, whose right wrapping is known.
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
from wrong_models import (
    BUDGET,
    ERROR,
    GAINED,
    HIGH,
    LABELS,
    LEVELS,
    LOW,
    NAMED,
    RIGHT,
    WRONG,
    curve_of,
    data,
    failed,
    plain,
    wrap,
)

import model_bridges as mb
from gmm_speciation.cli import main as main_of_theory
from gmm_speciation.reporting.stored import load_curve
from gmm_speciation.reporting.trust import TrustWarning
from model_bridges.cli import main
from model_bridges.denoisers.base import UNCONDITIONAL, NotFiniteError
from model_bridges.denoisers.counted import CountingDenoiser


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
    chosen = mb.study("digits-text")
    found = chosen.states(chosen.averaged.first(32))
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


@pytest.fixture
def stored(tmp_path):
    images, labels = data()
    path = tmp_path / "digits.npz"
    np.savez(path, states=images.numpy(), labels=labels.numpy())
    return path


def test_a_curve_that_fails_warns_with_number_and_remedy():
    with pytest.warns(TrustWarning, match=r"scalar linear bound.* ± .* at σ = .*parametrisation"):
        mb.entropy_curve(WRONG["sign"](), data()[0], sigmas=LEVELS)


def test_windows_that_mean_nothing_exit_with_3(stored, capsys):
    words = ["windows", "wrong_models:wrong_digits", "--data", str(stored), "--levels", "9"]
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
    assert main(["entropy", "wrong_models:wrong_digits", *words, "--out", str(out)]) == 0
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
    back = load_curve(out, "class: tracking")
    assert not back.trust.ok
    assert [check.name for check in back.trust.checks] == [
        check["name"] for check in block["checks"]
    ]
    assert "NOT to be trusted" in repr(back)
    assert not back.part(slice(3)).trust.ok
    assert main_of_theory(["show", str(out)]) == 0
    assert "scalar linear bound" in " ".join(capsys.readouterr().out.split())


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
