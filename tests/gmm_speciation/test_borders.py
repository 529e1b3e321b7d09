"""Where data come in: numpy, torch and JAX arrays say the same."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import torch

import gmm_speciation as gs
from gmm_speciation import speciation, tracking
from gmm_speciation.checks import as_float_array, as_numpy, as_states
from gmm_speciation.control import karras_times, removal_error, sliced_wasserstein, without_class
from gmm_speciation.guidance import (
    DynamicNegative,
    ExactPosterior,
    Feedback,
    Interval,
    TrackedClasses,
    TrackedRatio,
    Unguided,
)
from gmm_speciation.guidance.posteriors import check_classes
from gmm_speciation.inference import score_spread

LIBRARIES = {
    "jax": jnp.asarray,
    "numpy": np.asarray,
    "torch": lambda x: torch.tensor(np.asarray(x)),
}
MEANS = np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]])
FACTORS = np.array([[1.0, 0.0], [0.5, 1.0], [0.0, 2.0]])
BUILDERS = {
    "isotropic": lambda of: gs.GaussianMixture.isotropic(of(MEANS), of([0.5, 1.0]), of([0.3, 0.7])),
    "diagonal": lambda of: gs.GaussianMixture.diagonal(of(MEANS), of([0.5, 1.0, 2.0])),
    "full": lambda of: gs.GaussianMixture.full(of(MEANS), of(FACTORS @ FACTORS.T + np.eye(3))),
    "low_rank": lambda of: gs.GaussianMixture.low_rank(of(MEANS), of(FACTORS), of(0.5)),
}


@pytest.fixture
def mixture():
    return BUILDERS["isotropic"](jnp.asarray)


@pytest.fixture
def x(rng):
    return rng.normal(size=(7, 3))


def same_leaves(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", BUILDERS)
def test_parameters_come_from_any_library(kind, library):
    same_leaves(BUILDERS[kind](LIBRARIES[library]), BUILDERS[kind](jnp.asarray))


STATEMENTS = {
    "posterior": lambda m, x: m.posterior(x),
    "log_posterior": lambda m, x: m.log_posterior(x),
    "log_prob": lambda m, x: m.log_prob(x),
    "score": lambda m, x: m.score(x),
    "discriminant": lambda m, x: m.discriminant().posterior(x),
    "class_posterior": lambda m, x: gs.class_posterior(m, x, [0, 0]),
    "class_scores": lambda m, x: gs.class_scores(m, x),
    "denoiser": lambda m, x: gs.denoiser(m, x, 0.8, 0.6),
    "class_denoisers": lambda m, x: gs.class_denoisers(m, x, 0.8, 0.6),
    "posterior_covariance": lambda m, x: gs.posterior_covariance(m, x[0], 0.8, 0.6),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_states_come_from_any_library(name, mixture, x):
    expected = STATEMENTS[name](mixture, jnp.asarray(x))
    for convert in LIBRARIES.values():
        np.testing.assert_array_equal(STATEMENTS[name](mixture, convert(x)), expected)


@pytest.mark.parametrize("library", LIBRARIES)
def test_data_come_from_any_library(library, mixture, rng):
    of = LIBRARIES[library]
    x, labels = rng.normal(size=(64, 3)), np.arange(64) % 2
    same_leaves(gs.fit(of(x), of(labels), "diagonal"), gs.fit(x, labels, "diagonal"))
    expected = gs.entropy_curve(mixture, [1.0, 0.0, -1.0], samples=x)
    found = gs.entropy_curve(mixture, of([1.0, 0.0, -1.0]), samples=of(x))
    np.testing.assert_array_equal(found.entropy.value, expected.entropy.value)
    assert gs.Partition(of([0, 1, 1])) == gs.Partition([0, 1, 1])
    eigenvalue = gs.speciation.sample_top_eigenvalue
    assert eigenvalue(of(x)) == eigenvalue(x)
    process, times, key = gs.OrnsteinUhlenbeck(), of([1.0, 0.5, 0.1]), jax.random.key(0)
    path = gs.forward_path(of(x), process, times, key=key)
    back = gs.sample(mixture, process, times, key=key, start=of(x))
    assert path.states.shape == back.states.shape == (3, 64, 3)


def test_whole_numbers_and_lists_are_numbers(mixture):
    states = np.array([[0, 1, 2], [3, 0, 1]])
    expected = mixture.log_prob(states.astype(float))
    for given in (states, torch.tensor(states), jnp.asarray(states), states.tolist()):
        np.testing.assert_array_equal(mixture.log_prob(given), expected)
    same_leaves(
        gs.GaussianMixture.isotropic(torch.eye(2, dtype=torch.int64), 1),
        gs.GaussianMixture.isotropic(np.eye(2), 1.0),
    )


def test_precision_follows_jax():
    """float64 stays float64 with x64 on and becomes float32 with it off; float32 stays float32."""
    for double in (np.ones((2, 3)), torch.ones(2, 3, dtype=torch.float64)):
        assert as_states(double, 3).dtype == as_float_array(double, "x").dtype == jnp.float64
        with jax.enable_x64(False):
            assert as_states(double, 3).dtype == as_float_array(double, "x").dtype == jnp.float32
    assert as_states(torch.ones(3), 3).dtype == jnp.float32
    assert as_states(torch.ones(3, dtype=torch.bfloat16), 3).dtype == jnp.bfloat16
    assert as_numpy(torch.ones(3, dtype=torch.float64), "x").dtype == np.float64


def test_any_strides_are_read():
    rows = torch.arange(24.0).reshape(4, 6)
    for view in (rows[:, ::2], rows.T[:, :3], rows[:1, :3].expand(5, 3), rows[:0, :3]):
        np.testing.assert_array_equal(as_states(view, 3), np.asarray(view))


def test_a_mixture_keeps_its_own_parameters():
    """Later changes of the arrays it was made from do not reach it."""
    for of in (np.array, torch.tensor):
        variances = of(np.ones((256, 256)))
        mixture = gs.GaussianMixture.diagonal(of(np.zeros((1, 256))), variances[0])
        before = np.array(mixture.covariance.eigenvalues(256))
        variances[:] = 7.0
        np.testing.assert_array_equal(mixture.covariance.eigenvalues(256), before)


class OnAnotherDevice:
    """A tensor where JAX has no device, as DLPack shows it."""

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **options):
        raise BufferError("never asked")


REFUSED = {
    "gradients": (lambda: torch.ones(2, 3, requires_grad=True), r"without gradients.*detach"),
    "meta": (lambda: torch.ones(2, 3, device="meta"), r"`x.detach\(\).cpu\(\)`"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "dense real array"),
    "device": (OnAnotherDevice, r"on a device that JAX uses \(cpu\)"),
    "complex": (lambda: torch.ones(2, 3, dtype=torch.complex64), "real numbers; got dtype complex"),
    "text": (lambda: np.array([["a", "b", "c"]]), "numeric"),
    "width": (lambda: torch.ones(2, 4), r"\(\*batch, 3\); got \(2, 4\)"),
    "number": (lambda: 1.0, r"\(\*batch, 3\); got \(\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_a_value_error_that_says_what_to_do(name, mixture):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        mixture.posterior(make())


@pytest.mark.parametrize("name", ["denoiser", "class_denoisers", "posterior_covariance", "perturb"])
@pytest.mark.parametrize("shape", [(1,), (3,), (3, 1)])
def test_scales_of_many_levels_are_refused(name, shape, mixture, x, monkeypatch):
    """Shapes that broadcast: one a coordinate, or one a component of three."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    law = gs.GaussianMixture.isotropic(np.eye(3), 0.5) if name == "perturb" else mixture
    states = {"perturb": (), "posterior_covariance": (x[0],)}.get(name, (x,))
    function = getattr(law, name) if name == "perturb" else partial(getattr(gs, name), law)
    for alpha, sigma in ((0.8, np.full(shape, 0.6)), (np.full(shape, 0.8), 0.6)):
        with pytest.raises(ValueError, match="`alpha` and `sigma` must be numbers; got shapes"):
            function(*states, alpha, sigma)


INTERVAL = Interval(Unguided(), 0.5, 1.5)
LEVELS = (1.0, 2.0), (1.0, 1.0)  # from noise to signal
HALVES = gs.Estimate(np.zeros(3), np.ones(3))
SILENT = {  # what broadcasts, is left out, converted or computed with: without a check a wrong number
    "log_prior of a column": (
        lambda m, x: check_classes(TrackedClasses(0, np.zeros((2, 1))), 2),
        r"got shape \(2, 1\)",
    ),
    "log_prior of some": (
        lambda m, x: gs.sample(
            gs.GaussianMixture.isotropic(np.eye(3), 0.1),
            gs.OrnsteinUhlenbeck(),
            [1.0, 0.1],
            key=jax.random.key(0),
            num_samples=2,
            guidance=DynamicNegative(0, 1.0, TrackedClasses(0, np.log([0.5, 0.5]))),
        ),
        r"log-prior of all 3 classes; got shape \(2,\)",
    ),
    "log_prior of some, removed": (
        lambda m, x: removal_error(
            gs.GaussianMixture.isotropic(np.eye(3), 0.1),
            DynamicNegative(0, 1.0, TrackedClasses(0, np.log([0.5, 0.5]))),
            0,
            [1.0, 0.0],
            key=jax.random.key(0),
        ),
        "log-prior of all 3 classes",
    ),
    "column of parameters": (
        lambda m, x: TrackedRatio(0, np.full((7, 1), 0.5)),
        r"must be numbers; got shape \(7, 1\)",
    ),
    "ends of coordinates": (lambda m, x: Interval(Unguided(), [1.0, 2.0, 3.0], 4.0), "be numbers"),
    "floor": (lambda m, x: TrackedRatio(0, 0.5, floor=1.0, ceiling=0.0), "not above `ceiling`"),
    "purity": (
        lambda m, x: Feedback(0, 5.0, TrackedRatio(0, 0.5)),
        r"`purity` must lie in \(0, 1\]",
    ),
    "rho": (lambda m, x: karras_times(gs.OrnsteinUhlenbeck(), 4, rho=0), "`rho` > 0"),
    "no class": (lambda m, x: without_class(m, 0.5), "must be a class, 0 to 1"),
    "range": (
        lambda m, x: gs.speciation.cloning_point(m, log_snr_range=(3.0, -3.0)),
        "low < high; got",
    ),
    "complex value": (lambda m, x: gs.Estimate(np.array([1j]), np.zeros(1)), "real numbers"),
    "prior": (lambda m, x: TrackedRatio(0, 5), r"must be probabilities, .* got 5\.0, 0\.99"),
    "prior NaN": (lambda m, x: TrackedRatio(0, np.nan), "must be numbers; got nan"),
    "max_posterior": (
        lambda m, x: TrackedRatio(0, 0.5, max_posterior=2.0),
        r"must be probabilities, .* got 0\.5, 2\.0",
    ),
    "rising noise": (lambda m, x: tracking.reverse_kernel(x, x, *LEVELS[::-1]), "from noise to"),
    "rising sigma": (lambda m, x: tracking.reverse_kernel(x, x, 0.5, 0.6), "from noise to signal"),
    "prior of a column": (
        lambda m, x: tracking.ratio_to_unconditional(np.full((7, 1), 0.5), x[:, 0]),
        r"one a log-ratio, \(7,\); got \(7, 1\)",
    ),
    "prior of a ratio": (
        lambda m, x: tracking.ratio_to_unconditional(2.0, x[:, 0]),
        r"in \[0, 1\]",
    ),
    "base rate": (lambda m, x: tracking.repaired_forced_prior(1.5, x[:, 0]), r"in \[0, 1\]"),
    "base rate of all": (lambda m, x: tracking.repaired_forced_prior(1, x[:, 0]), "below 1"),
    "other components": (
        lambda m, x: gs.Partition([0, 1, 1]).log_sum(np.zeros((4, 2))),
        r"the 3 components; got shape \(4, 2\)",
    ),
    "other classes": (lambda m, x: gs.Partition([0, 1]).log_sum(np.zeros(3)), "the 2 components"),
    "weights": (lambda m, x: gs.denoiser(m, x, 1.0, 0.5, np.ones((7, 2))), "sum to 1"),
    "weights NaN": (lambda m, x: gs.denoiser(m, x, 1.0, 0.5, np.full((7, 2), np.nan)), "sum to 1"),
    "negative noise": (lambda m, x: gs.denoiser(m, x, 1.0, -0.5), "`sigma` .* not negative"),
    "no noise level": (lambda m, x: gs.class_denoisers(m, x, np.nan, 0.5), "`alpha` .* got nan"),
    "noise of a process": (lambda m, x: m.perturb(0.5, np.inf), "`sigma` .* got inf"),
    "stderr": (lambda m, x: gs.Estimate(1.0, -0.1), "`stderr` must not be negative"),
    "difference": (lambda m, x: HALVES - HALVES[:, None], r"got shapes \(3,\) and \(3, 1\)"),
    "complex points": (
        lambda m, x: gs.fit(x + 1j, np.arange(7) % 2),
        "real numbers; got dtype comp",
    ),
    "text points": (lambda m, x: gs.fit(x.astype(str), np.arange(7) % 2), "got dtype <U"),
    "text weights": (
        lambda m, x: gs.fit(x, np.arange(7) % 2, sample_weight=["1"] * 7),
        "`sample_weight` must be real numbers",
    ),
    "text of a mixture": (
        lambda m, x: gs.GaussianMixture.isotropic(MEANS, 1.0, ["0.5", "0.5"]),
        "`weights` must be real numbers",
    ),
    "tail": (lambda m, x: gs.transition_grid(m, tail=0.7), r"inside \(0, 1/2\)"),
    "tail of all": (lambda m, x: gs.transition_grid(m, tail=-1.0), r"inside \(0, 1/2\)"),
    "column of levels": (
        lambda m, x: INTERVAL.guided_steps([[2.0], [1.0]]),
        "a number or a vector",
    ),
    "rising levels": (lambda m, x: INTERVAL.guided_steps([1.0, 2.0]), "decrease strictly"),
    "negative levels": (lambda m, x: INTERVAL.guided_steps([1.0, -2.0]), "to 0 or above"),
    "rising times": (
        lambda m, x: INTERVAL.guided_steps(gs.OrnsteinUhlenbeck(), [0.1, 1.0]),
        "decrease strictly",
    ),
    "no times": (
        lambda m, x: INTERVAL.guided_steps(gs.OrnsteinUhlenbeck()),
        "`times` must be real",
    ),
    "images": (
        lambda m, x: sliced_wasserstein(
            jnp.ones((2, 3, 3)), jnp.ones((2, 3, 3)), key=jax.random.key(0)
        ),
        r"\(n, d\), a point a row",
    ),
    "source of other classes": (
        lambda m, x: ExactPosterior(m, 0, [0, 0, 1]).step((), x, (1.0, 0.5), None),
        "each of the 2 components or classes; got labels of 3",
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_would_give_a_wrong_number_is_refused(name, mixture, x, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    call, message = SILENT[name]
    with pytest.raises(ValueError, match=message):
        call(mixture, x)


def test_checks_of_values_let_traced_ones_pass(mixture, x):
    """Under jit no value is known where the checks stand."""
    weights = jnp.full((7, 2), 0.5)

    @jax.jit
    def read(x, prior, noise, weights):
        mean, _ = tracking.reverse_kernel(x, x, (1.0, noise), (1.0, noise / 2))
        kept = TrackedRatio(0, prior).prior * gs.Estimate(mean, abs(mean)).value[:, 0]
        return (
            kept
            + gs.denoiser(mixture, x, 1.0, noise, weights)[:, 0]
            + tracking.ratio_to_unconditional(prior, x[:, 0])
            + tracking.repaired_forced_prior(prior, -abs(x[:, 0]))
        )

    given = jnp.asarray(x), jnp.asarray(0.5), jnp.asarray(2.0), weights
    with jax.disable_jit():
        expected = read(*given)
    np.testing.assert_allclose(read(*given), expected, rtol=1e-12)
    np.testing.assert_allclose(
        jax.vmap(read, (0, None, None, None))(given[0][None], *given[1:])[0], expected, rtol=1e-12
    )


def test_labels_are_a_partition_wherever_one_is_asked_for(mixture, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    assert ExactPosterior(mixture, 0, [0, 0]).partition == gs.Partition([0, 0])
    assert gs.Hierarchy([[0, 0], np.array([0, 1])])[1] == gs.Partition([0, 1])
    for fields in ((MEANS, np.eye(3)), (MEANS, np.eye(3), [0.5, 0.5]), (MEANS,) * 4):
        with pytest.raises(
            TypeError, match=r"`GaussianMixture.full\(means, covariances, weights\)`"
        ):
            gs.GaussianMixture(*fields)


def test_fits_and_partitions_refuse_gradients_alike():
    with pytest.raises(ValueError, match="without gradients"):
        gs.fit(torch.ones(4, 2, requires_grad=True), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="without gradients"):
        gs.GaussianMixture.isotropic(torch.ones(2, 2, requires_grad=True), 1.0)


def test_no_array_library_but_ours_is_imported():
    import subprocess
    import sys

    code = "import sys, gmm_speciation as gs; gs.GaussianMixture; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tensors_do_not_compile_anew(mixture, caplog):
    """A tensor is a traced argument like any array: one program serves all of one shape."""

    def compiled(states):
        caplog.clear()
        with jax.log_compiles():
            mixture.posterior(states)
        return [r for r in caplog.records if r.getMessage().startswith("Compiling")]

    jax.clear_caches()  # of what other tests compiled
    assert compiled(torch.ones(5, 3))
    assert not compiled(torch.zeros(5, 3))
    assert not compiled(np.zeros((5, 3), np.float32))


CLASSWISE = {
    "class_posterior": lambda m, x, p: gs.class_posterior(m, x, p),
    "class_scores": lambda m, x, p: gs.class_scores(m, x, p),
    "class_denoisers": lambda m, x, p: gs.class_denoisers(m, x, 0.6, 0.8, p),
    "score_spread": lambda m, x, p: score_spread(m, x, p),
    "class_entropy": lambda m, x, p: gs.class_entropy(m, 0.0, partition=p).value,
    "prior_entropy": lambda m, x, p: gs.prior_entropy(m, p),
    "between_class_eigenvalue": lambda m, x, p: speciation.between_class_eigenvalue(m, p),
}


@pytest.mark.parametrize("name", CLASSWISE)
def test_labels_come_from_any_library(name):
    mixture = gs.GaussianMixture.isotropic([[0.0, 1.0], [2.0, 0.0], [-1.0, 3.0]], [0.5, 1.0, 2.0])
    x, labels = np.ones((2, 2)), [0, 1, 0]
    forms = [labels, tuple(labels), np.array(labels, np.uint8)]
    forms += [of(np.array(labels)) for of in LIBRARIES.values()]
    expected = CLASSWISE[name](mixture, x, gs.Partition(labels))
    for form in forms:
        np.testing.assert_array_equal(CLASSWISE[name](mixture, x, form), expected)
