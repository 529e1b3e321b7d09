"""Forward processes: each is a clock on the log-SNR axis."""

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath as mp
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


def test_a_level_out_of_range_is_refused_with_the_range():
    with pytest.raises(ValueError, match=r"must lie in \[-5\.364.*, 7\.069.*\], the range of DDPM"):
        gs.DDPM.scaled_linear().time(20.0)
    assert np.isfinite(jax.jit(lambda level: gs.DDPM.scaled_linear().time(level))(0.0))


@pytest.mark.parametrize("betas", [[0.1], [0.1, 1.0], [0.1, -0.1], [[0.1, 0.2]]])
def test_bad_betas(betas):
    with pytest.raises(ValueError, match=r"DDPM|betas"):
        gs.DDPM.from_betas(betas)


def _stepwise(betas):
    """Log-SNR of accumulated betas at a step, linear in between, and its inverse."""
    levels, product = [], mp.mpf(1)
    with mp.workdps(60):
        for beta in betas:
            product = product * (1 - mp.mpf(float(beta)))
            levels.append(mp.log(product) - mp.log(1 - product))

    def level(t):
        k = min(int(t), len(levels) - 2)
        return levels[k] + (t - k) * (levels[k + 1] - levels[k])

    def time(log_snr):
        k = next(
            k for k in range(len(levels) - 1) if log_snr >= levels[k + 1] or k == len(levels) - 2
        )
        return k + (log_snr - levels[k]) / (levels[k + 1] - levels[k])

    return lambda t: 1 / (1 + mp.exp(-level(t))), None, time


def _cosine_alpha_squared(t):
    knee, start = mp.mpf("0.999"), mp.mpf("0.008")

    def cosine(t):
        return mp.cos(mp.pi / 2 * (t + start) / (1 + start)) / mp.cos(
            mp.pi / 2 * start / (1 + start)
        )

    if t <= knee:
        return cosine(t) ** 2
    return cosine(knee) ** 2 * mp.mpf("0.001") ** ((t - knee) / (1 - knee))


def _cosine_time(log_snr):
    knee, start = mp.mpf("0.999"), mp.mpf("0.008")
    alpha_squared = 1 / (1 + mp.exp(-log_snr))
    at_knee = _cosine_alpha_squared(knee)
    if alpha_squared < at_knee:
        return knee + (1 - knee) * mp.log(alpha_squared / at_knee) / mp.log(mp.mpf("0.001"))
    angle = mp.acos(mp.cos(mp.pi / 2 * start / (1 + start)) * mp.sqrt(alpha_squared))
    return angle * 2 / mp.pi * (1 + start) - start


# alpha^2 of t, sigma^2 of t (1 - alpha^2 where None) and t of lambda, in many digits.
REFERENCES = {
    "ornstein-uhlenbeck": (
        lambda t: mp.exp(-2 * t),
        None,
        lambda log_snr: mp.log(1 + mp.exp(-log_snr)) / 2,
    ),
    "variance-exploding": (
        lambda t: mp.mpf(1),
        lambda t: t**2,
        lambda log_snr: mp.exp(-log_snr / 2),
    ),
    "linear-interpolant": (
        lambda t: (1 - t) ** 2,
        lambda t: t**2,
        lambda log_snr: 1 / (1 + mp.exp(log_snr / 2)),
    ),
    "cosine": (_cosine_alpha_squared, None, _cosine_time),
    "ddpm-linear": _stepwise(np.linspace(1e-4, 2e-2, 1000)),
    "ddpm-scaled-linear": _stepwise(np.linspace(8.5e-4**0.5, 1.2e-2**0.5, 1000) ** 2),
}
# Log-SNR between which a float64 time, and a float32 one, are normal numbers apart from the ends.
DOMAINS = {
    "ornstein-uhlenbeck": {"float64": (-1e6, 706.0), "float32": (-1e6, 86.0)},
    "variance-exploding": {"float64": (-1400.0, 1400.0), "float32": (-170.0, 170.0)},
    "linear-interpolant": {"float64": (-70.0, 1400.0), "float32": (-30.0, 170.0)},
    "cosine": {"float64": (-19.8358821516, 704.0), "float32": (-19.8358, 83.0)},
    "ddpm-linear": {"float64": (-10.1176731833, 9.2102403669), "float32": (-10.1176, 9.2102)},
    "ddpm-scaled-linear": {"float64": (-5.364047, 7.069296), "float32": (-5.364, 7.0692)},
}


def _levels(name, precision):
    low, high = DOMAINS[name][precision]
    spread = np.array([36.8, 30.0, 100.0, 18.0, -18.0, -12.9, -30.0, -60.0, 0.0, 1e-9, -3.0])
    inside = spread[(spread > low) & (spread < high)]
    random = np.random.default_rng(0).uniform(max(low, -75), min(high, 75), 12)
    steps = np.linspace(low, high, 9)
    return np.concatenate([inside, random, steps]).astype(precision)


def _log_snr(name, t):
    alpha_squared, variance, _ = REFERENCES[name]
    signal = alpha_squared(t)
    return mp.log(signal) - mp.log(variance(t) if variance else 1 - signal)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", REFERENCES)
def test_the_clock_runs_there_and_back_over_all_that_a_float_can_hold(name, precision):
    """Against many digits: lambda of t of lambda is lambda to 1e-9 and the spacing of floats at t."""
    process, unit = PROCESSES[name][0], np.finfo(precision).eps
    with jax.enable_x64(precision == "float64"), mp.workdps(700):
        levels = _levels(name, precision)
        times = np.asarray(process.time(levels))
        assert times.dtype == precision
        back = np.asarray(process.log_snr(times), float)
        for level, time, returned in zip(levels, times, back, strict=True):
            exact = REFERENCES[name][2](mp.mpf(float(level)))
            moved = float(
                abs(_log_snr(name, exact) - _log_snr(name, exact * (1 + mp.mpf("1e-300"))))
            )
            # A level rounded by one unit, or a time by one, must not count.
            held = float(np.spacing(time)) / float(exact) * moved * 1e300
            allowed = max(1e-9, 40 * unit) * max(1.0, abs(level)) + 2 * held
            assert abs(returned - level) <= allowed, (level, returned, allowed)
            at_time = _log_snr(name, mp.mpf(float(time)))
            assert abs(at_time - returned) <= 16 * unit * max(1.0, abs(level)) + 2 * held


@pytest.mark.parametrize("name", REFERENCES)
def test_scales_and_rates_at_many_digits(name):
    """alpha, sigma, f, g^2 and d lambda / dt, derivatives taken in many digits."""
    process = PROCESSES[name][0]
    alpha_squared, variance, _ = REFERENCES[name]
    variance = variance or (lambda t: 1 - alpha_squared(t))
    levels = _levels(name, "float64")
    times = np.asarray(process.time(levels[(levels < 300) & (levels > -300)]))
    times = times[(times != np.round(times)) & (times > 0)]
    with mp.workdps(400):
        for time in times:
            t, step = mp.mpf(float(time)), mp.mpf(float(time)) * mp.mpf(10) ** -150

            def slope(function, t=t, step=step):
                return (function(t + step) - function(t - step)) / (2 * step)

            drift = slope(lambda t: mp.log(alpha_squared(t))) / 2
            level_slope = slope(lambda t: _log_snr(name, t))
            expected = {
                "alpha": mp.sqrt(alpha_squared(t)),
                "sigma": mp.sqrt(variance(t)),
                "drift": drift,
                "diffusion_squared": -variance(t) * level_slope,
                "log_snr_slope": level_slope,
            }
            for quantity, value in expected.items():
                found = float(getattr(process, quantity)(time))
                assert found == pytest.approx(float(value), rel=1e-9), (quantity, time)


_TURN = np.pi / 2 / 1.008


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        # f, g^2, d lambda / dt: at t -> 0 and at the noisy end, by hand.
        ("ornstein-uhlenbeck", (-1, 2, -np.inf), (-1, 2, -2)),
        ("variance-exploding", (0, 0, -np.inf), (0, np.inf, 0)),
        ("linear-interpolant", (-1, 0, -np.inf), (-np.inf, np.inf, -np.inf)),
        (
            "cosine",
            (-_TURN * np.tan(0.008 * _TURN), 2 * _TURN * np.tan(0.008 * _TURN), -np.inf),
            (-500 * np.log(1000), 1000 * np.log(1000), -1000 * np.log(1000)),
        ),
        ("ddpm-linear", None, None),
        ("ddpm-scaled-linear", None, None),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_rates_at_the_ends_are_their_limits(name, first, last, compiled):
    process = PROCESSES[name][0]
    names = ("drift", "diffusion_squared", "log_snr_slope")
    for end, expected in zip(process.time_range, (first, last), strict=True):
        call = eqx.filter_jit if compiled else (lambda function: function)
        found = [float(call(getattr(process, name))(jnp.asarray(end))) for name in names]
        if expected is None:  # inside the first and the last step nothing changes but sigma
            near = end + (1e-9 if end == 0 else -1e-9)
            expected = [float(getattr(process, name)(near)) for name in names]
        np.testing.assert_allclose(found, expected, rtol=3e-6)
        # Each is the limit of its values inside.
        near = 1e9 if np.isinf(end) else end + (1e-9 if end == 0 else -1e-9) * max(1.0, end)
        inside = np.array([float(getattr(process, name)(near)) for name in names])
        finite = np.isfinite(expected)
        np.testing.assert_allclose(
            inside[finite], np.asarray(expected)[finite], rtol=2e-6, atol=1e-8
        )
        assert np.all(np.abs(inside[~finite]) > 1e8)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_whole_range_is_held_with_its_ends_and_nothing_beyond(name, precision):
    process = PROCESSES[name][0]
    first, last = process.time_range
    ends = np.array([first, last])
    np.testing.assert_array_equal(process.time(process.log_snr(ends)), ends)
    for method in ("alpha", "sigma", "log_snr", "drift", "diffusion_squared", "log_snr_slope"):
        function = getattr(process, method)
        assert not np.isnan(function(ends)).any()
        beyond = [-5.0, -1e-6] if np.isinf(last) else [-5.0, -1e-6, last * 1.001, 2.5e3]
        for t in beyond:
            with pytest.raises(ValueError, match=r"`t` must lie in \[0, .*got .*`time` gives"):
                function(np.array([0.5, t]))
            with pytest.raises(RuntimeError, match=rf"the range of {type(process).__name__}"):
                eqx.filter_jit(function)(jnp.array([0.5, t]))
    for function, argument in [(process.sigma, "t"), (process.time, "log_snr")]:
        with pytest.raises(ValueError, match=f"NaN. `{argument}` must not contain NaN"):
            function(np.array([0.5, np.nan]))
        with pytest.raises(RuntimeError, match=f"`{argument}` must not contain NaN"):
            eqx.filter_jit(function)(jnp.array([0.5, np.nan]))


@pytest.mark.parametrize("name", PROCESSES)
def test_clocks_are_safe_under_jit_vmap_and_grad(name, precision):
    process = PROCESSES[name][0]
    levels = jnp.linspace(-4.9, 6.9, 7)
    times = process.time(levels)
    assert times.dtype == levels.dtype
    for call in (jax.jit, jax.vmap, eqx.filter_jit):
        np.testing.assert_allclose(call(process.time)(levels), times, rtol=10 * precision)
        np.testing.assert_allclose(call(process.log_snr)(times), levels, rtol=100 * precision)
    inverse = jax.vmap(jax.grad(process.time))(levels)
    np.testing.assert_allclose(inverse * process.log_snr_slope(times), 1.0, rtol=100 * precision)
    slope = jax.vmap(jax.grad(process.log_snr))(times)
    np.testing.assert_allclose(slope, process.log_snr_slope(times), rtol=100 * precision)


def test_small_betas_keep_their_digits():
    """sigma^2 is the sum of betas that are far below rounding against 1."""
    process = gs.DDPM.from_betas([1e-18, 3e-18])
    np.testing.assert_allclose(process.sigma([0.0, 1.0]) ** 2, [1e-18, 4e-18], rtol=1e-12)
    with pytest.raises(ValueError, match="Got NaN"):
        gs.DDPM.from_betas([0.1, np.nan])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gs.DDPM.from_alphas_cumprod([0.1, 0.5]), "decrease .* got 0.1 to 0.5"),
        (lambda: gs.DDPM.from_betas([0.1, 1.5]), r"inside \(0, 1\)\. Got \[0.1, 1.5\]"),
        (lambda: gs.hopfield.energy(np.eye(2), np.ones(2), -2.0), r"positive .*Got -2.0\."),
        (lambda: gs.GaussianMixture.isotropic(np.eye(2), [1, -0.5]), r"Got \[1.0, -0.5\]"),
        (lambda: gs.GaussianMixture.diagonal(np.eye(9), np.arange(9) - 2), r"\(9,\), from -2 to 6"),
        (lambda: gs.exact.binary_entropy(-3.0), r"`kappa` must not be negative\. Got -3.0\."),
    ],
)
def test_errors_say_which_values_came(call, says):
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "from_alphas_cumprod" not in str(error.value)
