"""Any estimator of the registry on samples of one's own.

Samples are *noisy*, drawn at the levels of noise that are asked for, or *clean*, and then the noise is added
here. A state is `x = x_0 + sigma eps` with `eps ~ N(0, I)`; log-SNR `-2 log sigma`. Nats.

Whatever x_0 is, noise leaves every direction a variance of at least sigma^2 within each class: given x_0, the
squared residuals of n states about their C class means are sigma^2 times a non-central chi^2 of n - C degrees
of freedom. States with less are not noisy at that level.

Averages run over the samples and posteriors start from the class probabilities: samples whose classes have
other shares give a number that is H(C|X) under neither. Shares s of n labels drawn by probabilities pi have
`2 n KL(s | pi)` about chi^2 of C - 1 degrees of freedom (Wilks 1938).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.special import rel_entr
from scipy.stats import chi2

from gmm_speciation.checks import ArrayLike, as_numpy, as_reals, check_labels
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import (
    Access,
    Estimator,
    Kind,
    NotApplicableError,
    Problem,
    Samples,
)
from gmm_speciation.estimators.crossfit import CrossFitted
from gmm_speciation.estimators.neighbours import entropy_of_prior, rounding_step
from gmm_speciation.estimators.registry import ESTIMATORS, own_estimator
from gmm_speciation.lookup import pick
from gmm_speciation.shares import entropy_with_unseen, with_unseen

_FALSE_ALARM = 1e-9  # of the test that states are noisy, for all coordinates together
_BY_CHANCE = 1e-6  # of the test that shares are those of the probabilities
_FEW = 5  # expected samples
_DIGITS = 32  # powers of two that numbers may be away from 1
_OPTIONAL = ("sklearn", "flax", "optax")
_NEEDS = {
    Access.SCORES: "the posterior means of a diffusion model",
    Access.MIXTURE: "the distribution itself, as a mixture",
}


class GivenSamples(Problem):
    """A problem of which nothing is known but samples."""

    def __init__(
        self,
        x: Float[np.ndarray, "*T n d"],
        labels: Int[np.ndarray, "*T n"],
        log_snr: Float[np.ndarray, " T"],
        prior: Float[np.ndarray, " C"],
        clean: bool,
        seed: int,
    ):
        self.log_snr, self.prior = log_snr, prior.copy()
        labels = labels.view()
        for shared in (self.prior, labels):  # by all levels
            shared.setflags(write=False)
        self.num_samples, self.dim = x.shape[-2:]
        self.prior_entropy = entropy_of_prior(prior)
        self.evaluations = 0
        self._access = Access.CLEAN if clean else Access.NOISY
        self._key = jax.random.key(seed)
        self._clean = self._noisy = None
        if clean:
            self._clean = jnp.asarray(x), labels
        else:
            self._noisy = x, labels

    def clean(self) -> Samples:
        """The clean states.

        Raises:
            NotApplicableError: If noisy ones were given.
        """
        if self._clean is None:
            raise NotApplicableError(
                "It trains on clean samples and adds the noise itself; give those, with `clean=True`."
            )
        return Samples(*self._clean)

    def samples(self, level: int, draw: int = 0) -> Samples:
        """Labelled states at a level: those given, or clean ones with its noise."""
        if self._noisy is None:
            return super().samples(level, draw)
        x, labels = self._noisy
        return Samples(x[level], labels[level])


def estimate_class_entropy(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    method: str,
    sigma: ArrayLike | None = None,
    log_snr: ArrayLike | None = None,
    clean: bool = False,
    prior: Sequence[float] | ArrayLike | None = None,
    seed: int = 0,
) -> Estimate | EntropyCurve:
    """H(C|X) in nats by an estimator of the benchmark, from labelled samples alone (runs on the host).

    One level gives an `Estimate`, several give an `EntropyCurve`, which names the method and says whether it
    is a lower or an upper bound. The number is raw: outside of [0, H(C)], where every entropy lies, it says
    that the method does not work there. A method that knows no error of its own gives standard error NaN.
    Where it has no rate, that of the curve is the slope of the entropy, its error that of independent
    levels.

    Args:
        x: Noisy states of one level `(n, d)`, or of T levels `(T, n, d)`; with `clean`, clean ones `(n, d)`.
        labels: Class of each, integers `0 .. C-1`, `(n,)`, or `(T, n)`.
        method: A name of the registry, such as "ross", "qda" or "logistic", or your own "module:Class".
        sigma: Noise of the states, one number or T, `x = x_0 + sigma eps`.
        log_snr: Instead of `sigma`, and in any units of `x`. Noisy states of one level need neither.
        clean: Whether `x` is clean; the noise of each level is then added here. Estimators that train on
            clean data need it.
        prior: Class probabilities, `(C,)`, by which the samples were drawn; the shares of the labels by
            default.
        seed: Of the noise, of folds and of training.

    Raises:
        ValueError: If the method is unknown, or needs more than samples; if shapes, levels, labels or prior
            do not fit, a class has too few samples, noisy states repeat others or cannot have the noise that
            `sigma` says, or the labels of a level cannot have been drawn by `prior`, or by the shares of all
            levels.
        ModuleNotFoundError: If the method's library is missing; the message has the line that installs it.
    """
    estimator = _estimator(method)
    x, labels, weights = _checked(x, labels, prior, clean)
    if len(weights) < 2:
        raise ValueError("`labels` must name at least two classes: in one nothing is decided.")
    levels = _levels(sigma, log_snr)
    if levels is None:
        if clean or x.ndim == 3:
            raise ValueError(
                "Clean samples and samples of several levels need those levels: give `sigma` or `log_snr`."
            )
        levels = np.zeros(1)
    x, halvings = _plain_numbers(x, drop=not clean and sigma is None)
    # In these units, where the samples have units that are known.
    known = levels + 2 * halvings * np.log(2) if clean or sigma is not None else levels
    if not clean:
        x, labels = (array[None] if x.ndim == 2 else array for array in (x, labels))
        if len(x) != len(levels):
            raise ValueError(
                f"Noisy samples of T levels are (T, n, d), one set a level; got {len(levels)} levels and "
                f"{len(x)} sets. For noise to be added to clean ones, say `clean=True`."
            )
        for states in x:
            if len(set(map(bytes, states))) < 0.99 * len(states):
                rounding_step(states)  # refuses copies
        if sigma is not None:
            for states, own, level in zip(x, labels, known, strict=True):
                _check_noise(states, own, float(np.exp(-level / 2)), float(np.ldexp(1, halvings)))
    order = np.argsort(-levels)  # from signal to noise
    levels, known = levels[order], known[order]
    if not (np.diff(levels) < 0).all():
        raise ValueError("Every noise level may come once; drop those that repeat others.")
    if not clean:
        x, labels = x[order], labels[order]
    try:
        problem = GivenSamples(x, labels, known, weights, clean, seed)
        outcome = estimator().curve(problem)
    except NotApplicableError as error:
        raise NotApplicableError(f"`method={method!r}` does not apply. {error}") from None
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _OPTIONAL:
            raise
        raise ModuleNotFoundError(
            f"`method={method!r}` needs {library}, which is not installed; install the extra: "
            "pip install 'gmm-speciation[benchmark]'",
            name=library,
        ) from error
    # The spread of a fitted posterior over the states knows nothing of its fit, and is no error of H(C|X).
    claimed = outcome.has_interval or estimator.kind is not Kind.ESTIMATE
    entropy = _or_unknown(outcome.entropy, claimed)
    if len(levels) == 1:
        return entropy_with_unseen(entropy, problem.num_samples)[0]
    rate = _slope(entropy, levels) if outcome.rate is None else _or_unknown(outcome.rate, claimed)
    entropy, rate = with_unseen(entropy, rate, problem.num_samples)
    kind = "" if estimator.kind is Kind.ESTIMATE else f", {estimator.kind}"
    return EntropyCurve(levels, entropy, rate, problem.prior_entropy, method + kind)


def trust_note(method: str, entropy: Float[np.ndarray, "*T"], prior_entropy: float) -> str:
    """What to know before believing raw entropies of a method, in words; empty if nothing is known."""
    found = _estimator(method)
    notes = []
    if found.kind is not Kind.ESTIMATE:
        notes.append(f"{found.kind} in the mean")
    outside = (entropy < -1e-9) | (entropy > prior_entropy + 1e-9)
    if np.any(outside):
        notes.append(f"outside of [0, H(C)] at {np.sum(outside)} of {np.size(outside)} levels")
    if issubclass(found, CrossFitted) and found.plug_in:
        notes.append("off either way by the error of the fit")
    if found.family == "learned" and found.kind is Kind.ESTIMATE:
        notes.append("off either way by the error of training, which its interval does not know")
    if found.family in ("neighbours", "density"):
        notes.append("unreliable beyond a few dimensions")
    return "; ".join(notes)


def _estimator(method: str) -> type[Estimator]:
    found = own_estimator(method) if ":" in method else pick(method, ESTIMATORS, "estimator")
    if found.access in _NEEDS:
        noisy, rest = (
            ", ".join(name for name, one in ESTIMATORS.items() if one.access is access)
            for access in (Access.NOISY, Access.CLEAN)
        )
        raise ValueError(
            f"`method={method!r}` needs {_NEEDS[found.access]}, which samples do not tell. Samples are "
            f"enough for {noisy}; clean ones for {rest}, too."
        )
    return found


def _checked(
    x: ArrayLike, labels: ArrayLike, prior: ArrayLike | None, clean: bool
) -> tuple[Float[np.ndarray, "*T n d"], Int[np.ndarray, "*T n"], Float[np.ndarray, " C"]]:
    x, labels = as_numpy(x, "x"), as_numpy(labels, "labels")
    if x.dtype.kind not in "fiu":
        raise ValueError(f"`x` must be real numbers; got dtype {x.dtype}.")
    x = x if x.dtype in (np.float32, np.float64) else x.astype(float)
    if x.ndim not in ((2,) if clean else (2, 3)) or labels.shape not in (
        x.shape[:-1],
        x.shape[-2:-1],
    ):
        expected = "(n, d)" if clean else "(n, d), or (T, n, d) of T noise levels,"
        raise ValueError(
            f"`x` must be {expected} with one label a sample; got {x.shape} and {labels.shape}. "
            "Flatten pictures to (n, d)."
        )
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError("`x` must hold finite numbers; drop samples with NaN or infinity.")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"`labels` must be integers 0..C-1; got {labels.dtype}.")
    if labels.min() < 0:
        raise ValueError(f"`labels` must be integers 0..C-1; got a smallest of {labels.min()}.")
    labels = np.broadcast_to(labels.astype(int), x.shape[:-1])
    if prior is None:
        check_labels(labels.ravel(), "`labels` must be 0..C-1 without gaps; or give `prior`.")
        counts = np.bincount(labels.ravel())
        _check_shares(labels, counts / counts.sum())
        return x, labels, counts / counts.sum()
    weights = as_reals(prior, "prior").astype(float)
    if weights.ndim != 1 or len(weights) <= labels.max() or not (weights > 0).all():
        raise ValueError(
            f"`prior` must be a positive probability for each of {labels.max() + 1} classes; got {prior}."
        )
    if not np.isclose(weights.sum(), 1, rtol=1e-6):
        raise ValueError(f"`prior` must sum to 1; got {weights.sum():.6g}.")
    _check_shares(labels, weights / weights.sum())
    return x, labels, weights / weights.sum()


def _check_shares(labels: Int[np.ndarray, "*T n"], prior: Float[np.ndarray, " C"]) -> None:
    """Refuse labels of a level that were not drawn by these probabilities."""
    for own in labels.reshape(-1, labels.shape[-1]):
        shares = np.bincount(own, minlength=len(prior)) / len(own)
        # Classes of few expected samples are counted as one, without which it would be no chi^2.
        few = len(own) * prior < _FEW
        seen, expected = (np.append(part[~few], part[few].sum()) for part in (shares, prior))
        statistic = 2 * len(own) * rel_entr(seen, expected).sum()
        if chi2.sf(statistic, max(np.count_nonzero(expected) - 1, 1)) < _BY_CHANCE:
            worst = int(np.argmax(abs(shares - prior)))
            raise ValueError(
                "Samples must be drawn with the class probabilities, `prior` or else the shares of all "
                f"labels; of class {worst} they have {shares[worst]:.3g} where those say {prior[worst]:.3g}. "
                "Leave samples out until the shares fit, or take each level by itself without `prior`."
            )


def _plain_numbers(x: Float[np.ndarray, "*T n d"], drop: bool) -> tuple[np.ndarray, int]:
    """The samples about their mean, halved so often that their squares are numbers, and how often.

    No entropy depends on the origin or the units, and the digits of a float do. Nor on a coordinate that is
    the same for all: a method might make a class of it, or noise, and with `drop` it is left out.
    """
    flat = x.reshape(-1, x.shape[-1])
    varies = np.ptp(flat, axis=0) > 0
    if drop and varies.any() and not varies.all():
        x, flat = x[..., varies], flat[:, varies]
    x = x - flat.mean(0, dtype=float)
    halvings = int(np.frexp(np.abs(x).max())[1])
    return (np.ldexp(x, -halvings), halvings) if abs(halvings) > _DIGITS else (x, 0)


def _levels(sigma: ArrayLike | None, log_snr: ArrayLike | None) -> Float[np.ndarray, " T"] | None:
    """Log-SNR of the levels."""
    if sigma is not None and log_snr is not None:
        raise ValueError("`sigma` and `log_snr` say the same; give one of them.")
    name, given = ("sigma", sigma) if log_snr is None else ("log_snr", log_snr)
    if given is None:
        return None
    levels = np.atleast_1d(as_reals(given, name).astype(float))
    if levels.ndim > 1 or levels.size == 0 or not np.isfinite(levels).all():
        raise ValueError(f"`{name}` must be one finite number, or several (T,); got {given}.")
    if log_snr is not None:
        return levels
    if not (levels > 0).all():
        raise ValueError(f"`sigma` must be positive; got {given}.")
    return -2 * np.log(levels)


def _check_noise(
    x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], sigma: float, unit: float
) -> None:
    """Refuse states with less variance within their classes than their noise has; `unit` is that of both."""
    counts = np.bincount(labels)
    free = len(x) - np.count_nonzero(counts)
    if free < 1:
        return
    x = x.astype(float)
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, labels, x)
    squares = ((x - (means / np.maximum(counts, 1)[:, None])[labels]) ** 2).sum(0)
    worst = int(np.argmin(squares))
    if squares[worst] < sigma**2 * chi2.ppf(_FALSE_ALARM / x.shape[1], free):
        raise ValueError(
            f"Samples with noise `sigma={sigma * unit:.4g}` vary at least that much within each class; "
            f"coordinate {worst} of these has standard deviation "
            f"{np.sqrt(squares[worst] / free) * unit:.4g}. If they are clean, say `clean=True`; "
            "if they are noisy in other units, give `log_snr`."
        )


def _or_unknown(estimate: Estimate, claimed: bool) -> Estimate:
    """The estimate; an error that its method does not know is NaN, not 0."""
    value = np.asarray(estimate.value, float)
    stderr = np.asarray(estimate.stderr, float)
    return Estimate(
        value, stderr if claimed and stderr.any() else np.full_like(value, np.nan), estimate.dof
    )


def _slope(entropy: Estimate, log_snr: Float[np.ndarray, " T"]) -> Estimate:
    slope = -np.asarray(np.gradient(np.eye(len(log_snr)), log_snr, axis=0))
    stderr = np.sqrt(slope**2 @ np.asarray(entropy.stderr) ** 2)
    return Estimate(slope @ np.asarray(entropy.value), stderr, entropy.dof)
