"""Classical classifiers as estimators of H(C|X); how they are judged is in `crossfit`.

What a classifier leaves open is chosen within the training states, by their cross-entropy: the strength of a
penalty, the number of neighbours or of trees, and a temperature. Noises of one state stay together there, for
a classifier knows a state whose other noise it has seen. Tempered probabilities are

    q_beta(c|x) ~ q(c|x)^beta p(c)^(1 - beta),     0 <= beta <= 4,

those of the prior at beta = 0, so that a classifier that learned nothing says so.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from gmm_speciation.estimators.base import Kind, deal
from gmm_speciation.estimators.crossfit import CrossFitted

_EM_COMPONENTS = (1, 2, 4)
_PENALTIES = 10.0 ** np.arange(-4, 2)
_INNER_FOLDS = 2
_NEIGHBOURS = (1, 2, 4, 8, 16, 32, 64, 128)
_TREES = 100
_FEATURES = 32  # coordinates tried at a split
_CALIBRATED_ON = 4  # a fourth of the training states
_HOTTEST = 4.0


def inner_folds(
    labels: np.ndarray, draws: int, number: int, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Folds of training states whose noises stay together."""
    return np.tile(deal(labels[: len(labels) // draws], number, rng), draws)


def cross_entropy(log_q: Float[np.ndarray, "n C"], labels: Int[np.ndarray, " n"]) -> float:
    return -float(log_q[np.arange(len(labels)), labels].mean())


def temper(
    log_q: Float[np.ndarray, "n C"], beta: float, prior: Float[np.ndarray, " C"]
) -> Float[np.ndarray, "n C"]:
    """`log q_beta(c|x)`."""
    return log_softmax(beta * log_q + (1 - beta) * np.log(prior), 1)


def best_temper(log_q: np.ndarray, labels: np.ndarray, prior: np.ndarray) -> tuple[float, float]:
    """The beta of least cross-entropy, and that cross-entropy; convex in beta."""
    found = minimize_scalar(
        lambda beta: cross_entropy(temper(log_q, beta, prior), labels),
        bounds=(0.0, _HOTTEST),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(found.x), float(found.fun)


class ExpectationMaximisation(CrossFitted):
    title = "EM mixture plug-in"
    reference = "Dempster, Laird & Rubin 1977; scikit-learn, diagonal, 1, 2 or 4 components by BIC"
    family = "plug-in"
    plug_in = True

    def fit(self, train, prior, rng, draws):
        from sklearn.mixture import GaussianMixture

        # scikit-learn floors variances at 1e-6, and finds them as differences of squares.
        mean = train.x.mean(0, dtype=float)
        scale = max(float(train.x.std(dtype=float)), 1e-300)

        def scaled(x):
            return (np.asarray(x, float) - mean) / scale

        models = []
        for c in range(len(prior)):
            own = scaled(train.x[train.labels == c])
            seed = int(rng.integers(2**31))
            tried = [
                GaussianMixture(number, covariance_type="diag", random_state=seed).fit(own)
                for number in _EM_COMPONENTS
                if len(own) >= 8 * draws * number or number == 1
            ]
            models.append(min(tried, key=lambda model: model.bic(own)))

        def log_posterior(x):
            densities = [model.score_samples(scaled(x)) for model in models]
            return log_softmax(np.stack(densities, 1) + np.log(prior), 1)

        return log_posterior


class LogisticRegression(CrossFitted):
    """Its solution lies in the span of the states, so their coordinates there are all it needs."""

    title = "logistic regression, cross-entropy"
    reference = "Gibbs' inequality; scikit-learn, penalty by cross-validation"
    kind = Kind.UPPER
    family = "classifiers"

    def fit(self, train, prior, rng, draws):
        from sklearn.linear_model import LogisticRegression as Model

        mean = train.x.mean(0)
        x = np.asarray(train.x - mean, float)
        basis = np.eye(x.shape[1])
        if len(x) < x.shape[1]:
            squares, left = np.linalg.eigh(x @ x.T)
            kept = squares > 1e-12 * squares[-1]
            basis = x.T @ left[:, kept] / np.sqrt(squares[kept])
        scale = max(float(x.std()), 1e-30)
        x, labels = x @ basis / scale, train.labels
        fold = inner_folds(labels, draws, _INNER_FOLDS, rng)

        def fitted(chosen: np.ndarray, penalty: float) -> Model:
            # A penalty a state: noises of one state do not make it count more.
            return Model(C=penalty / draws, max_iter=200).fit(x[chosen], labels[chosen])

        def loss(penalty: float) -> float:
            return sum(
                cross_entropy(
                    fitted(fold != one, penalty).predict_log_proba(x[fold == one]),
                    labels[fold == one],
                )
                for one in range(_INNER_FOLDS)
            )

        model = fitted(np.ones(len(x), bool), min(_PENALTIES, key=loss))
        return lambda x: model.predict_log_proba((np.asarray(x, float) - mean) @ basis / scale)


class NearestNeighbours(CrossFitted):
    """Shares of the classes among k neighbours and one more that is the prior."""

    title = "k nearest neighbours, calibrated, cross-entropy"
    reference = "Gibbs' inequality; Cover & Hart 1967; Guo et al. 2017, arXiv 1706.04599"
    kind = Kind.UPPER
    family = "classifiers"

    def fit(self, train, prior, rng, draws):
        from sklearn.neighbors import NearestNeighbors

        mean, labels = train.x.mean(0), train.labels
        x = np.asarray(train.x - mean, float)
        states = len(x) // draws
        most = min(max(_NEIGHBOURS) + draws, len(x))
        index = NearestNeighbors(n_neighbors=most).fit(x)
        one_hot = np.eye(len(prior))[labels]

        def shares(neighbours: np.ndarray, k: int, counts: np.ndarray) -> np.ndarray:
            votes = np.einsum("nk,nkc->nc", counts, one_hot[neighbours])
            return np.log((votes + prior) / (k + 1))

        # Each training state among the others: neither itself nor another noise of it.
        near = index.kneighbors(x, return_distance=False)
        other = near % states != (np.arange(len(x)) % states)[:, None]
        rank = np.cumsum(other, 1)
        tried = []
        for k in _NEIGHBOURS:
            if k <= len(x) - draws:
                log_q = shares(near, k, other & (rank <= k))
                beta, loss = best_temper(log_q, labels, prior)
                tried.append((loss, k, beta))
        _, k, beta = min(tried)

        def log_posterior(x):
            near = index.kneighbors(np.asarray(x, float) - mean, k, return_distance=False)
            return temper(shares(near, k, np.ones(near.shape)), beta, prior)

        return log_posterior


class BoostedTrees(CrossFitted):
    """Fitted on three fourths of the training states; the rest says how many trees, and how sure."""

    title = "boosted trees, calibrated, cross-entropy"
    reference = "Gibbs' inequality; Friedman 2001; Ke et al. 2017; scikit-learn, histograms"
    kind = Kind.UPPER
    family = "classifiers"

    def fit(self, train, prior, rng, draws):
        from sklearn.ensemble import HistGradientBoostingClassifier

        x, labels = train
        held = inner_folds(labels, draws, _CALIBRATED_ON, rng) == 0
        model = HistGradientBoostingClassifier(
            max_iter=_TREES,
            max_leaf_nodes=15,
            max_features=min(1.0, _FEATURES / x.shape[1]),
            early_stopping=False,
            random_state=int(rng.integers(2**31)),
        ).fit(x[~held], labels[~held])

        def log_of(probabilities: np.ndarray) -> np.ndarray:
            every = np.full((len(probabilities), len(prior)), np.finfo(float).tiny)
            every[:, model.classes_] = np.maximum(probabilities, np.finfo(float).tiny)
            return np.log(every)

        def loss(stage: int) -> float:
            return best_temper(stages[stage], labels[held], prior)[1]

        stages = [log_of(p) for p in model.staged_predict_proba(x[held])]
        best = min(range(0, len(stages), 5), key=loss)
        beta, _ = best_temper(stages[best], labels[held], prior)

        def log_posterior(x):
            staged = model.staged_predict_proba(x)
            return temper(log_of(next(p for i, p in enumerate(staged) if i == best)), beta, prior)

        return log_posterior
