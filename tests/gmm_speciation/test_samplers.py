"""Reverse sampling reproduces the law; forward paths have the right kernels."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import gmm_speciation as gs
from gmm_speciation.guidance import ClassifierFree, Guidance, Unguided

MIXTURE = gs.GaussianMixture.isotropic([[-2.0], [1.0]], 0.1, [0.3, 0.7])


def _cdf(x):
    weights, means = np.asarray(MIXTURE.weights), np.asarray(MIXTURE.means)[:, 0]
    return (weights * stats.norm.cdf((x[:, None] - means) / np.sqrt(0.1))).sum(1)


PROCESSES = {
    "ou": (gs.OrnsteinUhlenbeck(), np.geomspace(5, 1e-4, 200)),
    "edm": (gs.VarianceExploding(), np.geomspace(80, 0.002, 200)),
    "flow": (gs.LinearInterpolant(), np.linspace(0.995, 0.002, 400)),
}


@pytest.mark.parametrize("method", ["sde", "ddim", "ode"])
@pytest.mark.parametrize("name", PROCESSES)
def test_samples_follow_the_mixture(name, method, key):
    process, times = PROCESSES[name]
    final = gs.sample(MIXTURE, process, times, key=key, num_samples=1500, method=method).final
    assert stats.kstest(np.asarray(final[:, 0]), _cdf).pvalue > 1e-3


def test_euler_maruyama_follows_the_mixture(key):
    """The reverse SDE of Biroli et al. 2024 in 1000 equal steps of time from T = 10."""
    times = np.linspace(10.0, 0.0, 1001)
    process = gs.OrnsteinUhlenbeck()
    path = gs.sample(MIXTURE, process, times, key=key, num_samples=1500, method="euler")
    assert stats.kstest(np.asarray(path.final[:, 0]), _cdf).pvalue > 1e-3


def test_heun_is_second_order_and_ddim_first(key):
    """Halving the steps divides the error at fixed noise by about 4 and 2."""
    process = gs.VarianceExploding()
    start = jnp.linspace(-60.0, 60.0, 41)[:, None]

    def final(method, steps):
        times = np.geomspace(40, 0.3, steps + 1)
        return gs.sample(MIXTURE, process, times, key=key, start=start, method=method).final

    truth = final("ode", 4000)
    for method, order in [("ddim", 1), ("ode", 2)]:
        coarse, fine = (float(jnp.abs(final(method, n) - truth).mean()) for n in (100, 200))
        assert abs(np.log2(coarse / fine) - order) < 0.25


def test_forward_paths_have_the_marginals_and_the_increments(key):
    process, times = gs.OrnsteinUhlenbeck(), np.array([2.0, 1.0, 0.3])
    x_0 = jnp.zeros((20_000, 1)) + 1.5
    path = gs.forward_path(x_0, process, times, key=key)
    for state, alpha, sigma in zip(path.states, path.alpha, path.sigma, strict=True):
        law = stats.norm(1.5 * alpha, sigma)
        assert stats.kstest(np.asarray(state[:, 0]), law.cdf).pvalue > 1e-3
    # Markov: Cov[x_t, x_s] = alpha_{t|s} Var[x_s].
    covariance = np.cov(np.asarray(path.states[:, :, 0]))
    expected = np.exp(-1.0) * (1 - np.exp(-2.0))
    np.testing.assert_allclose(covariance[0, 1], expected, rtol=0.05)


def test_guidance_state_is_threaded(key):
    """A guidance that counts its steps: state in, state out, every step once."""

    class Counter(Guidance):
        def init(self, x):
            return jnp.zeros(x.shape[0])

        def step(self, state, x, level, denoise):
            return denoise(1), state + 1

    times = np.geomspace(5, 1e-3, 50)
    path = gs.sample(
        MIXTURE, gs.OrnsteinUhlenbeck(), times, key=key, num_samples=200, guidance=Counter()
    )
    np.testing.assert_array_equal(path.guidance_state, 49.0)
    np.testing.assert_allclose(path.final.mean(), 1.0, atol=0.1)  # only class 1 was drawn


def test_a_class_of_a_partition_can_be_drawn(key):
    mixture, (groups, _) = gs.families.paper_toy(0.1)
    path = gs.sample(
        mixture,
        gs.VarianceExploding(),
        np.geomspace(200, 0.01, 100),
        key=key,
        num_samples=400,
        guidance=Unguided(0),
        partition=groups,
    )
    shares = np.bincount(np.argmax(mixture.posterior(path.final), -1), minlength=4) / 400
    assert shares[2:].sum() == 0
    assert abs(shares[0] - 0.5) < 0.1


def test_bad_input(key):
    process = gs.OrnsteinUhlenbeck()
    with pytest.raises(ValueError, match="decrease strictly"):
        gs.sample(MIXTURE, process, [0.1, 1.0], key=key, num_samples=2)
    with pytest.raises(ValueError, match="must be one of sde, euler, ddim, ode"):
        gs.sample(MIXTURE, process, [1.0, 0.1], key=key, num_samples=2, method="leapfrog")
    with pytest.raises(ValueError, match="exactly one"):
        gs.sample(MIXTURE, process, [1.0, 0.1], key=key)
    with pytest.raises(ValueError, match="range of LinearInterpolant"):
        gs.sample(MIXTURE, gs.LinearInterpolant(), [1.5, 0.1], key=key, num_samples=2)


@pytest.mark.parametrize("label", [2, -1, 0.5])
@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 1]])
def test_labels_that_are_no_class_are_refused(label, labels, key, unchecked):
    law = gs.GaussianMixture.isotropic(np.arange(float(len(labels)))[:, None], 0.1)
    clock, options = gs.OrnsteinUhlenbeck(), {"key": key, "num_samples": 2, "partition": labels}
    for guidance in (Unguided(label), ClassifierFree(0, 2.0, reference=label)):
        with pytest.raises(ValueError, match=f"a class, 0 to 1; got {label}"):
            gs.sample(law, clock, [1.0, 0.1], guidance=guidance, **options)


@pytest.mark.parametrize("shape", [(1,), (2, 2, 1)])
def test_states_that_are_no_rows_are_refused(shape, key, unchecked):
    clock, states = gs.OrnsteinUhlenbeck(), np.ones(shape)
    with pytest.raises(ValueError, match=r"`start` must have shape \(n, 1\)"):
        gs.sample(MIXTURE, clock, [1.0, 0.1], key=key, start=states)
    with pytest.raises(ValueError, match=r"`x_0` must have shape \(n, d\)"):
        gs.forward_path(states, clock, [1.0, 0.1], key=key)


TWO = gs.GaussianMixture.isotropic([[-1.0], [1.0]], 0.1)
FLOW = gs.LinearInterpolant()


@pytest.mark.parametrize("method", ["ode", "euler"])
def test_a_level_that_a_method_cannot_leave_is_refused(method, key):
    """Without signal slopes of x / alpha and the drift are infinite: the paths would be NaN."""
    options = {"key": key, "num_samples": 3, "method": method}
    with pytest.raises(ValueError, match=r"none at time 1\. Begin at a time below, .*sde"):
        gs.sample(TWO, FLOW, [1.0, 0.5, 0.0], **options)
    if method == "euler":
        with pytest.raises(ValueError, match="none at time 1"):
            gs.speciation.simulate_cloning(TWO, FLOW, [0.5], key=key, start_time=1.0, num_steps=9)
    assert np.isfinite(gs.sample(TWO, FLOW, [0.99, 0.5, 0.0], **options).states).all()


@pytest.mark.parametrize("method", ["sde", "ddim"])
def test_paths_from_pure_noise_are_those_from_nearly_pure_noise(method, key):
    """Also those of a guidance that reads noises, sigma / alpha of which is infinite there."""
    for kind in (None, gs.guidance.SafeLatent(0, 2.0), gs.guidance.SafeLatent(0, 2.0, warmup=1)):
        start = np.linspace(-1.0, 1.0, 5)[:, None]
        options = {"key": key, "start": start, "method": method, "guidance": kind}
        ends = [gs.sample(TWO, FLOW, [t, 0.5, 0.1], **options).final for t in (1.0, 1 - 1e-9)]
        np.testing.assert_allclose(*ends, rtol=0, atol=1e-6)


def test_what_is_not_finite_is_refused(key):
    clock = gs.VarianceExploding()
    with pytest.raises(ValueError, match="`start` must be finite"):
        gs.sample(TWO, clock, [1.0, 0.5], key=key, start=[[np.inf]])
    with pytest.raises(ValueError, match="`x_0` must be finite"):
        gs.forward_path([[np.inf]], clock, [1.0, 0.5], key=key)
    for draw in (
        lambda times: gs.sample(TWO, clock, times, key=key, start=[[0.0]]),
        lambda times: gs.forward_path([[0.0]], clock, times, key=key),
    ):
        with pytest.raises(ValueError, match="finite scales"):
            draw([np.inf, 1.0])
    for levels in ((np.inf, 1.0, -1.0), (1.0, -np.inf), (1.0, np.nan), (1.0, 1.0)):
        with pytest.raises(ValueError, match="finite and decrease strictly"):
            gs.DDPM(levels)


def test_states_to_start_from_may_be_of_another_precision(key):
    process, times, start = gs.OrnsteinUhlenbeck(), [1.0, 0.5, 0.1], np.array([[0.5], [-1.25]])
    wide = gs.sample(MIXTURE, process, times, key=key, start=start)
    narrow = gs.sample(MIXTURE, process, times, key=key, start=start.astype(np.float32))
    np.testing.assert_array_equal(narrow.states, wide.states)
    single = gs.GaussianMixture.isotropic(np.zeros((1, 1), np.float32), 1.0)
    path = gs.sample(single, process, times, key=key, start=start)
    assert path.states.dtype == single.means.dtype == np.float32


@pytest.mark.parametrize("count", [0, -3, 2.5, np.nan])
def test_a_number_of_samples_is_a_whole_number(count, key, unchecked):
    says = f"`num_samples` must be a whole number of at least .; got {count}"
    with pytest.raises(ValueError, match=says):
        gs.sample(MIXTURE, gs.OrnsteinUhlenbeck(), [1.0, 0.5], key=key, num_samples=count)
    if count == 0:
        assert MIXTURE.sample(key, np.int64(count))[0].shape == (0, 1)
    else:
        with pytest.raises(ValueError, match=says):
            MIXTURE.sample(key, count)


@pytest.mark.parametrize("seed", [0, 0.5, "0", [0, 1]])
def test_a_seed_is_no_key(seed, unchecked):
    process, times = gs.OrnsteinUhlenbeck(), [1.0, 0.5]
    for draw in (
        lambda: gs.sample(MIXTURE, process, times, key=seed, num_samples=2),
        lambda: gs.forward_path(np.ones((2, 1)), process, times, key=seed),
        lambda: MIXTURE.sample(seed, 2),
        lambda: gs.class_entropy(MIXTURE, 0.0, key=seed),
        lambda: gs.entropy_curve(MIXTURE, [1.0, 0.0], key=seed, samples=np.ones((64, 1))),
    ):
        with pytest.raises(TypeError, match=rf"`key` must be a JAX .*; got {type(seed).__name__}"):
            draw()


def test_what_is_no_process_and_no_guidance_is_named(key, unchecked):
    with pytest.raises(TypeError, match="Expected a `DiffusionProcess`; got a str"):
        gs.sample(MIXTURE, "ou", [1.0, 0.5], key=key, num_samples=2)
    with pytest.raises(TypeError, match="Expected a `DiffusionProcess`; got a str"):
        gs.forward_path(np.ones((2, 1)), "ou", [1.0, 0.5], key=key)
    process = gs.OrnsteinUhlenbeck()
    with pytest.raises(TypeError, match="Expected a `Guidance`; got a str"):
        gs.sample(MIXTURE, process, [1.0, 0.5], key=key, num_samples=2, guidance="a")
