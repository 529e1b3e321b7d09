"""The text-to-image model of digits as the subject of a cross-check.

Classes are the ten prompts "a handwritten zero", ...; states are latents, drawn from the encoder as in
training, so that the theory's mixture is one of the latents. A decision between the prompts is read from
their Bayes mixture; the empty prompt is another quantity and has its own name.
"""

import torch
from torch import Tensor

from model_bridges.denoisers.base import EMPTY_PROMPT
from model_bridges.digits.data import load_digits
from model_bridges.digits.subject import Subject
from model_bridges.digits.text import load_denoiser
from model_bridges.digits.text.data import to_pictures


def text_subject() -> Subject:
    """The shipped text-to-image model with the ten prompts of the digits."""
    denoiser, digits = load_denoiser(), load_digits()

    def encode(images: Tensor, generator: torch.Generator) -> Tensor:
        return denoiser.encode(to_pictures(digits, images), generator)

    return Subject(
        "digits-text",
        denoiser,
        class_name="prompt",
        sigma_data=1.0,
        encode=encode,
        decode=denoiser.decode,
        show=lambda images: to_pictures(digits, images),
        reference=EMPTY_PROMPT,
    )
