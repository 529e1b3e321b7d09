"""Draws of a model under several guidances or samplers, judged; what intervals and grids are compared by."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.shares import Share
from model_bridges.control.guided import Kind
from model_bridges.entropy.problem import probe
from model_bridges.guidance import Guidance
from model_bridges.quality import Quality
from model_bridges.runs.chunk_files import CorruptChunkError, read_sums, write_sums
from model_bridges.runs.folder import process_place, todo
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
    recognised: Share
    evaluations: int  # of an image
    pictures: Float[Tensor, "N *event"]


@dataclass(frozen=True, eq=False)
class Wanted:
    """What to draw, classes in turn. As the arguments of `StudiedModel.draw`."""

    name: str
    kind: Kind
    num_images: int
    sigmas: Float[Tensor, " T"] | None = None
    method: Method = "ancestral"
    seed: int = 0


def draw_all(
    model: StudiedModel, wanted: Sequence[Wanted], progress: Progress = SILENT
) -> list[Draw]:
    """Draw and judge. What the model's folder holds of before is read from it.

    The processes of a launch, which share the folder, each draw a part before.
    """
    if process_place()[1] > 1:
        places = [_place(model, one) for one in wanted]
        paths = [path for _, path in places if path is not None]
        for index in todo(len(paths), lambda i: paths[i].exists()):
            progress.step(wanted[index].name)
            write_sums(paths[index], _drawn(model, wanted[index], progress), places[index][0])
    return [_draw(model, one, progress) for one in wanted]


def _draw(model: StudiedModel, wanted: Wanted, progress: Progress) -> Draw:
    progress.step(wanted.name)
    labels = model.balanced_labels(wanted.num_images)
    digest, path = _place(model, wanted)
    found = None if path is None or not path.exists() else _stored(path, digest)
    if found is None:
        found = _drawn(model, wanted, progress)
        if path is not None:
            write_sums(path, found, digest)
    images, cost = torch.from_numpy(found.rows["images"]), found.evaluations
    right = model.judge.predict(images) == labels.numpy()
    return Draw(
        wanted.name,
        model.assess(images),
        Share.counted(right.mean(), wanted.num_images),
        cost,
        images[:SHOWN],
    )


def _drawn(model: StudiedModel, wanted: Wanted, progress: Progress) -> ChunkSums:
    before = model.denoiser.evaluations
    images = model.draw(
        wanted.kind,
        wanted.num_images,
        sigmas=wanted.sigmas,
        method=wanted.method,
        seed=wanted.seed,
        progress=progress,
    )
    cost = (model.denoiser.evaluations - before) // wanted.num_images
    return ChunkSums(wanted.num_images, {}, {"images": images.cpu().numpy()}, cost)


def _place(model: StudiedModel, wanted: Wanted) -> tuple[str, Path | None]:
    """Digest of everything that the images depend on, and their file."""
    labels = model.balanced_labels(wanted.num_images)
    words = [wanted.num_images, wanted.method, wanted.seed]
    digest = _digest(model, wanted.kind(labels), words, wanted.sigmas)
    return digest, None if model.folder is None else model.folder / f"{digest[:24]}.npz"


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
