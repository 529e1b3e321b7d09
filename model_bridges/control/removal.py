"""Removing a class from what a model draws (the experiment of Koulischer et al. 2025, arXiv 2410.14398).

The model draws without a prompt, and one class is pushed away:

    NP             negative prompting, one strength everywhere
    SLD            safe latent diffusion
    DNG            dynamic negative guidance, p(c|x) tracked against the whole law from the class's share
    DNG, classes   the same with all classes tracked against each other; K + 1 evaluations a step
    DNG, published as its code runs on CIFAR-10: prior 0.01, temperature 0.2; its distance offset of 2e-4
                   never gets there, and with few pixels outweighs all evidence

Every run uses the same noise image by image. What is left of the class is compared along all prices, which
are the class balance, KL of the kept shares from their weights, or the Frechet distance to the data without
the class; see `quality.frontier`. A kind whose strengths end before it is done would lose by that alone: each
is doubled until no more is left than the judge finds in data without the class, or the price explodes.
Strength 1 of DNG is the exact one. The class's share is that of the model's `class_prior`, 1/K by default.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reporting.claims import Claim, at_most
from gmm_speciation.reporting.records import to_json
from model_bridges.control.drawing import SHOWN, Wanted, images_of, share_out
from model_bridges.denoisers.checks import class_weights
from model_bridges.entropy.problem import model_settings
from model_bridges.guidance import (
    DynamicNegative,
    Guidance,
    NegativePrompt,
    SafeLatent,
    TrackedClasses,
    TrackedRatio,
    Unguided,
)
from model_bridges.quality import Floor, Quality, QualityCurve, paired_difference
from model_bridges.quality.frontier import FrontComparison, compare_shares
from model_bridges.runs.folder import process_place, versions
from model_bridges.samplers import karras_sigmas
from model_bridges.studied import NUM_STEPS, StudiedModel

NP, SLD, DNG, CLASSES, PUBLISHED = "NP", "SLD", "DNG", "DNG, classes", "DNG, published"
STRENGTHS: dict[str, tuple[float, ...]] = {
    NP: (0.05, 0.1, 0.2, 0.4, 0.8),
    SLD: (0.25, 1.0, 4.0, 16.0),
    DNG: (0.3, 1.0, 3.0, 10.0),
    CLASSES: (0.5, 1.0, 2.0),
    PUBLISHED: (5.0, 20.0, 80.0),
}
PRICES = {"balance": "class balance", "frechet": "Fréchet distance"}
# Where the odds are cut: beyond, p / (1 - p) multiplies what the two networks disagree by for no reason.
_MAX_POSTERIOR = 0.9
_MAX_LOG_ODDS = math.log(_MAX_POSTERIOR / (1 - _MAX_POSTERIOR))
_MANY = 16  # classes above which tracking all of them is left out
DOUBLINGS = 5  # of the last strength of a grid, at most
_EXPLODED = 10.0  # times the Frechet distance unguided, or of held-out images


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
    ends: dict[str, str]  # why the strengths of a kind end where they do
    comparisons: dict[tuple[str, str, str], FrontComparison]  # kind, kind, price
    floor: Floor
    # Share of images with a pixel far outside the data's range.
    wild: dict[tuple[str, float], float]
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


@dataclass(eq=False)
class _Runs:
    """Draws and judges, one strength after the other; what a folder holds of before is read from it."""

    model: StudiedModel
    removed: int
    num_images: int
    num_steps: int
    seed: int
    folder: Path | None
    progress: Progress
    wild: dict[tuple[str, float], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings: dict[str, Any] = {
            "model": [self.model.name, model_settings(self.model.denoiser)],
            "drawing": [self.num_images, self.num_steps, self.seed],
            "class": self.removed,
            "versions": versions(),
        }
        self._settings = json.dumps(settings)
        low, high = self.model.train.images.aminmax()
        margin = (high - low) / 2
        self._least, self._most = low - margin, high + margin

    def digest(self, name: str, kind: Guidance) -> str:
        """Names everything that the images of a run depend on."""
        constants = json.dumps(to_json(kind), sort_keys=True)
        return hashlib.sha256(f"{self._settings} {name} {constants}".encode()).hexdigest()

    def draw(self, name: str, strength: float, kind: Guidance) -> tuple[Tensor, int]:
        """Images and evaluations an image."""
        wanted = Wanted(
            f"{name}, strength {strength:g}" if strength else name,
            lambda labels: kind,
            self.num_images,
            karras_sigmas(self.num_steps, *self.model.denoiser.sigma_range),
            seed=self.seed,
        )
        digest = self.digest(name, kind)
        found = images_of(self.model, wanted, digest, self.folder, self.progress)
        return torch.from_numpy(found.rows["images"]), found.evaluations

    def judge(self, name: str, strength: float, images: Tensor) -> Quality:
        far = (images < self._least) | (images > self._most)
        self.wild[name, strength] = float(far.flatten(1).any(1).double().mean())
        return self.model.assess(images, self.removed)


def remove_class(
    model: StudiedModel,
    removed: int,
    *,
    num_images: int = 500,
    num_steps: int = NUM_STEPS,
    strengths: Mapping[str, Sequence[float] | None] | None = None,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> Removal:
    """Run every kind over its strengths.

    Args:
        model: The model with its judge.
        removed: The class.
        num_images: Of each run.
        num_steps: Of the ancestral sampler.
        strengths: By kind, increasing; None, for a kind or for all: those of `STRENGTHS`, then doubled
            until no more of the class is left than the judge finds in data without it (to one image), the
            Frechet distance explodes, or five times.
        seed: Of all noise.
        folder: Keeps the images of every run; one that is interrupted goes on there, and processes of a
            launch share it.
        progress: Told of every run and of its steps.

    Raises:
        ValueError: If there is no such class, a kind is unknown, strengths are not positive and
            increasing, or as `quality.assess`.
        OSError: If the folder cannot be written.
    """
    num_classes = model.denoiser.num_classes
    if not 0 <= removed < num_classes:
        raise ValueError(f"The class must be one of 0 to {num_classes - 1}; got {removed}.")
    shares = class_weights(None, model.denoiser)
    if not shares[removed] > 0:
        raise ValueError(
            f"Class {removed} has weight 0: the model draws none that could be removed."
        )
    chosen = chosen_kinds(strengths, num_classes)
    unknown = sorted(set(chosen) - set(STRENGTHS))
    if unknown:
        raise ValueError(f"kinds are {', '.join(STRENGTHS)}; got {', '.join(unknown)}.")
    for name, grid in chosen.items():
        rises = np.diff([0.0, *(STRENGTHS[name] if grid is None else grid)])
        if not (len(rises) and np.all(rises > 0) and np.isfinite(rises).all()):
            raise ValueError(
                f"strengths must be positive, finite and increase strictly; got {list(grid or ())} for "
                f"{name}."
            )
    runs = _Runs(model, removed, num_images, num_steps, seed, folder, progress)
    progress.step("floor of the distance")
    true = model.floor(num_images, removed)
    known = [
        (name, strength, make_kind(name, strength, removed, shares))
        for name, grid in chosen.items()
        for strength in (STRENGTHS[name] if grid is None else grid)
    ]
    first = [("unguided", 0.0, Unguided()), *known]
    digests = [runs.digest(name, kind) for name, _, kind in first]
    share_out(folder, digests, lambda index: runs.draw(*first[index]))
    images, cost = runs.draw("unguided", 0.0, Unguided())
    unguided = runs.judge("unguided", 0.0, images)
    # Half of the pictures shown are of the class, when nothing is done about it.
    of_class = model.judge.predict(images) == removed
    shown = np.r_[np.flatnonzero(of_class)[: SHOWN // 2], np.flatnonzero(~of_class)][:SHOWN]
    pictures, evaluations, curves, ends = {"unguided": images[shown]}, {"unguided": cost}, {}, {}
    turn = process_place()[0] % len(chosen)  # processes double the strengths of different kinds
    for name, grid in [*list(chosen.items())[turn:], *list(chosen.items())[:turn]]:
        points, used = [unguided], [0.0]
        wanted = list(STRENGTHS[name] if grid is None else grid)
        given = len(wanted)
        ends[name] = "given"
        while wanted:
            strength = wanted.pop(0)
            images, cost = runs.draw(name, strength, make_kind(name, strength, removed, shares))
            if len(used) > given and not bool(torch.isfinite(images).all()):
                ends[name] = f"images at {strength:g} are not finite"
                break
            points.append(runs.judge(name, strength, images))
            used.append(strength)
            pictures[f"{name}, {strength:g}"] = images[shown]
            if grid is None and not wanted:
                end = _end(points[-1], unguided, true)
                ends[name] = end or f"doubled {DOUBLINGS} times"
                if end is None and len(used) <= given + DOUBLINGS:
                    wanted.append(2 * strength)
        evaluations[name] = cost
        curves[name] = QualityCurve(name, np.array(used), tuple(points))
    floors = {"balance": unguided.balance_floor, "frechet": float(true.held_out.frechet.value)}
    comparisons = {
        (dynamic, other, metric): compare_shares(
            curves[dynamic], curves[other], metric, "removed_share", floor=least, seed=seed
        )
        for dynamic in (DNG, CLASSES)
        for other in (NP, SLD)
        for metric, least in floors.items()
        if dynamic in curves and other in curves
    }
    return Removal(
        model.name,
        removed,
        num_images,
        num_steps,
        unguided,
        curves,
        evaluations,
        ends,
        comparisons,
        true,
        runs.wild,
        pictures,
        _checks(unguided, curves, comparisons),
    )


def chosen_kinds(
    strengths: Mapping[str, Sequence[float] | None] | None, num_classes: int
) -> dict[str, Sequence[float] | None]:
    """The kinds and their strengths; without any, all kinds that so many classes allow."""
    chosen: dict[str, Sequence[float] | None] = dict(strengths or dict.fromkeys(STRENGTHS))
    if strengths is None and num_classes > _MANY:
        del chosen[CLASSES]
    return chosen


def _end(point: Quality, unguided: Quality, true: Floor) -> str | None:
    """Why a stronger setting has nothing to add; None if it may have."""
    least = float(true.held_out.left.value)
    if float(point.left.value) <= least + 1 / point.num_images:
        return "as little is left as in data without the class"
    price = max(float(unguided.frechet.value), float(true.held_out.frechet.value))
    if not float(point.frechet.value) <= _EXPLODED * price:
        return f"the Fréchet distance is more than {_EXPLODED:g} times that unguided"
    return None


def _checks(
    unguided: Quality,
    curves: Mapping[str, QualityCurve],
    comparisons: Mapping[tuple[str, str, str], FrontComparison],
) -> list[Claim]:
    checks = []
    for (dynamic, other, metric), found in comparisons.items():
        low, high = found.budgets[[0, -1]]
        checks.append(
            at_most(
                f"{dynamic} leaves less of the class than {other} along the prices in {PRICES[metric]}: "
                "difference of shares, mean over the logarithm of the price",
                found.area,
                0.0,
                f"area between the fronts from {low:.2g} to {high:.2g}",
            )
        )
    for name in (DNG, CLASSES):
        if name not in curves:
            continue
        points = dict(zip(curves[name].strengths.tolist(), curves[name].points, strict=True))
        exact = points.get(1.0)
        if exact is None:
            continue
        checks += [
            at_most(f"{name}, strength 1: share of the class that is left", exact.left, 0.02),
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
