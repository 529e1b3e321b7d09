"""Cloning: thresholds in closed form, errors that cover, and simulation against the exact phi."""

import jax
import numpy as np
import pytest
from scipy import stats

import gmm_speciation as gs
from gmm_speciation import exact, speciation


@pytest.mark.parametrize(("dim", "variance"), [(1, 0.1), (16, 1.0), (1024, 2.0)])
def test_two_equal_classes_clone_alike_at_phi_0775(dim, variance):
    """(phi - 1/2) / (1/2) = 0.55; phi = 0.775 lies at kappa = 1 to two digits."""
    mixture = gs.families.symmetric_pair(dim, 1.0, variance)
    point = speciation.cloning_point(mixture)
    kappa = gs.decision_snr(mixture, point.log_snr.value)
    np.testing.assert_allclose(exact.clone_agreement(kappa), 0.775, rtol=1e-8)
    np.testing.assert_allclose(kappa, 1, atol=0.01)
    assert float(point.log_snr.stderr) == 0


def test_the_threshold_is_a_share_of_the_way_from_chance():
    """Two classes of weights 0.2 and 0.8: chance 0.68, 0.55 of the way is 0.856."""
    mixture = gs.GaussianMixture.isotropic([[-3.0], [3.0]], 0.5, [0.2, 0.8])
    np.testing.assert_allclose(speciation.chance_agreement(mixture), 0.68, rtol=1e-12)
    point = speciation.cloning_point(mixture)
    phi = gs.clone_agreement(mixture, point.log_snr.value).value
    np.testing.assert_allclose(phi, 0.68 + 0.55 * 0.32, rtol=1e-8)
    # More agreement needs more signal.
    shares = [float(speciation.cloning_point(mixture, share=s).log_snr.value) for s in (0.3, 0.7)]
    assert shares[0] < float(point.log_snr.value) < shares[1]


def test_a_sampled_root_has_an_honest_error():
    """A monotone function sampled with Gaussian noise: its root scatters as it says."""
    noise = np.random.default_rng(3).normal(size=(200, 400))
    scores = []
    for draws in noise:
        function = lambda t, draws=draws: gs.Estimate.from_samples(np.tanh(t) + 0.3 * draws)  # noqa: E731
        root = speciation.roots.sampled_root(function, np.tanh(0.4), -3.0, 3.0)
        scores.append((root.value - 0.4) / root.stderr)
    assert stats.kstest(scores, "norm").pvalue > 1e-3


def test_the_cloning_point_does_not_depend_on_the_draws():
    """Five classes of unequal variance: one point within the error, whatever the seed."""
    mixture = gs.GaussianMixture.isotropic(np.diag([4.0, 5.0, 6.0, 7.0, 8.0]), np.arange(1.0, 6.0))
    points = [
        speciation.cloning_point(
            mixture, log_snr_range=(-8.0, 6.0), num_samples=1024, key=jax.random.key(seed)
        ).log_snr
        for seed in range(3)
    ]
    for point in points[1:]:
        error = np.hypot(point.stderr, points[0].stderr)
        assert abs(point.value - points[0].value) <= 4 * error + 1e-8


def test_where_clones_never_agree_there_is_no_point():
    reason = lambda mixture: speciation.cloning_point(mixture).reason  # noqa: E731
    assert "never agree so often" in reason(gs.families.symmetric_pair(1, 0.5))
    single = gs.families.equidistant(1, 2, 1.0)
    assert "single class" in reason(single)
    with pytest.raises(ValueError, match="inside"):
        speciation.cloning_point(single, share=1.0)
    with pytest.raises(ValueError, match="begin `log_snr_range` at more noise"):
        speciation.cloning_point(gs.families.symmetric_pair(64), log_snr_range=(0.0, 5.0))


@pytest.mark.parametrize("method", ["euler", "sde"])
def test_simulated_clones_agree_as_phi_says(method, key):
    """|m|^2 = 64 at s = 1 on the line along m, which is the pair of d = 64 exactly."""
    mixture, times = gs.families.symmetric_pair(1, 8.0), [1.0, 1.5, 2.0, 2.5, 3.0, 5.0]
    found = speciation.simulate_cloning(
        mixture,
        gs.OrnsteinUhlenbeck(),
        times,
        key=key,
        start_time=6.0,
        num_steps=600,
        num_pairs=1500,
        method=method,
    )
    phi = gs.clone_agreement(gs.families.symmetric_pair(64), found.log_snr).value
    for estimate in (found.same_class, found.agreement):
        assert np.all(np.abs(estimate.value - phi) < 4 * estimate.stderr + 1e-3)
    np.testing.assert_allclose(found.times, times, atol=1e-9)
    # Clones part in the window around t_S = log(64) / 2: certain before it, at chance after it.
    assert found.same_class.value[0] > 0.98
    assert found.same_class.value[-1] < 0.56


def test_overlapping_classes_are_cloned_by_their_posterior(key):
    """The mean of sum_c p p' is phi where clean classes overlap; the argmax says more than that."""
    mixture, process = gs.families.symmetric_pair(1, 1.0, 1.0), gs.OrnsteinUhlenbeck()
    times = [0.0, 0.3, 1.0]
    found = speciation.simulate_cloning(
        mixture, process, times, key=key, start_time=4.0, num_steps=400, num_pairs=4000
    )
    phi = np.r_[exact.clone_agreement(1.0), gs.clone_agreement(mixture, found.log_snr[1:]).value]
    assert np.all(np.abs(found.agreement.value - phi) < 4 * found.agreement.stderr)
    assert found.same_class.value[0] == 1  # not branched at all


@pytest.mark.slow
def test_clones_of_a_partition_and_the_order_of_branch_times(key):
    """Groups {-8, -4} | {6, 8} are decided at more noise than the components."""
    mixture, (groups, leaves) = gs.families.paper_toy(0.05)
    process, times = gs.OrnsteinUhlenbeck(), [0.5, 2.5, 1.2]
    phi = {}
    for name, partition in {"groups": groups, "leaves": leaves}.items():
        found = speciation.simulate_cloning(
            mixture,
            process,
            times,
            key=key,
            start_time=6.0,
            num_steps=300,
            num_pairs=600,
            partition=partition,
        )
        np.testing.assert_allclose(found.times, times, atol=0.011)
        exactly = gs.clone_agreement(mixture, found.log_snr, partition=partition)
        error = np.hypot(found.agreement.stderr, exactly.stderr)
        assert np.all(np.abs(found.agreement.value - exactly.value) < 4 * error + 5e-3)
        phi[name] = found.agreement.value
    assert np.all(phi["groups"] >= phi["leaves"])
    assert phi["groups"][0] > phi["groups"][2] > phi["groups"][1]


def test_bad_experiments_are_refused(key):
    mixture, process = gs.families.symmetric_pair(1), gs.OrnsteinUhlenbeck()
    run = lambda times, **more: speciation.simulate_cloning(  # noqa: E731
        mixture, process, times, key=key, **more
    )
    with pytest.raises(ValueError, match="the simulated range"):
        run([11.0])
    with pytest.raises(ValueError, match="must be 'euler' or 'sde'"):
        run([1.0], method="ode")
    with pytest.raises(ValueError, match="`num_pairs` must be a whole number of at least 2"):
        run([1.0], num_pairs=1)
