"""Both sides of a comparison have the class weights of the model, whatever the shares of training data."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import refused
from scipy.special import logsumexp, rel_entr

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.reporting.trust import TrustWarning
from model_bridges.cli import main
from model_bridges.control.removal import remove_class
from model_bridges.crosscheck import study
from model_bridges.crosscheck.noisy_classifier import train_noisy_classifier
from model_bridges.crosscheck.study import Settings, crosscheck, crosscheck_model
from model_bridges.crosscheck.theory import fit_of
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.weighted import Weighted
from model_bridges.entropy.evidence import posterior_divergence
from model_bridges.images.labelled import LabelledImages
from model_bridges.images.sets import ImageSet, Parts
from model_bridges.quality import FeatureClassifier

MEANS = np.array([[2.0, 0, 0, 0], [-2, 0, 0, 0], [0, 2, 0, 0]])
VARIANCE, SKEWED = 0.3, np.array([560, 160, 80])
WEIGHTS = [(1 / 3, 1 / 3, 1 / 3), (0.2, 0.3, 0.5)]


def draws(counts, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(3), counts))
    return MEANS[labels] + np.sqrt(VARIANCE) * rng.normal(size=(len(labels), 4)), labels


def studied(weights):
    """Averages over images of these weights; what is fitted has other shares."""
    mixture = gs.GaussianMixture.isotropic(MEANS, VARIANCE, weights)
    model = mb.study_denoiser(mb.mixture_denoiser(mixture, event_shape=(1, 2, 2)), "a mixture")
    averaged, train = (
        ImageSet.of(
            torch.from_numpy(x).reshape(-1, 1, 2, 2), torch.from_numpy(y), "states", f"part {seed}"
        )
        for seed, (x, y) in enumerate(
            (draws(np.rint(300 * np.array(weights)).astype(int), 0), draws(SKEWED, 1))
        )
    )
    return replace(model, data=Parts(averaged, train))


def log_posterior(x, sigma, weights):
    square = ((x[:, None] - MEANS) ** 2).sum(-1) / (VARIANCE + sigma**2)
    joint = np.log(weights) - square / 2
    return joint - logsumexp(joint, 1, keepdims=True)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_fitted_mixture_has_the_weights_of_the_model(weights):
    model = studied(weights)
    fit = fit_of(model)
    np.testing.assert_allclose(fit.mixture.weights, weights, rtol=1e-12)
    for one in fit.refits():
        np.testing.assert_allclose(one.weights, weights, rtol=1e-12)
    # The spectral point of the class means, lambda = -log(eigenvalue).
    w, means = np.array(weights), np.asarray(fit.mixture.means)
    apart = means - w @ means
    place = -np.log(np.linalg.eigvalsh(apart.T @ (w[:, None] * apart))[-1])
    found = mb.critical_times(model, sigmas=np.geomspace(0.05, 50, 16)).between_class.log_snr
    assert float(found.value) == pytest.approx(place, abs=1e-5)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_theory_model_and_bounds_are_of_one_problem(weights, monkeypatch):
    """The exact model: the half entropies of its theory and its own meet, and no bound lies below it."""
    monkeypatch.setattr(study, "CLASSIFIER_STEPS", 500)  # of four dimensions
    result = crosscheck_model(studied(weights), partitions={}, settings=Settings(num_levels=24))
    main = result.main
    prior = -np.sum(np.array(weights) * np.log(weights))
    assert main.tracked.prior_entropy == pytest.approx(prior, rel=1e-6)
    assert main.theory.prior_entropy == pytest.approx(prior, rel=1e-6)
    error = np.hypot(main.tracked.entropy.stderr, main.theory.entropy.stderr)
    apart = np.abs(main.tracked.entropy.value - np.asarray(main.theory.entropy.value))
    assert np.all(apart < 4 * error + 0.02)
    for name, bound in main.bounds.items():
        excess = np.asarray(bound.value) - main.tracked.entropy.value
        assert excess.min() > -0.05, name
        assert excess.max() < 0.15, name


def test_a_mixture_of_other_weights_is_compared_under_those_of_the_model():
    weights = WEIGHTS[1]
    x, labels = draws([40, 60, 100], 2)
    data = LabelledImages(torch.from_numpy(x), torch.from_numpy(labels), "draws")
    model = mb.mixture_denoiser(gs.GaussianMixture.isotropic(MEANS, VARIANCE, weights))
    results = [
        crosscheck(
            model,
            data,
            gs.GaussianMixture.isotropic(MEANS, VARIANCE, w),
            partitions={},
            num_samples=512,
        )
        for w in (weights, None)
    ]
    one, other = (result.main.theory.entropy.value for result in results)
    np.testing.assert_allclose(other, one, rtol=1e-10)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_classifier_of_noisy_images_knows_the_weights_and_not_the_shares(weights):
    x, labels = draws(5 * SKEWED, 3)
    classifier = train_noisy_classifier(
        torch.from_numpy(x).float(),
        torch.from_numpy(labels),
        (0.05, 20.0),
        prior=np.array(weights),
        sigma_data=1.5,
        num_steps=400,
    )
    noise = np.random.default_rng(4).normal(size=(300, 4))
    for sigma in (0.3, 1.0, 3.0, 15.0):
        clean, _ = draws(np.rint(300 * np.array(weights)).astype(int), 5)
        noisy = clean + sigma * noise
        exact = np.exp(log_posterior(noisy, sigma, np.array(weights)))
        found = classifier(torch.from_numpy(noisy).float(), torch.full((300,), sigma)).exp().numpy()
        assert np.abs(found - exact).mean() < 0.06, sigma


def unweighted():
    """The mixture's network, which says nothing of its weights: what `module:function` gives."""
    mixture = gs.GaussianMixture.isotropic(MEANS, VARIANCE)
    return replace(mb.mixture_denoiser(mixture, event_shape=(1, 2, 2)), class_prior=None)


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`windows` on 600 images of shares 0.6, 0.3 and 0.1."""
    monkeypatch.setitem(sys.modules, "test_class_weights", sys.modules[__name__])
    x, labels = draws([360, 180, 60], 6)
    np.savez(tmp_path / "some.npz", states=x.reshape(-1, 1, 2, 2), labels=labels)
    data = ["--data", str(tmp_path / "some.npz"), "--levels", "32"]
    return ["windows", "test_class_weights:unweighted", *data]


@pytest.mark.parametrize("text", ["data", "0.6,0.3,0.1"])
def test_a_command_takes_the_weights_of_the_classes(text, command, tmp_path, capsys):
    assert main(command) == 3  # the curve of equal weights is none of these images
    assert "divergence of the labels' shares" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "windows.json")]
    main([*command, "--class-prior", text, *out])
    assert "divergence of the labels' shares" not in capsys.readouterr().err
    window = json.loads((tmp_path / "windows.json").read_text())["windows"]["class"]
    # Half of the entropy of these weights, from the exact posterior of other draws.
    weights = np.array([0.6, 0.3, 0.1])
    clean, labels = draws([6000, 3000, 1000], 7)
    noise = np.random.default_rng(8).normal(size=clean.shape)
    levels = np.geomspace(0.3, 6, 60)
    losses = [
        -log_posterior(clean + sigma * noise, sigma, weights)[np.arange(len(labels)), labels].mean()
        for sigma in levels
    ]
    half = -np.sum(weights * np.log(weights)) / 2
    expected = np.exp(np.interp(half, losses, np.log(levels)))
    assert window["sigma_half_entropy"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.6,0.4", "`prior` must be 3 non-negative weights that sum to 1"),
        ("0.6,0.6,-0.2", "`prior` must be 3 non-negative weights"),
        ("equal", "one weight a class, such as 0.2,0.3,0.5, or `data`; got 'equal'"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(text, message, command, capsys):
    refused(main, [*command, "--class-prior", text], message, capsys)


def test_shares_of_data_need_data(command, capsys):
    words = [*command[:2], "--generate", "64", "--class-prior", "data"]
    refused(main, words, "the shares of labelled data", capsys)


@pytest.mark.parametrize("run", [False, True])
@pytest.mark.parametrize("partition", [None, [0, 1, 1]])
@pytest.mark.parametrize("weights", [(0.7, 0.15, 0.15), (0.6, 0.3, 0.1)])
def test_images_without_labels_of_other_shares_make_no_curve(weights, partition, run, tmp_path):
    """The mean posterior without noise is not the prior; with the right one it is."""
    x, _ = draws(np.rint(300 * np.array(weights)).astype(int), 9)
    images = torch.from_numpy(x).reshape(-1, 1, 2, 2)
    options = {"partition": partition, "sigmas": np.geomspace(0.05, 50, 16)}
    with pytest.warns(TrustWarning, match="divergence of the mean posterior"):
        wrong = mb.entropy_curve(
            unweighted(), images, run=tmp_path / "wrong" if run else None, **options
        )
    assert not wrong.trust.ok
    right = mb.entropy_curve(
        unweighted(),
        images,
        prior=np.array(weights),
        run=tmp_path / "right" if run else None,
        **options,
    )
    assert not [one for one in right.trust.failed if "divergence" in one.name]


@pytest.mark.parametrize(("concentration", "num"), [(3.0, 64), (3.0, 1000), (300.0, 1000)])
def test_chance_moves_soft_posteriors_less(concentration, num):
    """Posteriors over forty classes, whose mean is known: the divergence is that of the mean."""
    rng = np.random.default_rng(10)
    prior, shares = np.full(40, 1 / 40), np.repeat([1.4, 0.6], 20) / 40
    z = []
    for _ in range(40):
        posterior = rng.dirichlet(concentration * shares, num)
        found = posterior_divergence(posterior, prior)
        z.append(float(found.value[0] - rel_entr(shares, prior).sum()) / float(found.stderr[0]))
    assert abs(np.mean(z)) < 1.5
    assert np.max(np.abs(z)) < 5


@pytest.mark.parametrize("drawn", [(0.2, 0.7, 0.1), (1 / 3, 1 / 3, 1 / 3)])
def test_balance_is_from_the_weights_of_the_model(drawn):
    """Exact draws of weights that are not the data's are balanced, draws of the data's are not."""
    weights = (0.2, 0.7, 0.1)
    model = studied(WEIGHTS[0])
    model = replace(
        model,
        denoiser=CountingDenoiser(Weighted(model.denoiser.denoiser, weights)),
        train_judge=lambda train: FeatureClassifier.train(
            train.images, train.labels, hidden=(24, 6)
        ),
    )
    x, _ = draws(np.rint(600 * np.array(drawn)).astype(int), 11)
    found = model.assess(torch.from_numpy(x).float().reshape(-1, 1, 2, 2))
    expected = rel_entr(drawn, weights).sum()
    assert float(found.balance.value) == pytest.approx(expected, abs=0.05)


def test_a_class_of_no_weight_is_not_removed():
    model = studied(WEIGHTS[0])
    weighted = Weighted(model.denoiser.denoiser, (0.5, 0.5, 0.0))
    with pytest.raises(ValueError, match="Class 2 has weight 0"):
        remove_class(replace(model, denoiser=CountingDenoiser(weighted)), 2)
