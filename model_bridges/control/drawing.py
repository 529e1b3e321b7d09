"""Draws of a model under several guidances or samplers, judged; what intervals and grids are compared by."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.estimate import Estimate
from gmm_speciation.progress import SILENT, Progress
from model_bridges.control.guided import Kind
from model_bridges.entropy.problem import probe
from model_bridges.guidance import Guidance
from model_bridges.quality import Quality
from model_bridges.quality.jackknife import NUM_BATCHES, batch_index, mean_of, share_estimate
from model_bridges.runs.chunk_files import CorruptChunkError, read_sums, write_sums
from model_bridges.runs.jobs import ChunkSums
from model_bridges.samplers import Method
from model_bridges.studied import NUM_STEPS, StudiedModel

SHOWN = 20


@dataclass(frozen=True, eq=False)
class Draw:
    """One run: its quality, the share recognised as the class asked for, and its cost.

    Without a guidance towards the classes in turn `recognised` says nothing.
    """

    name: str
    quality: Quality
    recognised: Estimate
    evaluations: int  # of an image
    pictures: Float[Tensor, "N *event"]


def draw(
    model: StudiedModel,
    name: str,
    kind: Kind,
    num_images: int,
    *,
    sigmas: Float[Tensor, " T"] | None = None,
    method: Method = "ancestral",
    seed: int = 0,
    progress: Progress = SILENT,
) -> Draw:
    """Draw the classes in turn and judge. Arguments as `StudiedModel.draw`.

    What the model's folder holds of before is read from it.
    """
    labels = model.balanced_labels(num_images)
    digest = _digest(model, kind(labels), [num_images, method, seed], sigmas)
    path = None if model.folder is None else model.folder / f"{digest[:24]}.npz"
    found = None if path is None or not path.exists() else _stored(path, digest)
    if found is None:
        before = model.denoiser.evaluations
        drawn = model.draw(
            kind, num_images, sigmas=sigmas, method=method, seed=seed, progress=progress
        )
        cost = (model.denoiser.evaluations - before) // num_images
        found = ChunkSums(num_images, {}, {"images": drawn.cpu().numpy()}, cost)
        if path is not None:
            write_sums(path, found, digest)
    images, cost = torch.from_numpy(found.rows["images"]), found.evaluations
    right = model.judge.predict(images) == labels.numpy()
    batches = batch_index(num_images, NUM_BATCHES)
    share = mean_of(np.asarray(right, float), batches, NUM_BATCHES)
    return Draw(
        name, model.assess(images), share_estimate(share.estimate, num_images), cost, images[:SHOWN]
    )


def _digest(
    model: StudiedModel, guidance: Guidance, words: list[Any], sigmas: Float[Tensor, " T"] | None
) -> str:
    """Names everything that the images of a run depend on."""
    leaves, structure = jax.tree.flatten(guidance)
    values = [
        np.asarray(leaf).tolist() if hasattr(leaf, "shape") else repr(leaf) for leaf in leaves
    ]
    levels = None if sigmas is None else sigmas.tolist()
    own = [model.name, model.denoiser.provenance, NUM_STEPS, *probe(model.denoiser)]
    content = json.dumps([own, str(structure), values, levels, words])
    return hashlib.sha256(content.encode()).hexdigest()


def _stored(path: Path, digest: str) -> ChunkSums | None:
    try:
        return read_sums(path, digest)
    except CorruptChunkError:
        path.unlink()  # drawn again
        return None
