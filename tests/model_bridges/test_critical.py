"""Critical times of a model whose distribution is known: two Gaussians, their entropy by quadrature."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.studied import study_denoiser

MEAN, VARIANCE, DIM = 2.0, 0.25, 3
SIGMAS = np.geomspace(0.05, 40, 48)


def entropy(log_snr):
    """H(C|X) of `+-MEAN` on one axis at `x_0 + sigma eps`."""
    scale = np.sqrt(VARIANCE + np.exp(-log_snr))

    def integrand(x):
        log_odds = 2 * MEAN * x / scale**2
        h = np.logaddexp(0, -log_odds) + log_odds * np.exp(-np.logaddexp(0, log_odds))
        return norm.pdf(x, MEAN, scale) * h

    return quad(integrand, MEAN - 12 * scale, MEAN + 12 * scale, limit=400)[0]


def rate(log_snr, step=1e-2):
    return -(entropy(log_snr + step) - entropy(log_snr - step)) / (2 * step)


@pytest.fixture(scope="module")
def model():
    means = np.zeros((2, DIM))
    means[:, 0] = (MEAN, -MEAN)
    mixture = gs.GaussianMixture.isotropic(means, VARIANCE)
    return mb.mixture_denoiser(mixture, event_shape=(1, 1, DIM), sigma_range=(0.05, 40.0))


def draws(n, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    x = np.sqrt(VARIANCE) * rng.standard_normal((n, DIM))
    x[:, 0] += np.where(labels == 0, MEAN, -MEAN)
    return x.reshape(n, 1, 1, DIM), labels


def test_points_are_those_of_the_distribution(model):
    found = mb.critical_times(model, *draws(600), sigmas=SIGMAS)
    half = brentq(lambda l: entropy(l) - np.log(2) / 2, -6, 4)
    peak = minimize_scalar(lambda l: -rate(l), bounds=(-4, 3), method="bounded").x
    for point, expected in ((found.half_entropy, half), (found.entropic, peak)):
        error = point.log_snr.value - expected
        assert abs(error) < 4 * point.log_snr.stderr + 0.03
    # Covariance MEAN^2 + VARIANCE along the axis, MEAN^2 between the classes; both of 600 draws.
    for point, size in ((found.spectral, MEAN**2 + VARIANCE), (found.between_class, MEAN**2)):
        np.testing.assert_allclose(point.log_snr.value, -np.log(size), atol=0.1)
        assert abs(point.log_snr.value + np.log(size)) < 4 * point.log_snr.stderr
    # A half difference of means has variance VARIANCE / n along itself, and lambda is -2 log of it.
    expected = 2 * np.sqrt(VARIANCE / 600) / MEAN
    assert 0.4 < found.between_class.log_snr.stderr / expected < 2
    assert found.curve.trust.ok
    time = found.half_entropy.on(gs.VarianceExploding())
    np.testing.assert_allclose(time.value, np.exp(-found.half_entropy.log_snr.value / 2), rtol=0.02)
    text = repr(found)
    assert f"half entropy            λ = {found.half_entropy.log_snr}" in text
    assert "by tracking" in text


def test_reasons_where_there_is_no_point(model):
    x, labels = draws(24)
    by_clones = mb.critical_times(model, x, labels, method="clones", sigmas=SIGMAS[::8])
    assert "no rate" in by_clones.entropic.reason
    unlabelled = mb.critical_times(model, x, sigmas=SIGMAS)
    assert "labels" in unlabelled.between_class.reason
    expected = np.linalg.eigvalsh(np.cov(x.reshape(24, DIM).T, bias=True))[-1]
    np.testing.assert_allclose(unlabelled.spectral.log_snr.value, -np.log(expected), atol=1e-6)
    few = mb.critical_times(model, x[:5], labels[:5], sigmas=SIGMAS)
    assert few.half_entropy.log_snr is not None
    assert "at least 4 training states" in few.spectral.reason


def test_a_studied_model_brings_its_data(model, tmp_path):
    x, labels = draws(80)
    np.savez(tmp_path / "data.npz", states=x, labels=labels)
    studied = study_denoiser(model, "pair").with_data(tmp_path / "data.npz", split=True)
    found = mb.critical_times(studied, sigmas=SIGMAS)
    own = studied.states(studied.averaged)
    alone = mb.critical_times(model, own.images, own.labels, sigmas=SIGMAS)
    assert found.half_entropy.log_snr.value == alone.half_entropy.log_snr.value
    # Fitted to the other half.
    np.testing.assert_allclose(
        found.between_class.log_snr.value, alone.between_class.log_snr.value, atol=0.3
    )
    assert found.between_class.log_snr.value != alone.between_class.log_snr.value
    with pytest.raises(ValueError, match="brings its data"):
        mb.critical_times(studied, own.images)


def test_bad_arguments_are_named(model):
    with pytest.raises(ValueError, match=r"method .traking.\. Did you mean .tracking."):
        mb.critical_times(model, *draws(8), method="traking")
    with pytest.raises(ValueError, match="give `x0`"):
        mb.critical_times(model)
    with pytest.raises(ValueError, match="Only a StudiedModel"):
        mb.critical_times(model, *draws(8), partition="parity")
