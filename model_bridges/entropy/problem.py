"""What every estimator is given: a model, images, classes and their groups, noise levels, a seed.

A `Problem` checks these once, names everything that results depend on (`settings`), and cuts the images
into chunks of fixed size. Random numbers are `rng(kind, chunk, ...)`: of the seed, the kind of job and the
chunk, so that chunks can be done anywhere, in any order, twice.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.special import entr
from torch import Tensor

from gmm_speciation.checks import as_count
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition, as_partition
from model_bridges.denoisers.arrays import Images, Labels
from model_bridges.denoisers.base import UNCONDITIONAL, Denoiser, Label, own_raw
from model_bridges.denoisers.checks import (
    check_data,
    check_levels,
    check_named,
    check_weighed,
    class_weights,
)
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.devices import brought
from model_bridges.entropy.evidence import label_divergence, posterior_divergence
from model_bridges.entropy.levels import pilot_rate
from model_bridges.entropy.linear_bounds import wiener_errors
from model_bridges.runs.jobs import Arrays, chunk_slice, default_chunk_size

TRIVIAL = "classes"
PROBE_IMAGES, PROBE_CLASSES, PROBE_LEVELS = 2, 32, 5
BATCH, LARGEST_CHUNK = 1024, 64


@dataclass(frozen=True, eq=False)
class Problem:
    """Model, data, classes, levels and seed; make it with `problem`."""

    denoiser: CountingDenoiser
    x0: Float[Tensor, "N *event"]
    labels: Int[Tensor, " N"] | None
    law: str  # that the images were drawn from
    sigmas: Float[np.ndarray, " L"] | None  # increasing; None: each kind of job places its own
    prior: Float[np.ndarray, " K"]
    partitions: dict[str, Partition]
    seed: int
    chunk_size: int
    max_batch: int

    @property
    def num_chunks(self) -> int:
        return math.ceil(len(self.x0) / self.chunk_size)

    def images(self, index: int) -> slice:
        """The images of one chunk."""
        return chunk_slice(index, len(self.x0), self.chunk_size)

    def clean(self, images: slice | Int[Tensor, " N"]) -> Float[Tensor, "N *event"]:
        """Some of the images beside the model, in float64."""
        return brought(self.denoiser, self.x0[images]).double()

    def rng(self, kind: str, *indices: int) -> np.random.Generator:
        """Random numbers of one kind of job at one place of it."""
        tag = int.from_bytes(hashlib.sha256(kind.encode()).digest()[:4], "big")
        return np.random.default_rng([self.seed, tag, *indices])

    @property
    def options(self) -> dict[str, Any]:
        """What `track` is given of it besides the model, images and levels."""
        return {
            "prior": self.prior,
            "partitions": self.partitions,
            "seed": self.seed,
            "max_batch": self.max_batch,
        }

    def prior_entropy(self, partition: Partition) -> float:
        """H(C) of a grouping of the classes, nats."""
        return float(entr(np.bincount(partition.labels, self.prior)).sum())

    def divergence(
        self, name: str, posterior: Float[np.ndarray, "N L C"] | None = None
    ) -> Estimate | None:
        """Of the images' classes from the class weights: by labels, else by the posteriors of a grouping."""
        if self.labels is not None or posterior is None:
            return label_divergence(self.labels, self.prior)
        weights = np.bincount(self.partitions[name].labels, self.prior)
        return posterior_divergence(posterior[:, 0], weights)

    def settings(self, kind: str, **own: Any) -> dict[str, Any]:
        """Everything that the numbers of this kind of job depend on, as plain data."""
        return {
            "work": kind,
            "evidence": 1,  # sums that a run of before does not hold
            "law": self.law,
            "seed": self.seed,
            "chunk_size": self.chunk_size,
            "num_images": len(self.x0),
            "data_sha256": _digest(self.x0, self.labels),
            "sigmas": None if self.sigmas is None else [float(s) for s in self.sigmas],
            "prior": [float(w) for w in self.prior],
            "partitions": {name: list(p.labels) for name, p in self.partitions.items()},
            "model": model_settings(self.denoiser, self.x0.device),
            **own,
        }

    def rate(self) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
        """Levels of a pilot, and the entropy lost per unit log sigma there."""
        return pilot_rate(
            self.denoiser, self.x0, prior=self.prior, seed=self.seed, max_batch=self.max_batch
        )

    def bounded(self, levels: Float[np.ndarray, " L"]) -> Arrays:
        """The levels, and what a linear denoiser achieves on each image at them, where that is known."""
        bound = wiener_errors(self.x0, levels)
        return {"levels": levels} | ({} if bound is None else {"wiener": bound})


@dataclass(frozen=True, eq=False)
class ProblemJob:
    """A job on a problem; what it depends on beside the problem are its own fields."""

    kind: ClassVar[str]

    problem: Problem

    @property
    def denoiser(self) -> CountingDenoiser:
        return self.problem.denoiser

    @property
    def num_chunks(self) -> int:
        return self.problem.num_chunks

    def settings(self) -> dict[str, Any]:
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "problem"}
        return self.problem.settings(self.kind, **own)


def model_settings(
    denoiser: CountingDenoiser, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """What tells one model from another: its answers, and what makes posterior means of them."""
    coefficients = [denoiser.coefficients(float(sigma)) for sigma in _probe_levels(denoiser)]
    return {
        "provenance": denoiser.provenance,
        "event_shape": list(denoiser.event_shape),
        "sigma_range": [float(s) for s in denoiser.sigma_range],
        "coefficients": [float(one) for pair in coefficients for one in pair],
        "probe": probe(denoiser, device),
    }


def _probe_levels(denoiser: Denoiser) -> Float[np.ndarray, " P"]:
    """Both ends of the trained range and three levels between."""
    return np.geomspace(*denoiser.sigma_range, PROBE_LEVELS)


@torch.no_grad()
def probe(denoiser: CountingDenoiser, device: torch.device | str = "cpu") -> list[float]:
    """What the model says on fixed states: other weights, classes or prompts under the same name are noticed.

    In the middle of the trained range of each class up to `PROBE_CLASSES`, of more classes of as many, evenly
    spread; elsewhere of two; everywhere of the whole. Mean and size of every answer.
    """
    normals = np.random.default_rng(20240607).standard_normal((PROBE_IMAGES, *denoiser.event_shape))
    noise = brought(denoiser, torch.from_numpy(normals).to(device))
    asked = np.linspace(0, denoiser.num_classes - 1, min(denoiser.num_classes, PROBE_CLASSES))
    pairs = torch.from_numpy(asked.round().astype(int)).to(noise.device).split(PROBE_IMAGES)
    whole: list[Label] = [UNCONDITIONAL] if denoiser.has_unconditional else []
    answers: list[float] = []
    for place, sigma in enumerate(_probe_levels(denoiser)):
        x = float(sigma) * noise
        chosen = pairs if place == PROBE_LEVELS // 2 else pairs[place % len(pairs) :][:1]
        for label in [*chosen, *whole]:  # batches that any machine can hold
            states = x[: len(label)] if isinstance(label, Tensor) else x
            raw = own_raw(denoiser.denoiser, states, float(sigma), label).cpu().double().flatten(1)
            answers += [*raw.mean(1).tolist(), *raw.square().mean(1).sqrt().tolist()]
    return answers


def problem(
    denoiser: Denoiser,
    x0: Images,
    labels: Labels | None = None,
    *,
    law: str = "images given",
    sigmas: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    partitions: Mapping[str, Partition | Sequence[int]] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    max_batch: int = 1024,
) -> Problem:
    """A checked problem.

    Args:
        denoiser: The model.
        x0: Clean data in the model's units.
        labels: True classes, where they are known.
        law: What the images were drawn from, in words; every result carries it.
        sigmas: Noise levels of the curves; each estimator places its own by default.
        prior: Class weights; by default the model's `class_prior`, else equal.
        partitions: Named groupings of the classes; every class its own by default.
        seed: Of everything random.
        chunk_size: Images in a chunk; by default at most 16, and at least 16 chunks. With few classes
            and many images as many as fill a batch, at most 64.
        max_batch: Largest batch given to the network.

    Raises:
        ValueError: If something does not fit the model, or there are fewer than two images.
    """
    x0, labels = check_data(denoiser, x0, labels)
    if len(x0) < 2:
        raise ValueError(f"An error bar needs at least two images in `x0`; got {len(x0)}.")
    weights = class_weights(prior, denoiser)
    check_weighed(labels, weights)
    filling = min(LARGEST_CHUNK, BATCH // denoiser.num_classes)  # no matter which machine
    size = default_chunk_size(len(x0), filling=filling) if chunk_size is None else chunk_size
    if size >= len(x0):
        raise ValueError(
            f"`chunk_size` must leave two chunks of {len(x0)} images or more; got {size}."
        )
    return Problem(
        denoiser if isinstance(denoiser, CountingDenoiser) else CountingDenoiser(denoiser),
        x0,
        labels,
        law,
        None if sigmas is None else check_levels(sigmas, denoiser.sigma_range),
        weights,
        named_partitions(partitions, denoiser.num_classes),
        as_count(seed, "seed", 0),
        as_count(size, "chunk_size"),
        as_count(max_batch, "max_batch"),
    )


def named_partitions(
    partitions: Mapping[str, Partition | Sequence[int]] | None, num_classes: int
) -> dict[str, Partition]:
    """The groupings by name; every class its own by default.

    Raises:
        ValueError: If one is not of these classes, or has a single group.
    """
    if num_classes < 2:
        raise ValueError(
            "The model has one class: where classes are decided, it needs two or more."
        )
    given = partitions or {TRIVIAL: Partition.trivial(num_classes)}
    check_named(given)
    chosen = {name: as_partition(one, num_classes) for name, one in given.items()}
    for name, partition in chosen.items():
        if partition.num_classes < 2:
            raise ValueError(
                f"the partition {name!r} must have at least two groups, as nothing is decided in one; "
                f"got {partition.num_classes}."
            )
    return chosen


def _digest(x0: Tensor, labels: Tensor | None) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(x0.detach().cpu().numpy()).tobytes())
    if labels is not None:
        digest.update(labels.detach().cpu().long().numpy().tobytes())
    return digest.hexdigest()
