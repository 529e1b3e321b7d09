"""Mixtures from data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import gmm_speciation as gs


@pytest.fixture
def data(rng):
    labels = np.repeat([0, 1, 2], [60, 90, 50])
    roots = rng.normal(size=(3, 4, 4))
    x = np.einsum("nij,nj->ni", roots[labels], rng.normal(size=(200, 4))) + 3 * labels[:, None]
    return x, labels


def test_full_fit_is_the_class_moments(data):
    x, labels = data
    mixture = gs.fit(x, labels)
    np.testing.assert_allclose(mixture.weights, [0.3, 0.45, 0.25])
    for c in range(3):
        np.testing.assert_allclose(mixture.means[c], x[labels == c].mean(0))
        expected = np.cov(x[labels == c].T, bias=True)
        np.testing.assert_allclose(mixture.covariance.matrices(4)[c], expected, rtol=1e-9)


def test_fits_are_discriminant_analysis(data):
    """Own covariances give QDA, a shared one LDA: posteriors of scikit-learn."""
    from sklearn.discriminant_analysis import (
        LinearDiscriminantAnalysis,
        QuadraticDiscriminantAnalysis,
    )

    x, labels = data
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(x, labels)
    shared = gs.fit(x, labels, shared=True)
    np.testing.assert_allclose(shared.covariance.matrices(4)[0], lda.covariance_, rtol=1e-9)
    np.testing.assert_allclose(shared.posterior(jnp.asarray(x)), lda.predict_proba(x), atol=1e-8)
    qda = QuadraticDiscriminantAnalysis(store_covariance=True).fit(x, labels)
    np.testing.assert_allclose(
        gs.fit(x, labels).posterior(jnp.asarray(x)), qda.predict_proba(x), atol=1e-8
    )


def test_shrinkage_keeps_the_trace_and_ends_isotropic(data):
    x, labels = data
    free, half, one = (gs.fit(x, labels, shrinkage=rho) for rho in (0.0, 0.5, 1.0))
    traces = [np.trace(m.covariance.matrices(4), axis1=1, axis2=2) for m in (free, half, one)]
    np.testing.assert_allclose(traces[1], traces[0])
    isotropic = gs.fit(x, labels, "isotropic")
    np.testing.assert_allclose(
        one.log_prob(jnp.asarray(x)), isotropic.log_prob(jnp.asarray(x)), rtol=1e-9
    )


def test_low_rank_fits_are_probabilistic_principal_components(data):
    """Covariances of scikit-learn's PCA (divided by n - 1 there), with and without shrinkage."""
    from sklearn.decomposition import PCA

    x, labels = data
    mixture = gs.fit(x, labels, "low-rank", rank=2)
    for c in range(3):
        group = x[labels == c]
        expected = PCA(2).fit(group).get_covariance() * (1 - 1 / len(group))
        np.testing.assert_allclose(mixture.covariance.matrices(4)[c], expected, rtol=1e-9)
    own, full = (
        gs.fit(x, labels, kind, shrinkage=0.3, shared=True, rank=rank).covariance.matrices(4)
        for kind, rank in (("low-rank", 3), ("full", None))
    )
    np.testing.assert_allclose(own, full, rtol=1e-9)
    few = gs.fit(x[58:62], labels[58:62], "low-rank", rank=3)  # two points a class
    assert np.isfinite(few.log_prob(x)).all()
    rho, _ = gs.best_shrinkage(x, labels, "low-rank", rank=1)
    assert 0 <= rho <= 1


def test_cross_validation_shrinks_when_data_are_few(rng):
    """20 points in 15 dimensions: the singular covariance loses on held-out points; many points do not."""
    x = rng.normal(size=(2000, 15))
    labels = np.arange(2000) % 2
    rho_few, scores = gs.best_shrinkage(x[:40], labels[:40])
    rho_many, _ = gs.best_shrinkage(x, labels)
    assert rho_few > 0.2
    assert scores.max() == scores[list(gs.fitting.SHRINKAGES).index(rho_few)]
    truth = gs.fit(x, labels, shrinkage="cross-validated")
    np.testing.assert_allclose(
        truth.covariance.matrices(15), gs.fit(x, labels, shrinkage=rho_many).covariance.matrices(15)
    )


def test_fit_recovers_a_mixture():
    mixture = gs.families.equidistant(3, 4, 5.0, variance=0.5)
    x, component = mixture.sample(jax.random.key(0), 20_000)
    fitted = gs.fit(x, component, "isotropic")
    np.testing.assert_allclose(fitted.means, mixture.means, atol=0.05)
    np.testing.assert_allclose(fitted.covariance.variance, 0.5, atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, 0], y), r"\(n, d\)"),
        (lambda x, y: (x, y[:-1]), "one label a point"),
        (lambda x, y: (np.where(x > 0, np.nan, x), y), "finite"),
        (lambda x, y: (x, y + 1), "Class 0 is empty"),
        (lambda x, y: (x, np.where(y == 2, 10**15, y)), "Class 2 is empty"),
        (lambda x, y: (x, y.astype(float)), "integers"),
        (lambda x, y: (x[:61], y[:61]), "single point"),
    ],
)
def test_bad_data(data, change, message):
    with pytest.raises(ValueError, match=message):
        gs.fit(*change(*data))


def test_bad_options(data):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        gs.fit(*data, shrinkage=1.5)
    for function in (gs.fit, gs.best_shrinkage):
        with pytest.raises(ValueError, match="'isotropic', 'diagonal', 'full' or 'low-rank'"):
            function(*data, "round")
        for options in ({"covariance": "low-rank"}, {"rank": 2}):
            with pytest.raises(ValueError, match="go together"):
                function(*data, **options)
        with pytest.raises(ValueError, match="below the dimension"):
            function(*data, "low-rank", rank=4)
    for folds in (1, 0, -1):
        with pytest.raises(ValueError, match="`num_folds` must be at least 2"):
            gs.best_shrinkage(*data, num_folds=folds)


OPTIONS = [
    {
        "covariance": kind,
        "shared": shared,
        "rank": 2 if kind == "low-rank" else None,
        "shrinkage": rho,
    }
    for kind in gs.fitting.KINDS
    for shared in (False, True)
    for rho in (0.0, 0.3)
    if not (kind == "isotropic" and rho)
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_whole_weights_are_copies_of_points(data, rng, options):
    x, labels = data
    counts = rng.integers(0, 5, len(x))
    weighted = gs.fit(x, labels, sample_weight=counts, **options)
    copied = gs.fit(np.repeat(x, counts, 0), np.repeat(labels, counts), **options)
    np.testing.assert_allclose(weighted.weights, copied.weights, rtol=1e-12)
    np.testing.assert_allclose(weighted.means, copied.means, rtol=1e-12)
    np.testing.assert_allclose(
        weighted.covariance.matrices(4), copied.covariance.matrices(4), rtol=1e-9, atol=1e-12
    )
    # Only the ratios of weights matter, however large.
    scaled = gs.fit(x, labels, sample_weight=counts * 1e306, **options)
    np.testing.assert_allclose(scaled.log_prob(x), weighted.log_prob(x), rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_real_weights_against_numpy(data, rng, kind, dtype):
    x, labels = data[0].astype(dtype), data[1]
    w = rng.exponential(size=len(x))
    mixture = gs.fit(x, labels, kind, sample_weight=w)
    assert mixture.centre.dtype == dtype
    rtol = 1e-9 if dtype == "float64" else 2e-4
    np.testing.assert_allclose(mixture.weights, np.bincount(labels, w) / w.sum(), rtol=rtol)
    for c in range(3):
        own = labels == c
        expected = np.cov(x[own].T.astype(float), aweights=w[own], ddof=0)
        if kind != "full":
            expected = np.diag(np.diag(expected))
        if kind == "isotropic":
            expected = np.eye(4) * np.trace(expected) / 4
        np.testing.assert_allclose(
            mixture.means[c], np.average(x[own].astype(float), 0, w[own]), rtol=rtol
        )
        found = np.broadcast_to(mixture.covariance.matrices(4), (3, 4, 4))[c]
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


def test_cross_validation_with_weights(data, rng):
    """Equal weights are none, and points that count nothing are not there."""
    x, labels = data
    rho, scores = gs.best_shrinkage(x, labels)
    np.testing.assert_allclose(
        gs.best_shrinkage(x, labels, sample_weight=np.full(len(x), 3.0))[1], scores, rtol=1e-12
    )
    junk = np.concatenate([x, 1e3 * rng.normal(size=(50, 4))])
    weights = np.concatenate([np.ones(len(x)), np.zeros(50)])
    more = np.concatenate([labels, np.zeros(50, int)])
    found, with_junk = gs.best_shrinkage(junk, more, sample_weight=weights)
    assert found == rho
    np.testing.assert_allclose(with_junk, scores, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[:-1], r"one number a point, \(200,\); got \(199,\)"),
        (lambda w: np.where(np.arange(200) == 7, np.nan, w), "Got NaN. `sample_weight`"),
        (lambda w: np.where(np.arange(200) == 7, -1.0, w), "not negative"),
        (lambda w: np.where(np.arange(200) == 7, np.inf, w), "finite"),
        (lambda w: np.where(np.arange(200) >= 150, 0.0, w), "Class 2 is empty"),
        (lambda w: np.where((np.arange(200) >= 1) & (np.arange(200) < 60), 0.0, w), "single point"),
        (lambda w: 0 * w, "Class 0 is empty"),
    ],
)
def test_bad_weights(data, change, message):
    with pytest.raises(ValueError, match=message):
        gs.fit(*data, sample_weight=change(np.ones(200)))


@pytest.mark.parametrize("kind", ["full", "low-rank"])
def test_covariances_are_factorised_once_for_all_shrinkages(kind, data, monkeypatch):
    """Two folds and three classes: six factorisations, for fourteen shrinkages."""
    calls = []
    eigh, svd = np.linalg.eigh, np.linalg.svd
    monkeypatch.setattr(np.linalg, "eigh", lambda *a, **k: calls.append(1) or eigh(*a, **k))
    monkeypatch.setattr(np.linalg, "svd", lambda *a, **k: calls.append(1) or svd(*a, **k))
    x, labels = data
    rank = 1 if kind == "low-rank" else None
    gs.fitting.best_shrinkage(x, labels, kind, num_folds=2, rank=rank)
    assert len(calls) == 2 * len(np.unique(labels))


@pytest.mark.parametrize("lonely", [0, 1, 2])
@pytest.mark.parametrize(("shared", "fewest"), [(True, 1), (False, 2)])
def test_a_class_too_small_for_folds_is_refused(lonely, shared, fewest, rng):
    """Wherever it stands: a fold was scored by a mixture without the last class."""
    counts = np.full(3, 9)
    for counts[lonely] in (fewest, fewest + 1):
        labels = np.repeat(np.arange(3), counts)
        x = rng.normal(size=(len(labels), 2)) + 5.0 * labels[:, None]
        options = {"shared": shared, "shrinkage": "cross-validated"}
        if counts[lonely] > fewest:
            assert gs.fit(x, labels, **options).num_components == 3
            part = gs.fitting.dealt(labels, 5)
            assert all(len(np.unique(labels[part != one])) == 3 for one in range(5))
            continue
        with pytest.raises(ValueError, match=f"class {lonely} has {fewest} in all. Give `shrink"):
            gs.fit(x, labels, **options)


@pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic", "low-rank"])
def test_many_points_in_single_precision_are_summed_in_double(kind):
    """Eight-bit values far from 0: added one after another, their mean was off by twice their spread."""
    rng, rank = np.random.default_rng(0), 1 if kind == "low-rank" else None
    x = np.clip(np.round(rng.normal(250, 0.5, (600_000, 2))), 0, 255).astype(np.float32)
    labels = np.arange(len(x)) % 2
    found = gs.fit(x, labels, kind, rank=rank)
    for c in range(2):
        own = x[labels == c].astype(float)
        np.testing.assert_allclose(found.means[c], own.mean(0), rtol=1e-7)
        variance = np.diag(np.cov(own.T, ddof=0))
        expected = variance.mean() if kind == "isotropic" else variance
        np.testing.assert_allclose(
            np.diagonal(found.covariance.matrices(2)[c]), expected, rtol=1e-5
        )


@pytest.mark.parametrize("kind", ["full", "diagonal", "low-rank"])
def test_features_that_are_the_same_for_all_do_not_choose_the_shrinkage(kind, rng):
    """Against the held-out likelihood of the others by scipy; each more gave 1.15 nats a decade of rho."""
    x, labels, dim = rng.normal(size=(120, 12)), np.arange(120) % 2, 32
    more = np.concatenate([x, np.full((120, dim - 12), 0.5)], 1)
    fold, rank = gs.fitting.dealt(labels, 5), 3 if kind == "low-rank" else None

    def covariance(points, rho):
        moments = np.cov(points.T, ddof=0)
        if kind == "diagonal":
            moments = np.diag(np.diag(moments))
        values, axes = np.linalg.eigh(moments)
        if kind == "low-rank":
            values[:-3] = values[:-3].sum() / (dim - 3)
        return (axes * values) @ axes.T * (1 - rho) + rho * np.trace(moments) / dim * np.eye(12)

    def score(rho):
        found = []
        for f in range(5):
            own = [x[(fold != f) & (labels == c)] for c in range(2)]
            parts = [
                stats.multivariate_normal(one.mean(0), covariance(one, rho)).logpdf(x[fold == f])
                + np.log(len(one) / np.sum(fold != f))
                for one in own
            ]
            found.append(np.logaddexp(*parts).sum())
        return sum(found) / len(x)

    rho, scores = gs.best_shrinkage(more, labels, kind, rank=rank)
    expected = [score(one) for one in gs.fitting.SHRINKAGES[3:]]
    np.testing.assert_allclose(scores[3:], expected, rtol=1e-6)
    assert gs.best_shrinkage(more.astype(np.float32), labels, kind, rank=rank)[0] == rho
