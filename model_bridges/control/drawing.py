"""Draws of a model under several guidances or samplers, judged; what intervals and grids are compared by."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reporting.records import to_json
from gmm_speciation.shares import Share
from model_bridges.control.guided import Kind
from model_bridges.entropy.problem import model_settings
from model_bridges.quality import Quality
from model_bridges.runs.chunk_files import CorruptChunkError, read_sums, write_sums
from model_bridges.runs.folder import process_place, todo, versions
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
    digests = [_digest(model, one) for one in wanted]

    def drawn(index: int) -> ChunkSums:
        return images_of(model, wanted[index], digests[index], model.folder, progress)

    share_out(model.folder, digests, drawn)
    return [_judged(model, one, drawn(index)) for index, one in enumerate(wanted)]


def _judged(model: StudiedModel, wanted: Wanted, found: ChunkSums) -> Draw:
    images, labels = torch.from_numpy(found.rows["images"]), model.balanced_labels(found.count)
    right = model.judge.predict(images) == labels.numpy()
    share = Share.counted(right.mean(), found.count)
    return Draw(wanted.name, model.assess(images), share, found.evaluations, images[:SHOWN])


def images_of(
    model: StudiedModel, wanted: Wanted, digest: str, folder: Path | None, progress: Progress
) -> ChunkSums:
    """The images of one run as rows, and its evaluations an image; a folder keeps them.

    Args:
        model: Draws them, if the folder has none of this digest.
        wanted: The run.
        digest: Names everything that they depend on.
        folder: Where they are read from, or kept.
        progress: Told of the run.
    """
    progress.step(wanted.name)
    path = None if folder is None else _file(folder, digest)
    if path is not None and path.exists():
        try:
            return read_sums(path, digest)
        except CorruptChunkError as error:
            progress.say(f"the images of {wanted.name}, {error}: drawn again")
            path.unlink()
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
    found = ChunkSums(wanted.num_images, {}, {"images": images.cpu().numpy()}, cost)
    if path is not None:
        write_sums(path, found, digest)
    return found


def share_out(folder: Path | None, digests: Sequence[str], draw: Callable[[int], object]) -> None:
    """Where several processes share a folder, each draws its part of these runs."""
    if folder is not None and process_place()[1] > 1:
        for index in todo(len(digests), lambda i: _file(folder, digests[i]).exists()):
            draw(index)


def _file(folder: Path, digest: str) -> Path:
    return folder / f"{digest[:24]}.npz"


def _digest(model: StudiedModel, wanted: Wanted) -> str:
    """Names everything that the images of a run depend on."""
    guidance = to_json(wanted.kind(model.balanced_labels(wanted.num_images)))
    levels = None if wanted.sigmas is None else wanted.sigmas.tolist()
    own = [model.name, NUM_STEPS, model_settings(model.denoiser), versions()]
    words = [wanted.num_images, wanted.method, wanted.seed]
    content = json.dumps([own, guidance, levels, words])
    return hashlib.sha256(content.encode()).hexdigest()
