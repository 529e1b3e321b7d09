"""Draws of a model under several guidances or samplers, judged; what intervals and grids are compared by."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.estimate import Estimate
from gmm_speciation.progress import SILENT, Progress
from model_bridges.control.guided import Kind
from model_bridges.control.judged import JudgedModel
from model_bridges.quality import Quality
from model_bridges.quality.jackknife import NUM_BATCHES, batch_index, mean_of, share_estimate
from model_bridges.samplers import Method

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
    model: JudgedModel,
    name: str,
    kind: Kind,
    num_images: int,
    *,
    sigmas: Float[Tensor, " T"] | None = None,
    method: Method = "ancestral",
    seed: int = 0,
    progress: Progress = SILENT,
) -> Draw:
    """Draw the classes in turn and judge. Arguments as `JudgedModel.draw`."""
    before = model.denoiser.evaluations
    images = model.draw(
        kind, num_images, sigmas=sigmas, method=method, seed=seed, progress=progress
    )
    cost = (model.denoiser.evaluations - before) // num_images
    right = model.judge.predict(images) == model.balanced_labels(num_images).numpy()
    batches = batch_index(num_images, NUM_BATCHES)
    share = mean_of(np.asarray(right, float), batches, NUM_BATCHES)
    return Draw(
        name, model.assess(images), share_estimate(share.estimate, num_images), cost, images[:SHOWN]
    )
