"""Estimators on samples of one's own: against entropies of two Gaussians by quadrature in scipy."""

import re
import subprocess
import sys

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import gmm_speciation as gs
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators import Access, LevelEstimator, own_samples
from gmm_speciation.estimators.registry import ESTIMATORS

MEAN, SPREAD, SIGMAS = 1.5, 0.6, (0.5, 1.5, 4.0)


def truth(sigma, share=0.5):
    """H(C|X) of `+-MEAN + SPREAD z + sigma eps`, class 0 with this share."""
    scale = np.hypot(SPREAD, sigma)

    def integrand(x):
        joint = np.array([share, 1 - share]) * norm.pdf(x, [MEAN, -MEAN], scale)
        p = joint / joint.sum()
        return -joint.sum() * np.sum(p * np.log(np.maximum(p, 1e-300)))

    return quad(integrand, -12 * scale, 12 * scale, limit=400)[0]


def clean(n, seed=0, dim=2, share=0.5):
    """The classes differ in the first coordinate only."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) >= share * n).astype(int)
    x = SPREAD * rng.standard_normal((n, dim))
    x[:, 0] += np.where(labels == 0, MEAN, -MEAN)
    return x, labels


def noisy(n, sigmas, seed=1, **kind):
    x, labels = clean(n, **kind)
    rng = np.random.default_rng(seed)
    return np.stack([x + s * rng.standard_normal(x.shape) for s in sigmas]), labels


@pytest.mark.parametrize(("method", "off"), [("qda", 0.03), ("lda", 0.03), ("ross", 0.06)])
def test_noisy_samples_of_one_level(method, off):
    (x,), labels = noisy(2000, [1.5], share=0.3)
    found = gs.estimate_class_entropy(x, labels, method=method)
    assert isinstance(found, gs.Estimate)
    assert abs(found.value - truth(1.5, 0.3)) < off
    assert np.isnan(found.stderr)  # it knows no error, which is not an error of 0
    # The level is a name for one set of noisy samples, no more.
    assert gs.estimate_class_entropy(x, labels, method=method, sigma=1.5).value == found.value
    assert gs.estimate_class_entropy(x, labels, method=method, log_snr=[3.0]).value == found.value
    halved = gs.estimate_class_entropy(x.astype(np.float16), labels, method=method)
    assert abs(halved.value - found.value) < 0.01


def test_several_levels_are_a_curve_in_any_order():
    x, labels = noisy(2000, SIGMAS)
    curve = gs.estimate_class_entropy(x, labels, method="qda", sigma=SIGMAS)
    np.testing.assert_allclose(curve.sigma, SIGMAS)
    np.testing.assert_allclose(curve.entropy.value, [truth(s) for s in SIGMAS], atol=0.03)
    np.testing.assert_allclose(curve.prior_entropy, np.log(2))
    back = gs.estimate_class_entropy(x[::-1], labels, method="qda", sigma=SIGMAS[::-1])
    np.testing.assert_allclose(back.entropy.value, curve.entropy.value, atol=0.01)


def test_bounds_say_so_and_have_errors():
    """Cross-entropy lies above H; for two Gaussians of one shape logistic regression is the posterior."""
    x, labels = noisy(3000, SIGMAS)
    curve = gs.estimate_class_entropy(x, labels, method="logistic", sigma=SIGMAS)
    assert curve.method == "logistic, upper bound"
    expected = np.array([truth(s) for s in SIGMAS])
    assert (np.abs(curve.entropy.value - expected) < 4 * curve.entropy.stderr + 0.005).all()
    assert (curve.rate.stderr > 0).all()
    # Slope of the middle level: through its neighbours, errors of both.
    h, s, l = np.asarray(curve.entropy.value), curve.entropy.stderr, curve.log_snr
    a, b = l[1] - l[0], l[2] - l[1]
    slope = -(b / a * (h[1] - h[0]) + a / b * (h[2] - h[1])) / (a + b)
    np.testing.assert_allclose(curve.rate.value[1], slope)
    np.testing.assert_allclose(curve.rate.value[0], -(h[1] - h[0]) / a)
    np.testing.assert_allclose(curve.rate.stderr[0], np.hypot(s[0], s[1]) / abs(a))


def test_clean_samples_get_their_noise_far_from_the_origin_too():
    x, labels = clean(4000)
    for shift in (0.0, 1e6):
        curve = gs.estimate_class_entropy(
            x + shift, labels, method="qda", sigma=SIGMAS, clean=True, seed=3
        )
        np.testing.assert_allclose(curve.entropy.value, [truth(s) for s in SIGMAS], atol=0.03)
    one = gs.estimate_class_entropy(x, labels, method="qda", sigma=1.5, clean=True)
    assert abs(one.value - truth(1.5)) < 0.03


@pytest.mark.parametrize(
    "method",
    [n for n, e in ESTIMATORS.items() if e.access is Access.NOISY and e.family != "learned"]
    + ["classifier"],
)
@pytest.mark.parametrize(
    ("unit", "origin"), [(1e-9, 0.0), (1.0, 1e7), (1e-200, 0.0), (1e200, 1e201)]
)
def test_units_and_the_origin_do_not_matter(method, unit, origin):
    (x,), labels = noisy(120, [1.5])
    x = np.round(x, 6)  # these digits are there far from the origin, too
    here, there = (
        float(gs.estimate_class_entropy(states, labels, method=method).value)
        for states in (x, unit * x + origin)
    )
    assert there == pytest.approx(here, abs=1e-3)


@pytest.mark.parametrize("method", ["ksg", "ross", "kde", "knn", "lda", "qda"])
def test_coordinates_that_are_the_same_for_all_say_nothing(method):
    (x,), labels = noisy(200, [1.5])
    padded = np.hstack([np.full((200, 30), 7.0), x, np.zeros((200, 30))])
    own, found = (gs.estimate_class_entropy(one, labels, method=method) for one in (x, padded))
    assert found.value == pytest.approx(float(own.value), abs=1e-12)
    with pytest.raises(ValueError, match="coordinate 0 of these has standard deviation 0"):
        gs.estimate_class_entropy(padded, labels, method=method, sigma=1.5)


@pytest.mark.parametrize("method", ["knn", "trees", "lda", "ross"])
def test_copies_are_no_draws_and_rounded_states_are(method):
    """A copy of a held-out state among those that were fitted is none that was held out."""
    (x,), labels = noisy(300, [1.5])
    drawn = np.random.default_rng(0).integers(0, 300, 300)
    for rows in (np.tile(np.arange(300), 2), drawn):
        with pytest.raises(ValueError, match="points repeat others and are not rounded"):
            gs.estimate_class_entropy(x[rows], labels[rows], method=method)
    own, rounded = (
        float(gs.estimate_class_entropy(states, labels, method=method).value)
        for states in (x, x.round(1))
    )
    assert rounded == pytest.approx(own, abs=0.03)


def test_units_of_samples_and_of_noise_are_one():
    x, labels = clean(400)
    own, small, large = (
        gs.estimate_class_entropy(
            unit * x, labels, method="lda-known-noise", clean=True, sigma=[1.5 * unit, unit]
        )
        for unit in (1.0, 1e-200, 1e200)
    )
    for other, unit in ((small, 1e-200), (large, 1e200)):
        np.testing.assert_allclose(other.entropy.value, own.entropy.value, atol=1e-5)
        np.testing.assert_allclose(other.log_snr, own.log_snr - 2 * np.log(unit))
    (states,), labels = noisy(400, [1.5])
    with pytest.raises(ValueError, match=r"`sigma=3e-200`.* standard deviation 1\.\d+e-200"):
        gs.estimate_class_entropy(1e-200 * states, labels, method="qda", sigma=3e-200)


def test_notes_say_what_an_interval_does_not_know():
    for method in ("minde", "learned-gap", "qda"):
        assert "error of" in own_samples.trust_note(method, np.array([0.3]), np.log(2))


@pytest.mark.parametrize(
    ("method", "sigma"),
    [
        ("classifier", (1.0, 1.5)),
        ("learned-tracking", 1.5),
        pytest.param("minde", 1.5, marks=pytest.mark.slow),
        pytest.param("infonce", (1.0, 1.5), marks=pytest.mark.slow),
    ],
)
def test_trained_estimators_on_clean_samples(method, sigma):
    x, labels = clean(2000)
    found = gs.estimate_class_entropy(x, labels, method=method, sigma=sigma, clean=True)
    value = found.value if np.ndim(sigma) == 0 else found.entropy.value
    np.testing.assert_allclose(value, [truth(s) for s in np.atleast_1d(sigma)], atol=0.12)


@pytest.mark.parametrize(
    "method", [n for n, e in ESTIMATORS.items() if e.access in (Access.SCORES, Access.MIXTURE)]
)
def test_estimators_that_need_more_are_refused_by_name(method):
    x, labels = clean(20)
    with pytest.raises(ValueError, match=f"method='{method}'.* needs .*enough for .*ross"):
        gs.estimate_class_entropy(x, labels, method=method)


@pytest.mark.parametrize("method", ["learned-gap", "learned-tracking", "minde", "qda-known-noise"])
def test_trained_estimators_ask_for_clean_samples(method):
    (x,), labels = noisy(100, [1.0])
    with pytest.raises(ValueError, match=f"{method}.*clean=True"):
        gs.estimate_class_entropy(x, labels, method=method, sigma=1.0)


def test_clean_samples_are_not_taken_for_noisy_ones():
    x, labels = clean(400)
    with pytest.raises(ValueError, match=r"standard deviation 0\.[56].*clean=True"):
        gs.estimate_class_entropy(x, labels, method="qda", sigma=1.0)
    for seed in range(20):  # the noise alone is the least that is there
        rng = np.random.default_rng(seed)
        gs.estimate_class_entropy(
            rng.standard_normal((40, 3)), np.arange(40) % 2, method="ross", sigma=1.0
        )


X, LABELS = clean(40)
BAD = {
    "Did you mean 'ross'": {"method": "rsos"},
    "one of them": {"sigma": 1.0, "log_snr": 0.0},
    "must be positive": {"sigma": -1.0},
    "finite number": {"log_snr": np.nan},
    "need those levels": {"clean": True},
    "one set a level": {"sigma": (0.1, 0.2)},
    "one label a sample": {"labels": LABELS[:-1]},
    "integers 0..C-1": {"labels": LABELS - 1},
    "finite numbers": {"x": np.where(X > 2, np.nan, X)},
    "must sum to 1": {"prior": [0.3, 0.3]},
    "each of 2 classes": {"prior": [1.0]},
    "Class 1 is empty": {"labels": 2 * LABELS},
    "two classes": {"labels": 0 * LABELS},
    "come once": {"sigma": (1.0, 1.0), "clean": True},
    "Flatten pictures": {"x": X[:, None, None]},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        gs.estimate_class_entropy(**{"x": X, "labels": LABELS, "method": "ross", **BAD[message]})


SHARED = ("ross", "ksg", "kde", "lda", "qda", "logistic", "knn")


@pytest.mark.parametrize("method", SHARED)
@pytest.mark.parametrize(("num", "prior"), [(2000, 0.8), (2000, 0.6), (100, 0.8)])
def test_samples_of_other_shares_than_the_probabilities_are_refused(method, num, prior):
    """Half of each class: a number would be H(C|X) under neither."""
    (x,), labels = noisy(num, [1.5])
    with pytest.raises(ValueError, match=r"of class 0 they have 0\.5 where those say"):
        gs.estimate_class_entropy(x, labels, method=method, prior=[prior, 1 - prior])


def test_levels_of_different_shares_are_refused():
    parts = [noisy(400, [1.5], share=share) for share in (0.5, 0.8)]
    x, labels = np.stack([part[0][0] for part in parts]), np.stack([part[1] for part in parts])
    options = {"method": "lda", "sigma": (1.5, 1.6)}
    with pytest.raises(ValueError, match="take each level by itself"):
        gs.estimate_class_entropy(x, labels, **options)
    one = gs.estimate_class_entropy(x[1], labels[1], method="lda", sigma=1.6)
    assert abs(one.value - truth(1.5, 0.8)) < 0.06


def test_shares_that_chance_makes_are_taken():
    """Draws by the probabilities, rare classes and absent ones among them: never refused."""
    rng = np.random.default_rng(5)
    for prior in (
        [0.5, 0.5],
        [0.9, 0.1],
        [0.998, 0.001, 0.001],
        np.full(30, 1 / 30),
        np.full(1000, 1e-3),  # of which few have the samples that a chi^2 needs
    ):
        for num in (40, 1000, 2000):
            for _ in range(50):
                labels = rng.choice(len(prior), size=num, p=prior)
                own_samples._check_shares(labels, np.array(prior))


@pytest.mark.parametrize(
    ("module", "method", "options"),
    [("sklearn", "qda", ""), ("flax", "classifier", ", sigma=1.0, clean=True")],
)
def test_a_missing_extra_is_one_line(module, method, options):
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "import numpy as np, gmm_speciation as gs\n"
        "x = np.random.default_rng(0).standard_normal((40, 2))\n"
        f"try: gs.estimate_class_entropy(x, np.arange(40) % 2, method={method!r}{options})\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"`method={method!r}` needs {module}, which is not installed; install the extra: "
        "pip install 'gmm-speciation[benchmark]'"
    ]


class _Sorts(LevelEstimator):
    """Writes into what all levels share."""

    title, reference = "sorted", "none"
    what = "labels"

    def level(self, x, labels, prior, rng):
        {"labels": labels, "prior": prior}[self.what].sort()
        return Estimate.exact(0.3)


class _SortsPrior(_Sorts):
    what = "prior"


@pytest.mark.parametrize("name", ["_Sorts", "_SortsPrior"])
def test_what_all_levels_share_is_read_only_and_the_callers_arrays_are_theirs(name):
    rng = np.random.default_rng(0)
    labels, prior = np.arange(100) % 2, np.array([0.5, 0.5])
    x = rng.normal(size=(2, 100, 1)) + labels[:, None]
    words = {"log_snr": [1.0, 0.0], "prior": prior, "method": f"{__name__}:{name}"}
    with pytest.raises(ValueError, match="read-only"):
        gs.estimate_class_entropy(x, np.tile(labels, (2, 1)), **words)
    prior.sort()  # and may be written to
