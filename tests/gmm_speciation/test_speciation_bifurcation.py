"""Curvature and drift stability: closed forms, dense Hessians, folds, and laws without a point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import speciation

PAIRS = [(1, 1.0, 0.1), (2, 1.0, 1.0), (64, 0.5, 2.0), (16_384, 1.0, 1.0)]


@pytest.mark.parametrize(("dim", "separation", "variance"), PAIRS)
def test_curvature_of_the_symmetric_pair_turns_at_kappa_one(dim, separation, variance):
    """At any variance and dimension: alpha^2 |m|^2 = sigma^2 + alpha^2 s^2."""
    mixture = gs.families.symmetric_pair(dim, separation, variance)
    point = speciation.curvature_point(mixture)
    np.testing.assert_allclose(gs.decision_snr(mixture, point.log_snr.value), 1, rtol=1e-9)
    exact = -np.log(dim * separation**2 - variance)
    np.testing.assert_allclose(point.log_snr.value, exact, atol=1e-9)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_curvature_of_a_pair_with_any_shared_covariance(kind, rng):
    """kappa = m^T (Sigma + sigma^2)^{-1} m = 1: the same SNR as in the class posterior."""
    mean = 3 * rng.normal(size=(1, 5))
    root = rng.normal(size=(5, 5))
    covariance = {"diagonal": rng.uniform(0.1, 1, 5), "full": root @ root.T / 5}[kind]
    mixture = getattr(gs.GaussianMixture, kind)(np.concatenate([mean, -mean]), covariance)
    point = speciation.curvature_point(mixture)
    np.testing.assert_allclose(gs.decision_snr(mixture, point.log_snr.value), 1, rtol=1e-9)


@pytest.mark.parametrize("num", [3, 10, 64])
def test_equidistant_classes_turn_at_s_equal_to_their_number(num):
    """Curvature and spectral criterion agree there, far from where the entropy decides."""
    mixture = gs.families.equidistant(num, num, 10.0, variance=0.0)
    spectral = speciation.spectral_point(speciation.top_eigenvalue(mixture))
    for point in (speciation.curvature_point(mixture), spectral):
        np.testing.assert_allclose(np.exp(point.log_snr.value) * 10.0**2 / 2, num, rtol=1e-8)


def _with_middle(kind, rng, dim=4):
    """+-m with one covariance and a third component of another one at the symmetric point."""
    mean = np.r_[4.0, np.zeros(dim - 1)]
    means = np.stack([mean, -mean, 0 * mean])
    variances = np.stack([np.full(dim, 0.3), np.full(dim, 0.3), rng.uniform(1, 2, dim)])
    weights = [0.4, 0.4, 0.2]
    if kind == "isotropic":
        return gs.GaussianMixture.isotropic(means, variances[:, 0], weights)
    if kind == "diagonal":
        return gs.GaussianMixture.diagonal(means, variances, weights)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    matrices = np.einsum("ij,kj,lj->kil", rotation, variances, rotation)
    return gs.GaussianMixture.full(means, (matrices + matrices.swapaxes(1, 2)) / 2, weights)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_the_top_eigenvalue_of_the_dense_hessian_is_zero(kind, rng):
    """Components of different covariance; also as `Cov[x_0 | x] alpha^2 / sigma^2 = 1`."""
    mixture = _with_middle(kind, rng)
    log_snr = float(speciation.curvature_point(mixture).log_snr.value)
    sigma = np.exp(-log_snr / 2)
    middle = jnp.zeros(mixture.dim)
    hessian = jax.hessian(mixture.perturb(1.0, sigma).log_prob)(middle)
    assert abs(np.linalg.eigvalsh(hessian)[-1]) * sigma**2 < 1e-8
    spread = gs.posterior_covariance(mixture, middle, 1.0, sigma) / sigma**2
    np.testing.assert_allclose(np.linalg.eigvalsh(spread)[-1], 1, rtol=1e-8)


def test_unequal_weights_turn_the_split_into_a_fold():
    """Ten classes nearly alike: the maximum of pure noise vanishes, before s = K.

    Checked by the plain iteration x <- E[x_0 | x]: just noisier it stays between the classes, just
    cleaner it runs away to one of them.
    """
    weights = np.r_[np.full(9, 0.1 - 1e-4), 0.1 + 9e-4]
    means = gs.families.equidistant(10, 9, 1.0).means
    mixture = gs.GaussianMixture.isotropic(means, 0.0, weights)
    fold = float(speciation.curvature_point(mixture).log_snr.value)
    assert 7 < np.exp(fold) / 2 < 10

    def settled(log_snr):
        sigma = float(np.exp(-log_snr / 2))
        start = mixture.weights @ mixture.means
        step = lambda _, x: gs.denoiser(mixture, x, 1.0, sigma)  # noqa: E731
        x = jax.jit(lambda x: jax.lax.fori_loop(0, 4000, step, x))(start)
        return float(mixture.perturb(1.0, sigma).posterior(x).max())

    assert settled(fold - 0.01) < 0.3
    assert settled(fold + 0.01) > 0.9


def test_laws_without_a_curvature_point_say_why():
    reason = lambda mixture: speciation.curvature_point(mixture).reason  # noqa: E731
    assert "single component" in reason(gs.families.equidistant(1, 2, 1.0))
    never = "never loses its stability"
    assert never in reason(gs.families.symmetric_pair(4, 0.4, 1.0))  # |m| < s: one mode always
    assert never in reason(gs.families.equal_means(16, [0.5, 1.5]))
    assert never in reason(gs.families.paper_toy()[0])  # the maximum moves over to {6, 8}
    uneven = gs.GaussianMixture.isotropic([[-1.0], [1.0]], 0.0, [0.501, 0.499])
    assert never in reason(uneven)


@pytest.mark.parametrize("variance", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("dim", [4, 256])
def test_the_reverse_sde_of_ou_turns_at_one_minus_half_v(dim, variance):
    """kappa = 1 - v / 2, v = sigma^2 + alpha^2 s^2; at s = 1 Biroli's (1/2) log(2 d mu^2)."""
    mixture, process = gs.families.symmetric_pair(dim, 1.0, variance), gs.OrnsteinUhlenbeck()
    point = speciation.drift_stability(mixture, process)
    alpha, sigma = gs.processes.variance_preserving(point.log_snr.value)
    kappa = float(gs.decision_snr(mixture, point.log_snr.value))
    np.testing.assert_allclose(kappa, 1 - (sigma**2 + alpha**2 * variance) / 2, rtol=1e-8)
    if variance == 1:
        np.testing.assert_allclose(point.on(process).value, np.log(2 * dim) / 2, rtol=1e-8)


def test_the_probability_flow_of_ou_turns_at_one_minus_v():
    """kappa = 1 - v is `v = |m|^2 / (1 - s^2)`: reached only if the total variance is below 1."""
    process = gs.OrnsteinUhlenbeck()
    flow = lambda mixture: speciation.drift_stability(mixture, process, flow="ode")  # noqa: E731
    point = flow(gs.families.symmetric_pair(1, np.sqrt(0.5), 0.25))
    alpha, sigma = gs.processes.variance_preserving(point.log_snr.value)
    np.testing.assert_allclose(sigma**2 + alpha**2 / 4, 2 / 3, rtol=1e-8)
    for variance in (0.3, 1.0):
        wide = flow(gs.families.symmetric_pair(64, 1.0, variance))
        assert "noisiest distribution already" in wide.reason


@pytest.mark.parametrize(("flow", "share"), [("sde", 1.0), ("ode", 0.5)])
def test_drift_stability_on_the_clock_of_flow_matching(flow, share):
    """alpha = 1 - t: `-f x + c g^2 s = 0` turns at kappa = 1 - (sigma^2 + s^2) e^lambda t / (2 c), in
    units of alpha = 1."""
    mixture, process = gs.families.symmetric_pair(1, 0.8, 0.1), gs.LinearInterpolant()
    point = speciation.drift_stability(mixture, process, flow=flow)
    log_snr, time = float(point.log_snr.value), float(point.on(process).value)
    variance = np.exp(-log_snr) + 0.1
    kappa = float(gs.decision_snr(mixture, log_snr))
    np.testing.assert_allclose(kappa, 1 - variance * np.exp(log_snr) * time / 2 / share, rtol=1e-7)


def test_a_single_wide_gaussian_loses_stability_to_the_linear_drift():
    """No classes at all: kappa = 0 = 1 - v / 2 where v = sigma^2 + alpha^2 s^2 reaches 2."""
    mixture = gs.families.equidistant(1, 3, 1.0, variance=4.0)
    point = speciation.drift_stability(mixture, gs.OrnsteinUhlenbeck())
    alpha, sigma = gs.processes.variance_preserving(point.log_snr.value)
    np.testing.assert_allclose(sigma**2 + 4 * alpha**2, 2, rtol=1e-8)
    narrow = gs.families.equidistant(1, 3, 1.0, variance=1.5)
    assert "never" in speciation.drift_stability(narrow, gs.OrnsteinUhlenbeck()).reason


@pytest.mark.parametrize("flow", ["sde", "ode"])
def test_without_a_linear_drift_both_bifurcations_are_one(flow):
    mixture = gs.families.symmetric_pair(16, 1.0, 0.5)
    point = speciation.drift_stability(mixture, gs.VarianceExploding(), flow=flow)
    curvature = speciation.curvature_point(mixture)
    np.testing.assert_allclose(point.log_snr.value, curvature.log_snr.value, atol=1e-8)


def test_a_pair_away_from_the_origin_has_no_drift_bifurcation():
    """The linear drift of OU breaks the symmetry: one stable zero of `x + 2 s(x)`, found on a grid,
    continues from pure noise to the end without a jump."""
    mixture, process = gs.GaussianMixture.isotropic([[-1.0], [3.0]], 0.01), gs.OrnsteinUhlenbeck()
    assert "never loses" in speciation.drift_stability(mixture, process).reason
    x = jnp.linspace(-50.0, 80.0, 8001)
    followed = None
    for log_snr in np.arange(-9, 3, 0.02):
        noisy = mixture.perturb(*gs.processes.variance_preserving(log_snr))
        drift = np.asarray(x + 2 * noisy.score(x[:, None])[:, 0])
        stable = np.asarray(x[:-1])[(drift[:-1] > 0) & (drift[1:] <= 0)]
        nearest = stable[0 if followed is None else np.argmin(np.abs(stable - followed))]
        assert followed is None or abs(nearest - followed) < 0.3
        followed = nearest


def test_the_flow_must_be_one_of_two():
    with pytest.raises(ValueError, match="'sde' or 'ode'; got 'pde'"):
        speciation.drift_stability(
            gs.families.symmetric_pair(2), gs.OrnsteinUhlenbeck(), flow="pde"
        )


@pytest.mark.parametrize("variances", [0.5, [0.5, 0.6, 0.7, 0.5, 0.6, 0.7, 0.4, 0.3]])
def test_bifurcation_of_a_level_is_that_of_the_law_inside_a_parent(variances):
    """A binary tree with one variance factorises over its levels: kappa = 1 at each level's distance."""
    distances = (64.0, 16.0, 4.0)
    mixture, levels = gs.families.hierarchy((2, 2, 2), distances, 4, variance=0.5)
    mixture = gs.GaussianMixture.isotropic(mixture.means, variances)
    parents = [None, *levels][:3]
    points = [
        speciation.curvature_point(mixture)
        if p is None
        else speciation.first_bifurcation(mixture, p)
        for p in parents
    ]
    if isinstance(variances, float):
        exact = [-np.log(distance**2 / 4 - 0.5) for distance in distances]
        np.testing.assert_allclose([p.log_snr.value for p in points], exact, atol=1e-8)
    else:  # no symmetry is left in any law of this tree
        assert all("never loses" in point.reason for point in points)


@pytest.mark.parametrize("dim", [16, 4096, 2**15])
def test_equal_means_never_split_in_any_dimension(dim):
    mixture = gs.families.equal_means(dim, [0.5, 1.5])
    assert "the means coincide" in speciation.curvature_point(mixture).reason
    reduced = gs.families.equal_means(dim, [0.5, 1.5], reduced=True)
    assert "the means coincide" in speciation.curvature_point(reduced).reason
    means = np.zeros((2, dim))
    means[1, 0] = 0.5  # well inside either class: followed step by step, with the same end
    near = gs.GaussianMixture.isotropic(means, [0.5, 1.5])
    assert "never loses its stability" in speciation.curvature_point(near).reason


def test_a_split_in_many_dimensions_with_variances_that_differ():
    """Posteriors trade places within little noise; the Hessian at the centre in closed form.

    Across the means it is `-A + sum_k p_k P_k^2 mu_k^2`, with weights of the isotropic densities.
    """
    dim, side, variances = 2048, 60.0, np.array([1.0, 1.0, 3.0])
    means = np.zeros((3, dim))
    means[:2, 0] = side, -side
    point = speciation.curvature_point(gs.GaussianMixture.isotropic(means, variances))
    assert point.splits == (((0,), (1,)),)  # the third stays between them

    def bend(log_snr):
        total = variances + np.exp(-log_snr)
        log_p = -dim / 2 * np.log(total) - means[:, 0] ** 2 / (2 * total)
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        return float(np.sum(p * (means[:, 0] ** 2 / total**2 - 1 / total)))

    scan = np.linspace(-20, 5, 100_001)
    first = scan[np.flatnonzero(np.array([bend(x) for x in scan]) > 0)[0]]
    np.testing.assert_allclose(point.log_snr.value, first, atol=5e-4)


def test_what_parts_is_named():
    def note(means, *rest):
        return speciation.curvature_point(gs.GaussianMixture.isotropic(means, *rest)).note

    assert note([[4.0, 0.0], [-4.0, 0.0], [0.0, 0.0]], 0.3, [0.4, 0.4, 0.2]) == "0 | 1"
    assert note([[4.0], [-4.0], [2.0], [-2.0]], 0.3) == "0, 2 | 1, 3"
    triangle = gs.families.equidistant(3, 2, 9.0).means
    assert note(triangle, 1.0) == "0 | 1 | 2"
    crowd = gs.families.equidistant(40, 40, 30.0)
    assert speciation.curvature_point(crowd).note == "all 40 from each other"
    many = gs.families.equidistant(10**6, 10**6, 1e4, reduced=True)
    assert speciation.curvature_point(many).note == "all 1000000 from each other"


def test_a_process_that_ends_early_is_named():
    """Means 2e-3 apart part at less noise than DDPM has."""
    tight = gs.families.symmetric_pair(1, 1e-3, 0.0)
    reason = speciation.drift_stability(tight, gs.DDPM.linear()).reason
    assert "the cleanest of the process" in reason
    assert speciation.curvature_point(tight).log_snr.value == pytest.approx(-2 * np.log(1e-3))


@pytest.mark.parametrize("labels", [None, [0, 1, 2, 3], [0, 0, 1, 1]])
def test_a_reduction_names_what_parts_as_the_mixture_does(labels):
    both = [gs.families.equidistant(4, 8, 6.0, reduced=reduced) for reduced in (False, True)]
    full, reduced = (speciation.bifurcations(law, partition=labels)[0] for law in both)
    assert reduced.note == full.note
    assert reduced.splits == full.splits
