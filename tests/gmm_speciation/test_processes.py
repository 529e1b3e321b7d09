"""Forward processes: each is a clock on the log-SNR axis."""

import jax
import numpy as np
import pytest
from theory_contracts import check_process

import gmm_speciation as gs

PROCESSES = {
    "ornstein-uhlenbeck": (gs.OrnsteinUhlenbeck(), np.linspace(0.05, 6, 30)),
    "variance-exploding": (gs.VarianceExploding(), np.geomspace(0.01, 80, 30)),
    # Inside steps: at a step itself the slope of the interpolation jumps.
    "ddpm-linear": (gs.DDPM.linear(), np.linspace(3.4, 990.4, 30)),
    "ddpm-scaled-linear": (gs.DDPM.scaled_linear(), np.linspace(3.4, 990.4, 30)),
    "cosine": (gs.Cosine(), np.linspace(0.02, 0.998, 30)),
    "linear-interpolant": (gs.LinearInterpolant(), np.linspace(0.02, 0.98, 30)),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_contract(name):
    check_process(*PROCESSES[name])


def test_ornstein_uhlenbeck_in_closed_form():
    t = np.array([1e-9, 0.5, 3.0])
    process = gs.OrnsteinUhlenbeck()
    np.testing.assert_allclose(
        process.sigma(t) ** 2, [2e-9, 1 - np.exp(-1), 1 - np.exp(-6)], rtol=1e-8
    )
    np.testing.assert_allclose(process.diffusion_squared(t), 2.0)
    np.testing.assert_allclose(process.drift(t), -1.0)


def test_linear_interpolant_and_exploding_drifts():
    t = np.array([0.25, 0.5])
    np.testing.assert_allclose(gs.LinearInterpolant().drift(t), -1 / (1 - t))
    np.testing.assert_allclose(gs.VarianceExploding().diffusion_squared(t), 2 * t)


def test_stable_diffusion_noise_range():
    """sigma / alpha of the first and last of the 1000 scaled-linear steps."""
    process = gs.DDPM.scaled_linear()
    ratio = process.sigma(np.array([0.0, 999.0])) / process.alpha(np.array([0.0, 999.0]))
    np.testing.assert_allclose(ratio, [0.0291672, 14.614641], rtol=2e-6)


def test_schedules_agree_with_diffusers():
    from diffusers import DDPMScheduler

    for ours, options in [
        (gs.DDPM.linear(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 2e-2}),
        (
            gs.DDPM.scaled_linear(),
            {"beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 1.2e-2},
        ),
    ]:
        theirs = DDPMScheduler(num_train_timesteps=1000, **options).alphas_cumprod.double().numpy()
        np.testing.assert_allclose(ours.alpha(np.arange(1000.0)) ** 2, theirs, rtol=2e-4)


def test_cosine_matches_its_discrete_schedule():
    """1000 clipped betas of the paper, accumulated, are the continuous schedule at the steps."""
    angle = np.cos(np.pi / 2 * (np.linspace(0, 1, 1001) + 0.008) / 1.008) ** 2
    betas = np.minimum(1 - angle[1:] / angle[:-1], 0.999)
    times = np.arange(1, 1001) / 1000
    np.testing.assert_allclose(gs.Cosine().alpha(times) ** 2, np.cumprod(1 - betas), rtol=1e-8)


def test_fractional_steps_interpolate_the_log_snr():
    process = gs.DDPM.linear()
    middle = (process.log_snr(10.0) + process.log_snr(11.0)) / 2
    np.testing.assert_allclose(process.log_snr(10.5), middle)


def test_a_level_out_of_range_is_refused_with_the_range():
    with pytest.raises(ValueError, match=r"must lie in \[-5\.364.*, 7\.069.*\], the range of DDPM"):
        gs.DDPM.scaled_linear().time(20.0)
    assert np.isfinite(jax.jit(lambda level: gs.DDPM.scaled_linear().time(level))(0.0))


@pytest.mark.parametrize("betas", [[0.1], [0.1, 1.0], [0.1, -0.1], [[0.1, 0.2]]])
def test_bad_betas(betas):
    with pytest.raises(ValueError, match=r"DDPM|betas"):
        gs.DDPM.from_betas(betas)
