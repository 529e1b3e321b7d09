"""Which component comes first must not matter: sharp ones among flat ones, far ones among near ones.

References are dense, in float64 or longer, and import nothing of the package.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from theory_contracts import width

import gmm_speciation as gs
from gmm_speciation.inference import score_spread

K = 4
KINDS = ("isotropic", "diagonal", "full", "low_rank")
WIDTHS = {np.float32: 2e-6, np.float64: 1e-12}


def parameters(kind, shared, dim, variances, dtype, seed=0):
    """Arguments of a constructor, rounded, and the covariances `(K, d, d)` of these."""
    rng = np.random.default_rng([seed, dim])
    means = rng.normal(size=(len(variances), dim)).astype(dtype)
    number = len(means)
    v = np.asarray(variances)[:1] if shared else np.asarray(variances)
    if kind == "isotropic":
        given = (v[0] if shared else v).astype(dtype)
        dense = np.asarray(given, float).reshape(-1, 1, 1) * np.eye(dim)
        return means, (given,), np.broadcast_to(dense, (number, dim, dim))
    if kind == "diagonal":
        given = (v[:, None] * np.exp(rng.uniform(-1, 1, size=(len(v), dim)))).astype(dtype)
        dense = given.astype(float)[:, :, None] * np.eye(dim)
        return means, (given[0] if shared else given,), np.broadcast_to(dense, (number, dim, dim))
    if kind == "full":
        root = rng.normal(size=(len(v), dim, dim))
        given = root @ root.swapaxes(1, 2) / dim + 0.3 * np.eye(dim)
        given = (given * v[:, None, None]).astype(dtype)
        given = (given + given.swapaxes(1, 2)) / 2
        dense = given.astype(float)
        return means, (given[0] if shared else given,), np.broadcast_to(dense, (number, dim, dim))
    factors = (rng.normal(size=(len(v), dim, 1)) * np.sqrt(v)[:, None, None]).astype(dtype)
    across = v.astype(dtype)
    dense = factors.astype(float) @ factors.astype(float).swapaxes(1, 2)
    dense = dense + across.astype(float)[:, None, None] * np.eye(dim)
    arguments = (factors[0], across[0]) if shared else (factors, across)
    return means, arguments, np.broadcast_to(dense, (number, dim, dim))


def points(means, covariances, dtype, count=200):
    """Draws of every component, half of them three times as far from it, and the means."""
    rng = np.random.default_rng(7)
    component = np.arange(count) % len(means)
    root = np.linalg.cholesky(covariances)
    stretch = np.where(np.arange(count) < count // 2, 1.0, 3.0)[:, None]
    steps = np.einsum("nij,nj->ni", root[component], rng.normal(size=(count, means.shape[1])))
    return np.concatenate([means + 0.0, (means[component] + stretch * steps)]).astype(dtype)


def dense(means, covariances, weights, x):
    """Posterior and log-density, in extended precision from float64 Cholesky factors."""
    joint = []
    for mean, covariance, weight in zip(means, covariances, weights, strict=True):
        residual = (x.astype(np.longdouble) - mean.astype(np.longdouble)).astype(float)
        root = np.linalg.cholesky(covariance)
        white = np.linalg.solve(root, residual.T)
        volume = 2 * np.log(np.diag(root)).sum() + len(mean) * np.log(2 * np.pi)
        joint.append(np.log(weight) - (np.sum(white**2, 0) + volume) / 2)
    joint = np.stack(joint, -1)
    log_prob = np.logaddexp.reduce(joint, -1)
    return np.exp(joint - log_prob[:, None]), log_prob


def prior(number):
    return np.arange(1.0, number + 1) * 2 / (number * (number + 1))


# Four components each: cases of one shape share their programs.
SPREADS = [(1e-8, 1, 1, 1), (1, 1e-4, 1e-8, 1), (1e8, 1e8, 1e8, 1), (1, 1e8, 1e8, 1e8)]


@pytest.mark.parametrize(
    ("shared", "variances"),  # of shared ones only the first counts
    [*((False, one) for one in SPREADS), *((True, one) for one in SPREADS[:3])],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", WIDTHS)
def test_posteriors_and_densities_are_those_of_float64(dtype, kind, shared, variances):
    for dim in (1, 3, 8):
        if kind in ("full", "low_rank") and dim == 1:
            continue
        means, given, covariances = parameters(kind, shared, dim, variances, dtype)
        weights, x = prior(len(means)), points(means, covariances, dtype)
        posterior, log_prob = dense(means, covariances, weights, x)
        with width(dtype):
            mixture = getattr(gs.GaussianMixture, kind)(means, *given, weights)
            ours, ours_log = np.asarray(mixture.posterior(x)), np.asarray(mixture.log_prob(x))
            assert ours.dtype == ours_log.dtype == dtype
            if kind in ("isotropic", "diagonal") or shared:
                kept = np.asarray(mixture.discriminant().posterior(x))
                np.testing.assert_allclose(kept, ours, atol=WIDTHS[dtype] / 10)
        # The roundings of eigenvectors count as often as the squared distance of the point in standard
        # deviations, here up to 150.
        slack = 8 if kind == "full" else 1
        np.testing.assert_allclose(ours, posterior, atol=slack * WIDTHS[dtype])
        scale = 5 * WIDTHS[dtype] * slack
        np.testing.assert_allclose(ours_log, log_prob, rtol=scale, atol=scale)


ORDERS = {
    (1e-6, 1e-3, 1, 1): ([2, 1, 0, 3], [0, 3, 2, 1], [2, 3, 0, 1]),
    (1, 1e6, 1, 1e6): ([1, 0, 3, 2],),
}


@pytest.mark.parametrize("variances", ORDERS)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", WIDTHS)
def test_every_order_of_the_components_gives_the_same(dtype, kind, shared, variances):
    means, given, covariances = parameters(kind, shared, 6, variances, dtype)
    weights, x = prior(len(means)), points(means, covariances, dtype)

    def quantities(order):
        moved = given if shared else tuple(part[order] for part in given)
        mixture = getattr(gs.GaussianMixture, kind)(means[order], *moved, weights[order])
        labels = gs.Partition((np.arange(len(means)) % 2)[order])
        return {
            "posterior": mixture.posterior(x)[:, np.argsort(order)],
            "log_prob": mixture.log_prob(x),
            "gradient": jax.vmap(jax.grad(mixture.log_prob))(x),
            "score": mixture.score(x),
            "class_posterior": gs.class_posterior(mixture, x, labels),
            "class_scores": gs.class_scores(mixture, x, labels),
            "spread": score_spread(mixture, x, labels),
            "denoiser": gs.denoiser(mixture, x, 0.8, 0.6),
        }

    with width(dtype):
        first = quantities(np.arange(len(means)))
        size = np.abs(first["score"]).max()
        np.testing.assert_allclose(
            first["gradient"], first["score"], atol=20 * WIDTHS[dtype] * size
        )
        for order in ORDERS[variances]:  # one program for all
            for name, ours in quantities(np.array(order)).items():
                truth = np.asarray(first[name])
                size = max(1.0, np.abs(truth).max())
                np.testing.assert_allclose(
                    ours, truth, atol=20 * WIDTHS[dtype] * size, err_msg=name
                )


def test_a_point_among_clouds_at_the_smallest_noise():
    """A component without variance, noise of 1e-8: posterior and score against dense formulae."""
    means = np.array([[0.3, -1.2], [1.0, 0.4], [-0.7, 0.9]])
    variances = np.array([0.0, 0.5, 1.0]) + 1e-16
    covariances = variances[:, None, None] * np.eye(2)
    x = points(means, covariances, np.float64)
    posterior, _ = dense(means, covariances, np.full(3, 1 / 3), x)
    scores = -(x[:, None] - means[None]) / variances[None, :, None]
    score = np.einsum("nk,nkd->nd", posterior, scores)
    for first in range(3):
        order = np.roll(np.arange(3), first)
        noisy = gs.GaussianMixture.isotropic(means[order], [[0.0, 0.5, 1.0][k] for k in order])
        noisy = noisy.perturb(1.0, 1e-8)
        np.testing.assert_allclose(noisy.posterior(x), posterior[:, order], atol=1e-12)
        # The score of a point is as sharp as the point itself: |x| eps / sigma^2.
        np.testing.assert_allclose(noisy.score(x), score, rtol=1e-9, atol=4 * 2.3e-16 / 1e-16)


def test_density_at_a_mean_of_sharp_components():
    means = np.random.default_rng(2).normal(size=(3, 2)).astype(np.float32)
    with jax.enable_x64(False):
        found = gs.GaussianMixture.isotropic(means, np.float32(1e-8)).log_prob(means)
    truth = -np.log(3) - np.log(2 * np.pi) - np.log(float(np.float32(1e-8)))
    np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_derivatives_are_those_of_the_density_where_differences_take_over():
    means, (given,), _ = parameters("diagonal", False, 3, (1e-8, 1, 1e-8, 1), np.float64)
    mixture = gs.GaussianMixture.diagonal(means, given)
    x = jnp.asarray(points(means, given[:, :, None] * np.eye(3), np.float64))
    slope = jax.vmap(jax.grad(mixture.log_prob))(x)
    score = mixture.score(x)
    np.testing.assert_allclose(slope, score, rtol=1e-6, atol=1e-6 * float(jnp.abs(score).max()))

    def total(offsets):
        moved = gs.GaussianMixture(mixture.log_weights, mixture.centre, offsets, mixture.covariance)
        return jnp.sum(moved.posterior(x[4:]) ** 2)

    slope = jax.grad(total)(mixture.offsets)
    step = 1e-9 * jax.random.normal(jax.random.key(0), slope.shape)
    difference = (total(mixture.offsets + step) - total(mixture.offsets - step)) / 2
    np.testing.assert_allclose(jnp.sum(slope * step), difference, rtol=1e-4, atol=1e-12)


def _simplex(num, distance):
    centred = (np.eye(num) - 1 / num) / np.sqrt(2)
    left, singular, _ = np.linalg.svd(centred)
    return left[:, : num - 1] * singular[: num - 1] * distance


def _crowd(dim=20):
    """16 means at distance 2 sqrt 2 of which the first is moved out to 300."""
    means = np.zeros((16, dim))
    means[:, :15] = _simplex(16, 2 * np.sqrt(2))
    means[0] *= 300 / np.linalg.norm(means[0])
    return means


def _sampled_entropy(means, log_snr, count=2**15):
    """H(C|X) by draws in numpy, and its standard error; unit variance is that of the noisy state."""
    rng = np.random.default_rng(3)
    alpha = np.sqrt(1 / (1 + np.exp(-log_snr)))
    component = np.arange(count) % len(means)
    x = alpha * means[component] + rng.normal(size=(count, means.shape[1]))
    joint = alpha * x @ means.T - alpha**2 * np.sum(means**2, 1) / 2
    log_p = joint - np.logaddexp.reduce(joint, -1, keepdims=True)
    values = -np.sum(np.exp(log_p) * log_p, -1)
    return values.mean(), values.std() / np.sqrt(count)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
@pytest.mark.parametrize("dtype", WIDTHS)
def test_one_class_far_away_does_not_erase_the_others(dtype, kind):
    variance = 1.0 if kind == "isotropic" else np.ones(20) + 1e-3 * np.arange(20)
    levels = np.array([6.0, 0.0, -2.0])
    with width(dtype):
        mixture = getattr(gs.GaussianMixture, kind)(_crowd().astype(dtype), variance)
        assert gs.reduce(mixture).num_normals == 15
        found = gs.class_entropy(mixture, levels.astype(dtype))
    for level, value, stderr in zip(levels, found.value, found.stderr, strict=True):
        truth, error = _sampled_entropy(_crowd(), level)
        # The tilted variances change the entropy by less than the second term.
        allowed = 5 * np.hypot(error, float(stderr)) + (5e-3 if kind == "diagonal" else 0.0)
        assert abs(float(value) - truth) < allowed
    assert found.value[2] - found.value[0] > 0.3


@pytest.mark.parametrize("dtype", WIDTHS)
def test_reductions_do_not_depend_on_the_order(dtype):
    rng = np.random.default_rng(5)
    means = rng.normal(size=(3, 5)).astype(dtype)
    means[0] *= 100
    order = [2, 0, 1]
    with width(dtype):
        for kind, given in {"isotropic": (0.5,), "diagonal": (np.linspace(0.5, 1, 5),)}.items():
            make = getattr(gs.GaussianMixture, kind)
            one, other = (
                gs.class_entropy(make(mu, *given), [3.0, 0.0, -3.0], method="exact").value
                for mu in (means, means[order])
            )
            np.testing.assert_allclose(one, other, atol=10 * WIDTHS[dtype])
        variances = np.array([1e-4, 1.0, 0.5], dtype)
        line = np.outer([0.0, 1.0, 3.0], means[1]).astype(dtype)
        one, other = (
            gs.class_entropy(
                gs.GaussianMixture.isotropic(line[k], variances[k]), [0.0, -3.0], method="exact"
            ).value
            for k in ([0, 1, 2], order)
        )
        np.testing.assert_allclose(one, other, atol=10 * WIDTHS[dtype])


def test_two_scales_survive_float32():
    """A tree of classes 3000 and 3 apart: siblings are told apart at the noise of their distance."""
    rng = np.random.default_rng(0)
    tree = np.array([[0.0, 0, 0], [3, 0, 0], [0, 3000, 0], [0, 3000, 3]]) + rng.normal(size=3)
    with jax.enable_x64(False):
        reduced = gs.reduce(gs.GaussianMixture.isotropic(tree.astype(np.float32), np.float32(1)))
        single = gs.class_entropy(reduced, [2.0, 0.0, -2.0], method="quasi-monte-carlo")
    pair = gs.GaussianMixture.isotropic([[0.0], [3.0]], 1.0)
    truth = gs.class_entropy(pair, [2.0, 0.0, -2.0])
    gap = np.abs(np.asarray(single.value) - np.asarray(truth.value))
    assert np.all(gap < 5 * np.asarray(single.stderr) + 1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    means = jnp.asarray(_crowd(), dtype)
    as_given = np.asarray(means.astype(jnp.float32), float)
    x = means[:3] + jnp.asarray(0.5, dtype)
    with jax.enable_x64(False):
        mixture = gs.GaussianMixture.isotropic(means, jnp.asarray(1.0, dtype))
        posterior, reduced = mixture.posterior(x), gs.reduce(mixture)
        assert posterior.dtype == reduced.core.dtype == jnp.float32
        found = gs.class_entropy(mixture, [0.0], num_samples=4096)
    covariances = np.broadcast_to(np.eye(20), (16, 20, 20))
    given = np.asarray(x.astype(jnp.float32), float)
    truth, _ = dense(as_given, covariances, np.full(16, 1 / 16), given)
    np.testing.assert_allclose(posterior, truth, atol=2e-6)
    value, error = _sampled_entropy(as_given, 0.0)
    assert abs(float(found.value[0]) - value) < 5 * np.hypot(error, float(found.stderr[0]))


@pytest.mark.parametrize("level", [100.0, 500.0, 700.0, 800.0, np.inf])
@pytest.mark.parametrize("dtype", WIDTHS)
def test_a_component_without_variance_has_rates_at_every_level(dtype, level):
    with width(dtype):
        for mixture in (
            gs.families.equal_means(64, [0.0, 1.0]),
            gs.GaussianMixture.isotropic([[0.0, 0], [1, 0], [0, 1]], [0.0, 0.5, 1.0]),
            gs.GaussianMixture.isotropic([[0.0, 0], [1, 0], [0, 1]], [0.5, 0.0, 0.0]),
        ):
            for method in ("exact", "quasi-monte-carlo"):
                rate = gs.entropy_rate(mixture, level, method=method)
                assert np.isfinite(rate.value)
                assert 0 <= float(rate.value) < 1e-6


@pytest.mark.parametrize("distance", [1e2, 1e3, 1e4])
@pytest.mark.parametrize("dtype", WIDTHS)
def test_rates_of_close_classes_in_groups_far_apart(dtype, distance):
    """The groups are decided: what is left is one pair at distance 4, the binary channel of log-odds
    `N(2 kappa, 4 kappa)`, whose `dH/dkappa = -E[2 p (1 - p)]` is summed in numpy."""
    levels = np.array([3.0, 0.0, -1.0, -5.0])
    kappa = 4 / (1 + np.exp(-levels))
    z = np.linspace(-12, 12, 20_001)
    bell = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    odds = 2 * kappa[:, None] + 2 * np.sqrt(kappa[:, None]) * z
    missed = np.sum(bell / np.cosh(odds / 2) ** 2 / 2, 1)
    truth = missed * kappa / (1 + np.exp(levels))  # kappa is 4 alpha^2: the state has variance 1
    pairs = np.array([[-distance - 2], [-distance + 2], [distance - 2], [distance + 2]])
    with width(dtype):
        mixture = gs.GaussianMixture.isotropic(pairs.astype(dtype), 1.0)
        for method in ("exact", "auto"):
            found = gs.entropy_rate(mixture, levels.astype(dtype), method=method).value
            # Distances of 4 between numbers of 1e4 have three digits in float32, once scaled.
            scale = 3 * np.finfo(dtype).eps * distance
            np.testing.assert_allclose(
                found, truth, rtol=scale + 5e-6 if dtype is np.float32 else 1e-9
            )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_batches(kind, shared):
    means, given, _ = parameters(kind, shared, 3, (0.5, 1, 2, 1), np.float64)
    mixture = getattr(gs.GaussianMixture, kind)(means, *given)
    for x in (np.zeros((0, 3)), np.zeros((2, 0, 3))):
        assert mixture.posterior(x).shape == mixture.log_posterior(x).shape == (*x.shape[:-1], K)
        assert mixture.log_prob(x).shape == x.shape[:-1]
        assert mixture.score(x).shape == x.shape


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
@pytest.mark.parametrize("dtype", WIDTHS)
def test_scores_beside_a_narrow_component(dtype, kind):
    means, (given,), covariances = parameters(kind, False, 3, (1e-8, 1, 1e-4, 1), dtype, seed=4)
    means = (means + np.array([3.6, -2.1, 0.9])).astype(dtype)
    x = points(means, covariances, dtype)
    posterior, _ = dense(means, covariances, np.full(K, 1 / K), x)
    residual = x.astype(float)[:, None] - means.astype(float)[None]
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    truth = -np.einsum("nk,nkd->nd", posterior, residual / variances[None])
    with width(dtype):
        score = getattr(gs.GaussianMixture, kind)(means, given).score(x)
    # What each component adds, with the digits of its posterior.
    size = np.einsum("nk,nkd->nd", posterior, np.abs(residual / variances[None]))
    sharpest = np.sqrt(1 / variances.min())
    np.testing.assert_array_less(np.abs(score - truth), 20 * WIDTHS[dtype] * (size + sharpest))


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
@pytest.mark.parametrize("means", [[[1.0, 2.0]], [[1.0, 2.0]] * 3])
def test_derivatives_by_the_means_where_all_means_are_one(kind, means):
    x, means = jnp.array([0.3, -1.0]), jnp.array(means)
    variances = jnp.array([[2.0], [3.0], [4.0]])[: len(means)] * jnp.ones((1, 2))
    given = variances[:, 0] if kind == "isotropic" else variances

    def log_prob(means):
        return getattr(gs.GaussianMixture, kind)(means, given).log_prob(x)

    gradient = jax.grad(log_prob)(means)
    residual = np.asarray(x) - np.asarray(means)
    joint = -np.sum(residual**2 / variances + np.log(np.asarray(variances)), -1) / 2
    share = np.exp(joint - np.logaddexp.reduce(joint))
    np.testing.assert_allclose(gradient, share[:, None] * residual / variances, rtol=1e-5)
