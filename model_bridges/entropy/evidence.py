"""What an estimator's own evaluations say about the model itself, beside the entropy.

At noisy states `x = x_0 + sigma eps` of known images, with H the entropy that is read off, level by level:

    error over bound   E|x_0 - D|^2 over what a linear denoiser achieves (`linear_bounds`): at most 1
    calibration        CE - H, the cross-entropy of the true labels minus H: 0
    naming             share of images whose most probable class is the true one, minus the mean of that
                       probability, at the cleanest level: 0
    budget             H(sigma_max) - integral of dH over log sigma - H: 0, in each form of dH
                       (`gap`: between denoisers; mmse: |x_0 - D|^2 - |x_0 - D_y|^2)

for an exact model, up to the step of the levels. No evaluation of the network is added. All of them are
functions of the sums that a pass leaves, so their errors are those of its batches of images. Nats.

What a posterior calls rare is missing from few images, and their scatter knows nothing of it. So the error
of the calibration and of the naming is never below the one that the posteriors p themselves predict, with
variances `sum p log^2 p - (sum p log p)^2` and `max p (1 - max p)` an image. That of the budgets has the
first at the noisiest level, of the class weights: an image of a rare class brings `-log p` nats, and most
often is not there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.special import rel_entr
from torch import Tensor

from gmm_speciation.estimate import Estimate
from gmm_speciation.shares import Share
from model_bridges.entropy.gap import integral_from_top
from model_bridges.entropy.linear_bounds import scalar_bound
from model_bridges.runs.jobs import Arrays, BatchSums, Means

_FEW = 5  # images
_BY_CHANCE = 256  # draws of labels by the class weights
UNDECIDED = 0.75  # a path whose most probable class is below it has not decided: no better than 1/2


@dataclass(frozen=True, eq=False)
class Evidence:
    """Estimates `(L,)` at increasing noise levels; `naming` and `undecided` `(1,)`, at the cleanest."""

    sigmas: Float[np.ndarray, " L"]
    errors: dict[str, Estimate]  # over a bound, by denoiser and bound
    calibration: Estimate | None = None
    cross_entropy: Estimate | None = None
    naming: Estimate | None = None
    undecided: Share | None = None  # share of paths
    num_images: int = 0
    budgets: dict[str, Estimate] = field(default_factory=dict)  # by form
    # Nats by which the step of the levels may displace H, and the integral of each form.
    step: Float[np.ndarray, " L"] | float = 0.0
    integral_steps: dict[str, float] = field(default_factory=dict)
    beyond: Estimate | None = None  # `(1,)`, nats left out beyond the noisiest level, if measured
    start: float | None = None  # level at which the posterior is the prior; None: the noisiest one


def image_moments(x0: Float[Tensor, "N *event"]) -> Arrays:
    """Totals from which the scalar bound is made."""
    flat = x0.detach().flatten(1).double().cpu().numpy()
    return {"clean": flat.sum(0), "square": np.array([(flat**2).sum()])}


def evidence(
    merged: BatchSums, name: str, sigmas: Float[np.ndarray, " L"], single: bool
) -> Evidence:
    """The evidence on one variable in the sums of a pass that follows class posteriors.

    What needs sums that are not there, such as those of labels, is left out. The "unconditional" budget
    closes only if both networks are exact.

    Args:
        merged: The sums; those of the variable end in its name.
        name: Of the variable.
        sigmas: Levels of the sums.
        single: Whether its classes are the single classes, of which the mmse form knows.

    Raises:
        ValueError: As `BatchSums.evaluate`.
    """

    means = merged.means()

    def estimate(
        statistic: Callable[[Means], np.ndarray], needed: str, variance: str = ""
    ) -> Estimate | None:
        if needed not in merged.totals:
            return None
        found = merged.evaluate(statistic)[0]
        if not variance:
            return found
        predicted = np.sqrt(means[f"{variance} {name}"] / merged.num_images)[: found.value.size]
        return Estimate(found.value, np.maximum(found.stderr, predicted), found.dof)

    entropy, cross, hit, sure = (
        f"{kind} {name}" for kind in ("entropy", "cross_entropy", "accuracy", "confidence")
    )
    rates = {form: f"{form} {name}" for form in ("bayes", "unconditional")}
    if single:
        rates["mmse"] = "mmse bayes"

    def budget(key: str) -> Estimate:
        def left(means: Means) -> np.ndarray:
            h = means[entropy]
            return h[-1] - integral_from_top(sigmas, means[key]) - h

        found = merged.evaluate(left)[0]
        rare = np.sqrt(means[f"varentropy {name}"][-1] / merged.num_images)
        return Estimate(found.value, np.hypot(found.stderr, rare), found.dof)

    rates = {form: key for form, key in rates.items() if key in merged.totals}
    undecided = estimate(lambda m: m[f"undecided {name}"][:1], f"undecided {name}")
    return Evidence(
        sigmas,
        error_ratios(merged, sigmas),
        estimate(lambda m: m[cross] - m[entropy], cross, "varentropy"),
        estimate(lambda m: m[cross], cross, "varentropy"),
        estimate(lambda m: (m[hit] - m[sure])[:1], hit, "doubt"),
        None if undecided is None else Share.of(undecided, merged.num_images),
        merged.num_images,
        {form: budget(key) for form, key in rates.items()},
        np.abs(means.get(f"step {name}", np.zeros(len(sigmas)))),
        {form: _integral_step(sigmas, means[key]) for form, key in rates.items()},
    )


def label_divergence(
    labels: Int[Tensor, " N"] | None, prior: Float[np.ndarray, " K"]
) -> Estimate | None:
    """KL divergence `(1,)` of the labels' shares from the class weights, nats, less what chance makes of it.

    Where they differ, a curve is the entropy of neither: it begins with the weights, and the data average it.
    """
    if labels is None:
        return None
    counts = np.bincount(labels.cpu().numpy(), minlength=len(prior))
    shares = counts / len(labels)
    log_ratio = _log_ratio(shares, prior)
    variance = shares @ log_ratio**2 - (shares @ log_ratio) ** 2
    return _beyond_chance(shares, len(labels), prior, variance)


def posterior_divergence(
    posterior: Float[np.ndarray, "N C"], prior: Float[np.ndarray, " C"]
) -> Estimate:
    """The same of images without labels, by their posteriors at the cleanest level.

    Their mean over the model's own distribution is the prior, at every level.
    """
    shares = posterior.mean(0, dtype=float)
    log_ratio = _log_ratio(shares, prior)
    # Chance moves soft posteriors less: their divergence is half of the sum of variance over prior. Where
    # few images of a class are expected, and may not have come, it is what posteriors as sure as these have.
    spread = np.divide(np.var(posterior, 0), prior, out=np.zeros_like(prior), where=prior > 0)
    by_chance = float(prior @ prior)
    sure = (float((posterior**2).sum(1).mean()) - by_chance) / max(1 - by_chance, 1e-300)
    few = (len(posterior) * prior < _FEW) & (prior > 0)
    spread = np.where(few, np.maximum(spread, sure * (1 - prior)), spread)
    softness = min(float(spread.sum()) / max(int(np.count_nonzero(prior)) - 1, 1), 1.0)
    return _beyond_chance(
        shares, len(posterior), prior, float(np.var(posterior @ log_ratio)), softness
    )


def _log_ratio(
    shares: Float[np.ndarray, " C"], prior: Float[np.ndarray, " C"]
) -> Float[np.ndarray, " C"]:
    """0 where a class has no share or no weight."""
    ratio = np.divide(shares, prior, out=np.ones_like(prior), where=shares * prior > 0)
    return np.log(ratio)


def _beyond_chance(
    shares: Float[np.ndarray, " C"],
    number: int,
    prior: Float[np.ndarray, " C"],
    variance: float,
    softness: float = 1.0,
) -> Estimate:
    """KL of shares of so many from the prior, less what chance makes of it; `variance` is one image's.

    `softness` is by how much less chance moves them than labels that are drawn.
    """
    by_chance = np.random.default_rng(0).multinomial(number, prior, _BY_CHANCE) / number
    found, *chance = rel_entr(np.vstack([shares, by_chance]), prior).sum(-1)
    chance = softness * np.array(chance)
    error = np.hypot(np.std(chance), np.sqrt(max(variance, 0.0) / number))
    return Estimate(np.array([found - np.mean(chance)]), np.array([error]))


def error_ratios(merged: BatchSums, sigmas: Float[np.ndarray, " L"]) -> dict[str, Estimate]:
    """`E|x_0 - D|^2` over each linear bound, for the Bayes mixture and the unconditional network."""

    def scalar(means: Means) -> Float[np.ndarray, " L"]:
        return scalar_bound(means["clean"], float(means["square"][0]), merged.num_images, sigmas)

    bounds: dict[str, Callable[[Means], np.ndarray]] = {"scalar": scalar}
    if "wiener" in merged.totals:
        bounds["Wiener"] = lambda means: means["wiener"]
    if not min(scalar(merged.means(left_out))[0] for left_out in range(len(merged.counts))) > 0:
        return {}  # the images of some batches are all alike, or one: no variance to compare with

    def ratio(key: str, bound: Callable[[Means], np.ndarray]) -> Estimate:
        return merged.evaluate(lambda means: means[key] / bound(means))[0]

    return {
        f"{denoiser}, {name}": ratio(f"error {denoiser}", bound)
        for denoiser in ("bayes", "unconditional")
        for name, bound in bounds.items()
        if f"error {denoiser}" in merged.totals
    }


def _integral_step(sigmas: Float[np.ndarray, " L"], rate: Float[np.ndarray, " L"]) -> float:
    """How far leaving out every other level displaces an integral, at most."""
    every_other = np.arange(len(sigmas) - 1, -1, -2)[::-1]
    if len(every_other) < 2:
        return 0.0
    whole = integral_from_top(sigmas, rate)[every_other]
    coarse = integral_from_top(sigmas[every_other], rate[every_other])
    return float(np.abs(whole - coarse).max())
