"""The text-to-image model of digits as a model to study.

Classes are the ten prompts "a handwritten zero", ...; states are latents, drawn from the encoder as in
training, so that the theory's mixture is one of the latents. A decision between the prompts is read from
their Bayes mixture; the empty prompt is another quantity and has its own name.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gmm_speciation.progress import SILENT
from model_bridges.denoisers.base import EMPTY_PROMPT
from model_bridges.digits.data import load_digits
from model_bridges.digits.studied import known_of_digits
from model_bridges.digits.text.data import to_digits, to_pictures
from model_bridges.pipelines import LatentDiffusion
from model_bridges.studied import StudiedModel, study_denoiser


def text_model(
    denoiser: LatentDiffusion, say: Callable[[str], object] = SILENT.say
) -> StudiedModel:
    """The shipped text-to-image model with the ten prompts of the digits."""
    digits = load_digits()

    def encode(images: Tensor, generator: torch.Generator) -> Tensor:
        return denoiser.encode(to_pictures(digits, images), generator)

    return study_denoiser(
        denoiser,
        "digits-text",
        say,
        class_name="prompt",
        units="latents of standard deviation 1",
        sigma_data=1.0,
        unconditional=EMPTY_PROMPT,
        encode=encode,
        from_pictures=partial(to_digits, digits),
        show=partial(to_pictures, digits),
        **known_of_digits(digits),
    )
