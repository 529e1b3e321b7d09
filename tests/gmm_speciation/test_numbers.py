"""What is no number is refused by name, wherever numbers are given: grids, scales, samples, parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import asymptotics, control, guidance, hopfield, published, speciation
from gmm_speciation.checks import as_count
from gmm_speciation.guidance import Interval, TrackedRatio, Unguided
from gmm_speciation.guidance.formulae import feedback_temperature

PATTERNS = np.eye(3)
# What a call is about, by parameter; the rest is valid.
NUMERIC = {
    "guided_curve": (guidance.guided_curve, {"kappa": [0.5, 1.0]}, {"scale": 2.0}),
    "interval_gain": (guidance.interval_gain, {"edges": [0.5, 1.0]}, {"scale": 2.0}),
    "guided_classes": (
        guidance.guided_classes,
        {"s": [0.5, 1.0]},
        {"num_classes": 3, "scale": 2.0, "key": jax.random.key(0)},
    ),
    "feedback_temperature": (feedback_temperature, {"levels": [2.0, 1.0]}, {}),
    "Interval.guided_steps": (
        Interval(Unguided(0), 0.5, 2.0).guided_steps,
        {"times": [2.0, 1.0]},
        {"process": gs.VarianceExploding()},
    ),
    "clock_windows": (asymptotics.clock_windows, {"dim": [64.0, 256.0]}, {}),
    "criteria_by_classes": (asymptotics.criteria_by_classes, {"num_classes": [2.0, 3.0]}, {}),
    "many_class_limit": (asymptotics.many_class_limit, {"u": [0.5, 1.0]}, {}),
    "fit_scaling": (
        asymptotics.fit_scaling,
        {"dims": [16.0, 64.0, 256.0], "times": [1.0, 2.0, 3.0]},
        {},
    ),
    "full_width": (
        asymptotics.full_width,
        {"position": np.arange(5.0), "rate": [0.0, 1.0, 3.0, 1.0, 0.0]},
        {},
    ),
    "SeparatedMeans.speciation_time": (
        asymptotics.SeparatedMeans().speciation_time,
        {"dim": [16.0, 64.0]},
        {},
    ),
    "EqualMeans.curve": (asymptotics.EqualMeans().curve, {"offset": [-1.0, 0.0]}, {}),
    "excess_entropy": (
        speciation.excess_entropy,
        {"log_snr": [0.0, 1.0]},
        {"num_points": 9, "dim": 2},
    ),
    "index_entropy": (
        speciation.index_entropy,
        {"log_snr": [0.0, 1.0], "points": PATTERNS},
        {"num_samples": 8},
    ),
    "sample_top_eigenvalue": (speciation.sample_top_eigenvalue, {"x": PATTERNS}, {}),
    "clone_pairs": (
        published.clone_pairs,
        {"dims": [16.0, 64.0], "branch_times": [0.5, 1.0]},
        {"key": jax.random.key(0)},
    ),
    "deep_hierarchy": (published.deep_hierarchy, {"distances": [10.0, 1.0]}, {}),
    "energy": (hopfield.energy, {"patterns": PATTERNS, "xi": np.ones(3)}, {"beta": 1.0}),
    "effective_beta": (hopfield.effective_beta, {"beta": [1.0, 2.0]}, {"patterns": PATTERNS}),
    "potts_energy": (
        hopfield.potts_energy,
        {"s": [0.1, 0.5], "beta_eff": [1.0, 2.0]},
        {"num_patterns": 5},
    ),
    "pattern_transitions": (hopfield.pattern_transitions, {"patterns": PATTERNS}, {}),
    "hysteresis_loop": (
        hopfield.hysteresis_loop,
        {"beta_eff": [1.0, 2.0, 3.0]},
        {"patterns": PATTERNS, "index": 0},
    ),
    "outcome": (
        control.outcome,
        {"states": np.eye(2)},
        {"mixture": gs.families.symmetric_pair(2), "label": 0, "key": jax.random.key(0)},
    ),
    "sliced_wasserstein": (
        control.sliced_wasserstein,
        {"x": np.eye(2), "y": np.eye(2)},
        {"key": jax.random.key(0)},
    ),
    "sample": (
        gs.sample,
        {"start": np.eye(2), "times": [1.0, 0.5]},
        {
            "mixture": gs.families.symmetric_pair(2),
            "process": gs.OrnsteinUhlenbeck(),
            "key": jax.random.key(0),
        },
    ),
    "decision_snr": (
        gs.decision_snr,
        {"log_snr": [0.0, 1.0]},
        {"mixture": gs.families.symmetric_pair(2)},
    ),
}
NO_NUMBERS = {
    "NaN": lambda x: np.where(np.arange(x.size).reshape(x.shape) == x.size - 1, np.nan, x),
    "masked": lambda x: np.ma.masked_equal(x, x.flat[0]),
    "complex": lambda x: x + 1j,
    "text": lambda x: x.astype(str),
}


@pytest.mark.parametrize("spoilt", NO_NUMBERS)
@pytest.mark.parametrize(
    ("name", "parameter"), [(name, one) for name, (_, data, _) in NUMERIC.items() for one in data]
)
def test_what_is_no_number_is_refused_by_name(name, parameter, spoilt):
    """Numpy would take what is under a mask, drop an imaginary part, read text, and hand NaN on."""
    function, data, rest = NUMERIC[name]
    bad = NO_NUMBERS[spoilt](np.asarray(data[parameter]))
    with pytest.raises(ValueError, match=f"`{parameter}`"):
        function(**{**data, **rest, parameter: bad})


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: guidance.ClassifierFree(0, np.nan), "finite; got nan"),
        (lambda: guidance.NegativePrompt(0, [1.0, np.inf]), "finite; got"),
        (lambda: guidance.NegativePrompt(0, 1.0, scale=jnp.inf), "finite; got inf"),
        (lambda: Interval(Unguided(0), np.nan, 1.0), "numbers; got nan"),
        (lambda: TrackedRatio(0, 0.5, temperature=np.array(1j)), "must be real numbers"),
        (lambda: guidance.scheduled_curve([(np.nan, 2.0)], [0.5]), "`schedule` must not be NaN"),
        (lambda: guidance.scheduled_curve([], [0.5]), "increasing ends and finite scales"),
        (lambda: asymptotics.EqualMeans((np.nan, 1.0)), "`variances`"),
        (lambda: asymptotics.EqualMeans((0.5, np.inf)), "`variances`"),
        (lambda: speciation.gaussian_collapse(9, 3, np.nan), "finite; got 9, 3 and nan"),
        (lambda: speciation.gaussian_collapse(9, 3, np.inf), "finite; got 9, 3 and inf"),
        (lambda: speciation.spectral_point(np.nan), "`eigenvalue` must be finite"),
        (lambda: guidance.interval_gain(2.0, [0.5, 1.0], read_out=np.nan), "read-out, nan"),
        (lambda: hopfield.beta_from_effective(PATTERNS, -1.0), "`beta_eff` must be positive"),
    ],
)
def test_numbers_of_a_call_are_numbers(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_nothing_is_known_of_a_point_in_pure_noise():
    """H(I|X) at log-SNR -inf is log n, as H(C|X) is log K."""
    found = speciation.index_entropy(PATTERNS, [-np.inf, np.inf], num_samples=8)
    np.testing.assert_allclose(found.value, [np.log(3), 0.0], atol=1e-12)


PAIR, CLOCK = gs.families.symmetric_pair(1), gs.VarianceExploding()
GRIDS = {
    "karras": (
        lambda **ends: control.karras_times(CLOCK, 4, **ends),
        ("sigma_min", "sigma_max", "rho"),
    ),
    "entropic": (
        lambda **ends: control.entropic_times(PAIR, CLOCK, 4, num_samples=8, **ends),
        ("sigma_min", "sigma_max"),
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("bad", ["0.1", None, True, np.True_, 1j, [0.1, 0.2], np.array([0.1])])
@pytest.mark.parametrize(("make", "names"), GRIDS.values(), ids=GRIDS)
def test_ends_of_a_grid_are_one_number_each(make, names, bad):
    for name in names:
        with pytest.raises(ValueError, match=f"`{name}` must be (one number|real numbers); got"):
            make(**{name: bad})


@pytest.mark.parametrize("of", ["state", "class"])
def test_ends_of_a_grid_whose_squares_are_no_numbers_are_refused(of):
    for ends in ({"sigma_min": 1e-300}, {"sigma_max": 1e300}, {"sigma_max": np.inf}):
        with pytest.raises(ValueError, match=r"0 < `sigma_min` < `sigma_max` .* both a number"):
            control.entropic_times(PAIR, CLOCK, 4, of=of, **ends)
    times = control.entropic_times(PAIR, CLOCK, 4, of=of, sigma_min=1e-9, sigma_max=1e9)
    assert np.all(np.diff(times) < 0)


BOOLEANS = {
    "count": lambda flag: as_count(flag, "n"),
    "array": lambda flag: as_count(np.array(flag), "n"),
    "dimension": lambda flag: asymptotics.clock_windows([flag]),
    "scale": lambda flag: guidance.guided_curve(flag, [0.5, 1.0]),
    "scale in a window": lambda flag: guidance.interval_gain(flag, [0.1, 1.0]),
    "read-out": lambda flag: guidance.interval_gain(2.0, [0.1, 1.0], read_out=flag),
    "prior": lambda flag: guidance.guided_curve(2.0, [0.5, 1.0], prior=flag),
    "end": lambda flag: Interval(Unguided(0), 0.5, flag),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("flag", [True, np.True_])
@pytest.mark.parametrize("make", BOOLEANS.values(), ids=BOOLEANS)
def test_booleans_are_neither_counts_nor_numbers(make, flag):
    with pytest.raises(
        ValueError, match=r"whole number of at least|must be real numbers; got dtype bool"
    ):
        make(flag)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("bad", ["0.5", None, 1j, [0.5, 0.6]])
def test_scalars_of_a_guided_curve_are_named(bad):
    for name, make in {
        "scale": lambda x: guidance.guided_curve(x, [0.5, 1.0]),
        "prior": lambda x: guidance.guided_curve(2.0, [0.5, 1.0], prior=x),
        "read_out": lambda x: guidance.interval_gain(2.0, [0.1, 1.0], read_out=x),
    }.items():
        with pytest.raises(ValueError, match=f"`{name}` must"):
            make(bad)
