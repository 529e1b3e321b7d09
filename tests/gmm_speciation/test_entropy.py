"""Class entropy: theorems first, numbers of the literature second."""

import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy.special import entr
from theory_contracts import assert_within, random_mixtures

import gmm_speciation as gs
from gmm_speciation.sampling.monte_carlo import posterior_statistics

MIXTURES = {k: m for k, m in random_mixtures(num=5).items() if m.num_components == 5}
PARTITION = gs.Partition([0, 1, 0, 1, 2])
GRID = np.linspace(6, -6, 25)


@pytest.mark.parametrize("partition", [None, PARTITION], ids=["components", "classes"])
@pytest.mark.parametrize("name", MIXTURES)
def test_rate_is_the_slope_of_the_entropy(name, partition):
    """I-MMSE: the posterior variance of the score against a difference of entropies, one sample set.

    The paired difference has its own error, which the two sides share no formula to hide behind.
    """
    mixture, step = MIXTURES[name], 0.05
    levels = np.array([1.0 + step, 1.0, 1.0 - step])
    statistics = gs.entropy_curve(
        mixture, levels, partition=partition, num_samples=100_000, method="monte-carlo"
    )
    entropy, rate = statistics.batches.entropy, statistics.batches.rate
    difference = (entropy[:, 2] - entropy[:, 0]) / (2 * step) - rate[:, 1]
    estimate = gs.Estimate.from_samples(difference)
    # The central difference is off by step^2 / 6 times the third derivative, of order 0.1 here.
    assert_within(estimate, 0.0, 4.0, slack=step**2 / 6 * 0.3)
    assert float(estimate.stderr) < 0.02


def test_two_components_exact_and_sampled_agree(rng):
    """Every shared covariance, unequal priors: the integral against d-dimensional sampling."""
    means, weights = rng.normal(size=(2, 4)), [0.3, 0.7]
    root = rng.normal(size=(4, 4))
    for mixture in (
        gs.GaussianMixture.isotropic(means, 0.3, weights),
        gs.GaussianMixture.diagonal(means, [0.1, 0.5, 1.0, 2.0], weights),
        gs.GaussianMixture.full(means, root @ root.T / 4, weights),
    ):
        truth = gs.entropy_curve(mixture, GRID)
        sampled = gs.entropy_curve(mixture, GRID, method="monte-carlo", num_samples=20_000)
        assert (truth.method, sampled.method) == ("exact", "monte-carlo")
        assert_within(sampled.entropy, truth.entropy.value)
        assert_within(sampled.rate, truth.rate.value)


@pytest.mark.parametrize(
    "process",
    [
        gs.OrnsteinUhlenbeck(),
        gs.VarianceExploding(),
        gs.DDPM.linear(),
        gs.DDPM.scaled_linear(),
        gs.Cosine(),
        gs.LinearInterpolant(),
    ],
    ids=lambda p: type(p).__name__,
)
def test_the_clock_does_not_matter(process, key):
    """Entropy and rate per log-SNR at a state (alpha, sigma) of any process equal those of the axis.

    The kernel is evaluated in the process's own scaling, not through the variance-preserving one.
    """
    from gmm_speciation.inference import log_class_posterior, score_spread
    from gmm_speciation.posteriors import entropy_of

    mixture, level = MIXTURES["full"], jnp.asarray(0.7)
    normals = jax.random.normal(key, (500, mixture.dim))
    component = jax.random.categorical(key, mixture.log_weights, shape=(500,))
    ours = posterior_statistics(mixture, level, normals, component)
    t = process.time(level)
    noisy = mixture.perturb(process.alpha(t), process.sigma(t))
    x = noisy.centre[None] + noisy.covariance.colour(normals, noisy.offsets, component)
    np.testing.assert_allclose(entropy_of(log_class_posterior(noisy, x)), ours.entropy, atol=1e-9)
    rate = process.sigma(t) ** 2 / 2 * score_spread(noisy, x)
    np.testing.assert_allclose(rate, ours.rate, atol=1e-9)


@pytest.mark.parametrize("process", [gs.OrnsteinUhlenbeck(), gs.VarianceExploding()])
def test_rate_on_a_clock_is_the_slope_in_time(process):
    mixture = gs.families.symmetric_pair(16)
    grid = np.linspace(4, -9, 400)
    clocked = gs.entropy_curve(mixture, grid).on(process)
    slope = np.gradient(np.asarray(clocked.entropy.value), clocked.times)
    inner = slice(5, -5)
    scale = np.max(np.abs(slope))
    np.testing.assert_allclose(
        np.asarray(clocked.rate.value)[inner] / scale, slope[inner] / scale, atol=2e-3
    )


def test_chain_rule_of_a_hierarchy():
    """H(fine) = H(coarse) + H(fine | coarse), the second term by its own definition."""
    mixture, (coarse, fine) = gs.families.hierarchy((2, 3), (6.0, 2.0), 8)
    level = np.array([0.5])
    options = {"num_samples": 40_000, "method": "monte-carlo"}
    total = gs.class_entropy(mixture, level, partition=fine, **options)
    top = gs.class_entropy(mixture, level, partition=coarse, **options)
    # H(fine | coarse, X) = sum_g p(g) H(fine | X, g): three classes inside one branch.
    branches = [
        gs.class_entropy(
            gs.GaussianMixture.isotropic(mixture.means[3 * g : 3 * g + 3], 1.0),
            level,
            num_samples=40_000,
            key=jax.random.key(7 + g),
        )
        for g in range(2)
    ]
    remainder = total.value[0] - top.value[0] - sum(b.value[0] for b in branches) / 2
    terms = [total.stderr[0], top.stderr[0], *(b.stderr[0] / 2 for b in branches)]
    assert abs(remainder) < 4 * np.linalg.norm(terms)


def test_entropies_stay_inside_their_bounds():
    for name in ("isotropic", "full"):
        mixture = MIXTURES[name]
        curve = gs.entropy_curve(mixture, GRID, num_samples=512)
        assert np.all(np.asarray(curve.entropy.value) >= 0)
        assert np.all(np.asarray(curve.rate.value) >= 0)
        assert np.all(np.asarray(curve.entropy.value) <= np.log(5) + 1e-12)


@pytest.mark.parametrize(("s", "truth"), [(1.0, 1.87867745), (4.0, 0.96245397), (16.0, 0.04976171)])
def test_equidistant_classes_reproduce_the_published_integral(s, truth):
    """K = 10 at `s = alpha^2 delta^2 / (2 v)`: values of the nested one-dimensional integral."""
    mixture = gs.families.equidistant(10, 9, np.sqrt(2 * s), variance=0.0)
    # Without cluster variance v = sigma^2, so s = gamma delta^2 / 2 = s e^lambda: lambda = 0.
    assert_within(gs.class_entropy(mixture, 0.0, num_samples=40_000, method="monte-carlo"), truth)


def test_entropy_peak_of_the_speciation_papers():
    """OU, unit variance: dH/dt peaks at kappa* = 1.5083306, t_S - 0.2055017, value 0.4795160; dH/dlambda
    where kappa (1 - kappa / d) mmse(kappa) is largest, the offset from t_S by scipy."""
    process = gs.OrnsteinUhlenbeck()
    for dim, offset in [(16, -0.14913), (64, -0.19164), (256, -0.20206), (4096, -0.20529)]:
        grid = np.linspace(-np.log(dim) + 4, -np.log(dim) - 4, 400)
        curve = gs.entropy_curve(gs.families.symmetric_pair(dim), grid)
        peak = curve.on(process).peak()
        np.testing.assert_allclose(peak.time.value - np.log(dim) / 2, -0.2055017, atol=2e-6)
        np.testing.assert_allclose(peak.rate.value, 0.4795160, atol=1e-6)
        time = process.time(curve.peak().log_snr.value)
        np.testing.assert_allclose(time - np.log(dim) / 2, offset, atol=1e-5)


def test_equal_means_speciate_at_a_quarter_log():
    """v = 0.5 / 1.5, d = 256 on OU: H equals H(kappa = 1) at t = 0.8672."""
    mixture = gs.families.equal_means(256, [0.5, 1.5])
    process = gs.OrnsteinUhlenbeck()
    level = process.log_snr(np.array([0.8672]))
    estimate = gs.class_entropy(mixture, level, num_samples=40_000, method="monte-carlo")
    assert_within(estimate, 0.3563163602131)


def test_the_papers_toy_decides_twice():
    """-8, -4 | 6, 8 is decided at higher noise than 6 | 8."""
    mixture, (groups, _) = gs.families.paper_toy(variance=0.25)
    grid = np.linspace(4, -8, 97)
    top = gs.entropy_curve(mixture, grid, partition=groups)
    right = gs.GaussianMixture.isotropic([[6.0], [8.0]], 0.25)
    assert top.peak().log_snr.value < gs.entropy_curve(right, grid).peak().log_snr.value - 2


def test_float32_and_float64_users_get_the_same(precision):
    """K = 4 without cluster variance, distance 2: s = 2 e^lambda, values of the published integral."""
    mixture = gs.families.equidistant(4, 8, 2.0, variance=0.0)
    levels = np.log([2.0, 1.0, 0.5])
    estimate = gs.class_entropy(mixture, levels, num_samples=20_000, method="monte-carlo")
    assert_within(estimate, [0.46752123, 0.80457497, 1.05633175])
    assert estimate.value.dtype == (jnp.float32 if precision > 1e-6 else jnp.float64)


def test_bad_input():
    mixture = gs.families.equidistant(3, 4, 1.0)
    with pytest.raises(ValueError, match="decrease strictly"):
        gs.entropy_curve(mixture, [0.0, 1.0])
    with pytest.raises(ValueError, match="NaN"):
        gs.class_entropy(mixture, np.nan)
    with pytest.raises(ValueError, match="finite"):
        gs.entropy_curve(mixture, [np.inf, 0.0])
    for method in ("monte-carlo", "quasi-monte-carlo"):
        with pytest.raises(ValueError, match="at least 32"):
            gs.class_entropy(mixture, 0.0, num_samples=3, method=method)
    with pytest.raises(ValueError, match="one of auto, exact, quasi-monte-carlo, monte-carlo"):
        gs.class_entropy(mixture, 0.0, method="magic")
    tree, _ = gs.families.hierarchy((2, 2, 2, 2), (9.0, 5.0, 3.0, 2.0), 8)
    with pytest.raises(ValueError, match="two components with one covariance"):
        gs.class_entropy(tree, 0.0, method="exact")


def test_the_same_key_gives_the_same_numbers(key):
    mixture = MIXTURES["diagonal"]
    first, second = (gs.class_entropy(mixture, 0.0, key=key).value for _ in range(2))
    assert first == second
    assert first != gs.class_entropy(mixture, 0.0, key=jax.random.key(1)).value


@pytest.mark.parametrize("num", [2, 3, 5])
def test_points_that_coincide_keep_the_entropy_of_their_labels(num, precision):
    """Also without noise, where distance, variance and noise are all 0."""
    mixture = gs.families.empirical(np.full((num, num - 1), 0.1))
    levels = [np.inf, 800.0, 0.0, -np.inf]
    found = gs.class_entropy(mixture, levels).value
    np.testing.assert_allclose(found, np.full(4, np.log(num)), rtol=precision)
    np.testing.assert_array_equal(gs.entropy_rate(mixture, levels).value, np.zeros(4))
    for criterion in (gs.transition_grid, gs.speciation_times):
        with pytest.raises(ValueError, match="Noise takes nothing from these classes"):
            criterion(mixture)


@pytest.mark.parametrize("method", ["monte-carlo", "quasi-monte-carlo"])
@pytest.mark.parametrize("number", [100.5, "many", 31, np.nan])
def test_a_number_of_draws_is_a_whole_number(method, number, monkeypatch):
    """Half a draw was taken in silence by one method, and a number of numpy's warned in another."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    mixture = gs.GaussianMixture.isotropic(2 * np.eye(3), 0.3)
    with pytest.raises(ValueError, match=f"whole number of at least 32; got {number!r}"):
        gs.class_entropy(mixture, 0.0, num_samples=number, method=method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gs.class_entropy(mixture, 0.0, num_samples=np.int64(64), method=method)
    assert found.value == gs.class_entropy(mixture, 0.0, num_samples=64, method=method).value


ON_A_LINE = np.array([-1.0, 0.4, 1.5])


def on_a_line(scale, level):
    """H of three classes of variances 1, 1, 1 on the line, by a sum over it."""
    signal, x = 1 / (1 + np.exp(-level)), np.linspace(-25.0, 25.0, 20_001)
    square = (x[:, None] - np.sqrt(signal) * scale * ON_A_LINE) ** 2
    density = np.exp(-square / 2) / np.sqrt(2 * np.pi) / 3
    return np.trapezoid((entr(density)).sum(-1) - entr(density.sum(-1)), x)


def test_more_classes_than_two_have_derivatives_or_say_why_not():
    def entropy(scale, level, **options):
        mixture = gs.GaussianMixture.isotropic(scale * ON_A_LINE[:, None], 1.0)
        return gs.class_entropy(mixture, level, **options).value

    step = 1e-4
    by_scale, by_level = (
        (on_a_line(2.0 + a, 0.3 + b) - on_a_line(2.0 - a, 0.3 - b)) / (2 * step)
        for a, b in ((step, 0.0), (0.0, step))
    )
    for method in ("auto", "exact"):
        found = jax.grad(lambda *at, m=method: entropy(*at, method=m), (0, 1))(2.0, 0.3)
        np.testing.assert_allclose(found, (by_scale, by_level), rtol=1e-6)
    many = jnp.linspace(3.0, -3.0, 21)  # more levels than share a program
    np.testing.assert_allclose(jax.jit(entropy)(2.0, many), entropy(2.0, many), rtol=1e-9)
    for method in ("quasi-monte-carlo", "monte-carlo"):
        with pytest.raises(ValueError, match=f"'{method}' runs on the host"):
            jax.grad(lambda *at, m=method: entropy(*at, method=m))(2.0, 0.3)
    for made in (lambda m: gs.entropy_curve(m, [1.0, 0.0]), gs.transition_grid):
        with pytest.raises(ValueError, match="on the host"):
            jax.jit(lambda s, made=made: made(gs.GaussianMixture.isotropic(s, 1.0)))(np.eye(3))
