"""Removing a class from what a model draws (the experiment of Koulischer et al. 2025, arXiv 2410.14398).

The model draws without a prompt, and one class is pushed away:

    NP             negative prompting, one strength everywhere
    SLD            safe latent diffusion
    DNG            dynamic negative guidance, p(c|x) tracked against the whole law from the class's share
    DNG, classes   the same with all classes tracked against each other; K + 1 evaluations a step
    DNG, published as its code runs on CIFAR-10: prior 0.01, temperature 0.2; its distance offset of 2e-4
                   never gets there, and with few pixels outweighs all evidence

Every run uses the same noise image by image. Safety, the share of images that are not of the class, is
compared at equal price, which is the class balance, KL of the kept shares from uniform, or the Frechet
distance to the data without the class; see `quality.frontier`. Strength 1 of DNG is the exact one. The
class's share is that of the model's `class_prior`, 1/K by default.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.claims import Claim
from gmm_speciation.estimate import Estimate
from model_bridges.control.judged import NUM_STEPS, JudgedModel
from model_bridges.control.verdicts import at_most
from model_bridges.guidance import (
    DynamicNegative,
    Guidance,
    NegativePrompt,
    SafeLatent,
    TrackedClasses,
    TrackedRatio,
    Unguided,
)
from model_bridges.quality import (
    EqualComparison,
    Floor,
    Quality,
    QualityCurve,
    floor,
    paired_difference,
)
from model_bridges.quality.frontier import within_budget
from model_bridges.samplers import karras_sigmas
from model_bridges.tracking import class_weights

NP, SLD, DNG, CLASSES, PUBLISHED = "NP", "SLD", "DNG", "DNG, classes", "DNG, published"
STRENGTHS: dict[str, tuple[float, ...]] = {
    NP: (0.05, 0.1, 0.2, 0.4, 0.8),
    SLD: (0.25, 1.0, 4.0, 16.0),
    DNG: (0.3, 1.0, 3.0, 10.0),
    CLASSES: (0.5, 1.0, 2.0),
    PUBLISHED: (5.0, 20.0, 80.0),
}
SHOWN = 20  # images of each kind in a picture
# Where the odds are cut: beyond, p / (1 - p) multiplies what the two networks disagree by for no reason.
_MAX_POSTERIOR = 0.9
_MAX_LOG_ODDS = math.log(_MAX_POSTERIOR / (1 - _MAX_POSTERIOR))
_MANY = 16  # classes above which tracking all of them is left out


@dataclass(frozen=True, eq=False)
class Removal:
    """One class removed by every kind over its strengths."""

    model: str
    removed: int
    num_images: int
    num_steps: int
    unguided: Quality
    curves: dict[str, QualityCurve]
    evaluations: dict[str, int]  # of an image, at one strength
    comparisons: dict[tuple[str, str, str], EqualComparison]  # kind, kind, at equal metric
    floor: Floor
    wild: dict[
        tuple[str, float], float
    ]  # share of images with a pixel far outside the data's range
    pictures: dict[str, Float[Tensor, "N *event"]]  # by kind, the same noise; the class first
    checks: list[Claim]


def make_kind(
    name: str, strength: float, removed: int, shares: Float[np.ndarray, " K"]
) -> Guidance:
    """The guidance of a kind of this experiment; `shares` are those of the classes in the model's law."""
    prior = float(shares[removed])
    if name == NP:
        return NegativePrompt(removed, strength)
    if name == SLD:
        return SafeLatent(removed, strength)
    if name == DNG:
        source = TrackedRatio(
            removed,
            prior,
            ceiling=math.log(_MAX_POSTERIOR / prior),
            max_posterior=_MAX_POSTERIOR,
        )
        return DynamicNegative(removed, strength, source)
    if name == CLASSES:
        log_prior = torch.from_numpy(np.log(shares))
        return DynamicNegative(
            removed, strength, TrackedClasses(removed, log_prior), max_log_odds=_MAX_LOG_ODDS
        )
    return DynamicNegative.tracked(removed, strength=strength, distance_offset=0.0)


def remove_class(
    model: JudgedModel,
    removed: int,
    *,
    num_images: int = 500,
    num_steps: int = NUM_STEPS,
    strengths: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    step: Callable[[str], object] = lambda name: None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Removal:
    """Run every kind over its strengths.

    Args:
        model: The model with its judge.
        removed: The class.
        num_images: Of each run.
        num_steps: Of the ancestral sampler.
        strengths: By kind, increasing; `STRENGTHS` by default.
        seed: Of all noise.
        step: Called with the name of each run as it begins.
        progress: Called with `(steps done, steps in all)` within a run.

    Raises:
        ValueError: If there is no such class, a kind is unknown, strengths are not positive and
            increasing, or as `quality.assess`.
    """
    num_classes = model.denoiser.num_classes
    if not 0 <= removed < num_classes:
        raise ValueError(f"The class must be one of 0 to {num_classes - 1}; got {removed}.")
    chosen = dict(STRENGTHS if strengths is None else strengths)
    if strengths is None and num_classes > _MANY:
        del chosen[CLASSES]
    unknown = sorted(set(chosen) - set(STRENGTHS))
    if unknown:
        raise ValueError(f"kinds are {', '.join(STRENGTHS)}; got {', '.join(unknown)}.")
    for name, grid in chosen.items():
        rises = np.diff([0.0, *grid])
        if not (len(rises) and np.all(rises > 0) and np.isfinite(rises).all()):
            raise ValueError(
                f"strengths must be positive, finite and increase strictly; got {list(grid)} for {name}."
            )
    shares = class_weights(None, model.denoiser)
    sigmas = karras_sigmas(num_steps, *model.denoiser.sigma_range)

    low, high = model.train.images.aminmax()
    margin = (high - low) / 2

    def run(name: str, strength: float, kind: Guidance) -> tuple[Quality, Tensor, int]:
        before = model.denoiser.evaluations
        images = model.draw(
            lambda labels: kind, num_images, sigmas=sigmas, seed=seed, progress=progress
        )
        cost = (model.denoiser.evaluations - before) // num_images
        far = (images < low - margin) | (images > high + margin)
        wild[name, strength] = float(far.flatten(1).any(1).double().mean())
        return model.assess(images, removed), images, cost

    wild: dict[tuple[str, float], float] = {}
    step("unguided")
    unguided, images, cost = run("unguided", 0.0, Unguided())
    # Half of the pictures shown are of the class, when nothing is done about it.
    of_class = model.judge.predict(images) == removed
    shown = np.r_[np.flatnonzero(of_class)[: SHOWN // 2], np.flatnonzero(~of_class)][:SHOWN]
    pictures, evaluations, curves = {"unguided": images[shown]}, {"unguided": cost}, {}
    for name, grid in chosen.items():
        points = [unguided]
        for strength in grid:
            step(f"{name}, strength {strength:g}")
            quality, images, cost = run(name, strength, make_kind(name, strength, removed, shares))
            points.append(quality)
            pictures[f"{name}, {strength:g}"] = images[shown]
        evaluations[name] = cost
        curves[name] = QualityCurve(name, np.array([0.0, *grid]), tuple(points))
    comparisons = {
        (dynamic, other, metric): within_budget(
            curves[dynamic], curves[other], metric, "removed_share"
        )
        for dynamic in (DNG, CLASSES)
        for other in (NP, SLD)
        for metric in ("balance", "frechet")
        if dynamic in curves and other in curves
    }
    step("floor of the distance")
    true = floor(
        model.judge, model.reference, model.held_out.images, model.held_out.labels,
        removed=removed, num_images=min(num_images, int((model.train.labels != removed).sum()) // 2),
    )  # fmt: skip
    return Removal(
        model.name, removed, num_images, num_steps, unguided, curves, evaluations, comparisons, true,
        wild, pictures, _checks(unguided, curves, comparisons, num_images),
    )  # fmt: skip


def share_difference(gap: Estimate, num_images: int) -> Estimate:
    """A paired difference of two shares of n images, whose error is not below that of one image seen.

    The jackknife of two runs that agree on every image is 0; by Laplace's rule they differ on one in n.
    """
    return Estimate(gap.value, np.maximum(np.asarray(gap.stderr), 1 / num_images), gap.dof)


def _checks(
    unguided: Quality,
    curves: Mapping[str, QualityCurve],
    comparisons: Mapping[tuple[str, str, str], EqualComparison],
    num_images: int,
) -> list[Claim]:
    names = {"balance": "class balance", "frechet": "Fréchet distance"}
    checks = []
    for (dynamic, other, metric), found in comparisons.items():
        claim = (
            f"{dynamic} leaves less of the class than {other} at equal {names[metric]}: "
            "difference of shares"
        )
        used = found.reached
        if used.any():
            note = f"mean over the prices of {int(used.sum())} of {len(used)} strengths of {other}"
            if not used.all():
                note += f"; at the others only {other} is to be had"
            gap = share_difference(found.mean_difference, num_images)
            checks.append(at_most(claim, gap, 0.0, note))
    for name in (DNG, CLASSES):
        if name not in curves:
            continue
        points = dict(zip(curves[name].strengths.tolist(), curves[name].points, strict=True))
        exact = points.get(1.0)
        if exact is None:
            continue
        assert exact.removed_share is not None  # a class was removed
        checks += [
            at_most(
                f"{name}, strength 1: share of the class that is left", exact.removed_share, 0.02
            ),
            at_most(
                f"{name}, strength 1: Fréchet distance minus that unguided",
                paired_difference(exact, unguided, "frechet"),
                0.0,
                "to the data without the class",
            ),
            at_most(
                f"{name}, strength 1: class balance, KL",
                exact.balance,
                0.03,
                f"{exact.balance_floor:.3f} for as many exact draws",
            ),
        ]
    if NP in curves:
        strongest = curves[NP].points[-1]
        checks.append(
            at_most(
                f"{NP} spoils the balance of the other classes: KL unguided minus that at strength "
                f"{curves[NP].strengths[-1]:g}",
                paired_difference(unguided, strongest, "balance"),
                0.0,
            )
        )
    return checks
