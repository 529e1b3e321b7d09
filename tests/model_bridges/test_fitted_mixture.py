"""The covariance of the theory's mixture is the one that noised data left out prefer."""

import numpy as np
import pytest
import torch

from gmm_speciation.entropy import entropy_curve
from gmm_speciation.fitting import fit
from gmm_speciation.partitions import Partition
from gmm_speciation.speciation import SpeciationPoint
from model_bridges.crosscheck.criteria import errors_of_fit, mixture_points
from model_bridges.crosscheck.theory import fitted_mixture, mixture_log_posterior
from model_bridges.images.labelled import LabelledImages

RANGE = (0.02, 80.0)


def of(x, labels):
    return LabelledImages(torch.from_numpy(x), torch.from_numpy(labels), "draws")


def equal(classes):
    return np.full(classes, 1 / classes)


def drawn(kind, num=400, dim=12, classes=3, seed=0):
    """Draws whose covariances are of a known kind."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % classes
    means = 2 * rng.normal(size=(classes, dim))
    noise = rng.normal(size=(num, dim))
    if kind == "isotropic":
        x = 0.7 * noise
    elif kind == "diagonal":
        x = noise * np.geomspace(0.05, 3, dim)
    elif kind == "rank 1":
        factors = 3 * rng.normal(size=(classes, dim))
        x = rng.normal(size=(num, 1)) * factors[labels] + 0.3 * noise
    else:
        roots = rng.normal(size=(classes, dim, dim))
        x = np.einsum("nij,nj->ni", roots[labels], noise)
    return means[labels] + x, labels


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "rank 1", "full"])
def test_the_kind_that_made_the_data_is_chosen(kind):
    found = fitted_mixture(of(*drawn(kind)), equal(3), RANGE)
    name = found.covariance if found.rank is None else f"rank {found.rank}"
    assert name == kind, found.scores
    assert max(found.scores, key=found.scores.get) == kind
    assert kind.replace(" ", "-") in str(found)


def test_many_dimensions_and_few_images():
    """d = 16,384 and 50 images a class: a posterior that is right, and not certain where it is wrong."""
    rng = np.random.default_rng(1)
    dim, classes = 16_384, 3
    labels = np.arange(50 * classes) % classes
    means = 0.02 * rng.normal(size=(classes, dim))
    factors = rng.normal(size=(classes, dim)) / np.sqrt(dim)

    def draw(labels):
        along = 30 * rng.normal(size=(len(labels), 1)) * factors[labels]
        return means[labels] + along + 0.3 * rng.normal(size=(len(labels), dim))

    found = fitted_mixture(of(draw(labels), labels), equal(classes), RANGE)
    assert "full" not in found.scores
    assert found.mixture.dim == dim
    test = torch.from_numpy(draw(labels))
    for sigma in (0.02, 0.3, 2.0, 80.0):
        noisy = test + sigma * torch.from_numpy(rng.normal(size=test.shape))
        log_posterior = mixture_log_posterior(found.mixture, noisy, sigma)
        assert np.isfinite(log_posterior).all()
        loss = -log_posterior[np.arange(len(labels)), labels].mean()
        assert loss < np.log(classes) + 0.1, (sigma, loss)


def test_a_bound_behaves_at_small_noise_where_full_covariances_do_not():
    """Twelve images a class in 30 dimensions: the chosen posterior is no worse than the prior."""
    rng = np.random.default_rng(2)
    labels, means = np.arange(48) % 4, 0.8 * rng.normal(size=(4, 30))
    train, test = (means[labels] + rng.normal(size=(48, 30)) for _ in range(2))
    mixtures = {
        "chosen": fitted_mixture(of(train, labels), equal(4), RANGE).mixture,
        "full": fit(train, labels, "full", shrinkage=1e-3),
    }
    losses = {}
    for name, mixture in mixtures.items():
        log_posterior = mixture_log_posterior(mixture, torch.from_numpy(test), 0.02)
        losses[name] = -log_posterior[np.arange(48), labels].mean()
    assert losses["chosen"] < np.log(4) < losses["full"]


def test_too_few_states_are_refused():
    x, labels = drawn("isotropic", 9)
    with pytest.raises(ValueError, match="at least 4 training states of each of 3 classes"):
        fitted_mixture(of(x, labels), equal(3), RANGE)
    with pytest.raises(ValueError, match="has 0 of class 3"):
        fitted_mixture(of(*drawn("isotropic")), equal(4), RANGE)


def test_the_error_of_a_fit_is_the_spread_of_fits_to_other_draws():
    """The jackknife of single fits against the points of fits to draws made anew."""
    partition, log_snr = Partition.trivial(3), np.linspace(6, -6, 17)
    rng = np.random.default_rng(3)
    labels = np.arange(90) % 3
    names = ("spectral between classes", "half entropy", "cloning")
    places, errors = [], []
    for dataset in range(10):
        x = 2 * np.eye(4)[labels] + 0.7 * rng.normal(size=(90, 4))
        found = fitted_mixture(of(x, labels), equal(3), RANGE, "isotropic")
        curve = entropy_curve(found.mixture, log_snr, num_samples=512)
        points = mixture_points(found.mixture, partition, curve, 512, 0)
        places.append([float(points[name].log_snr.value) for name in names])
        if dataset >= 2:
            continue
        points = {f"{name}, theory": point for name, point in points.items()}
        points["spectral, theory"] = SpeciationPoint(None, "not looked for")
        of_fit = errors_of_fit(points, found.refits(), partition, log_snr, 0)
        errors.append([float(of_fit[name].stderr) for name in names])
        assert not np.isfinite(float(of_fit["spectral"].value))
    ratio = np.sqrt(np.mean(np.square(errors), 0)) / np.std(places, 0, ddof=1)
    assert np.all((ratio > 0.45) & (ratio < 2.2)), ratio
