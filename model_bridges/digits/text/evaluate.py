"""How good the text-to-image model of digits is: pictures it draws, and its loss.

*Agreement*: share of pictures of which the caption is true, by an independent classifier that sees the
picture brought back to 8 x 8. Recognition and distances of the ten prompts as for the small digits
networks (`training.evaluate`). *Loss*: weighted squared error per entry of the latents.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from model_bridges.denoisers.base import UNCONDITIONAL, Unconditional
from model_bridges.digits.classifier import DigitClassifier
from model_bridges.digits.data import NUM_CLASSES, Digits
from model_bridges.digits.text.captions import ANY, EMPTY, PARITY, PROMPTS, true_of
from model_bridges.digits.text.data import to_digits, to_pictures
from model_bridges.digits.training.evaluate import GeneratedQuality, denoising_loss, generate, judge
from model_bridges.digits.training.run import derived_seed
from model_bridges.pipelines import LatentDiffusion

LOSS_SIGMAS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0, 7.0, 15.0, 60.0)


@dataclass(frozen=True)
class CaptionQuality:
    """Pictures of one caption: how many, the share it is true of, and which digits they show."""

    caption: str
    num_generated: int
    agreement: float
    digits: tuple[int, ...]


@dataclass(frozen=True)
class TextQuality:
    """Judgement of the ten prompts, of the coarser captions, and of the autoencoder alone."""

    prompts: GeneratedQuality
    captions: tuple[CaptionQuality, ...]
    reconstruction_rms: float  # held-out pictures through the autoencoder, units of [-1, 1]
    reconstruction_accuracy: float


def text_quality(
    denoiser: LatentDiffusion, digits: Digits, *, per_prompt: int = 100, seed: int = 0
) -> TextQuality:
    """Draw pictures of every caption and judge them.

    Args:
        denoiser: The model with `PROMPTS`, the parity captions and `ANY` as its prompts, in this order.
        digits: Data of the judge and the held-out pictures.
        per_prompt: Pictures of each of the ten prompts and of each coarser caption.
        seed: Of the sampler.

    Raises:
        ValueError: If the prompts are others.
    """
    coarse = (*PARITY, ANY)
    if denoiser.prompts != (*PROMPTS, *coarse):
        raise ValueError(f"the prompts must be {(*PROMPTS, *coarse)}; got {denoiser.prompts}.")

    def draw(label: Int[Tensor, " n"] | Unconditional, num: int, seed: int) -> Tensor:
        shape = (num, *denoiser.event_shape)
        latents = generate(denoiser, shape, denoiser.sigma_range, label, seed=seed)
        return to_digits(digits, denoiser.decode(latents))

    labels = torch.arange(NUM_CLASSES).repeat_interleave(per_prompt)
    drawn = draw(labels, len(labels), seed)
    classifier = DigitClassifier(digits)
    captions = []
    for index, caption in enumerate((*coarse, EMPTY)):
        label = torch.full((per_prompt,), NUM_CLASSES + index)
        own = UNCONDITIONAL if caption == EMPTY else label
        shown = classifier.predict(draw(own, per_prompt, seed + 1 + index))
        captions.append(
            CaptionQuality(
                caption,
                per_prompt,
                float(np.isin(shown, true_of(caption)).mean()),
                tuple(np.bincount(shown, minlength=NUM_CLASSES).tolist()),
            )
        )
    pictures = to_pictures(digits, digits.held_out_images)
    back = denoiser.decode(denoiser.encode(pictures, torch.Generator().manual_seed(seed)))
    return TextQuality(
        judge(drawn, labels, digits),
        tuple(captions),
        float((back - pictures).square().mean().sqrt()),
        classifier.accuracy(to_digits(digits, back), digits.held_out_labels),
    )


def latent_losses(
    denoiser: LatentDiffusion, digits: Digits
) -> dict[str, dict[str, dict[float, float]]]:
    """Weighted squared error per entry of the latents, for the ten prompts and the empty one.

    Args:
        denoiser: The model; its first ten prompts are `PROMPTS`.
        digits: Training and held-out digits.
    """
    shown = len(digits.held_out_images)  # as many training digits
    parts = {
        "train": (digits.train_images[:shown], digits.train_labels[:shown]),
        "held_out": (digits.held_out_images, digits.held_out_labels),
    }
    # Not seed 0 itself: the noise added later would be the encoder's once more.
    generator = torch.Generator().manual_seed(derived_seed(0, 1))
    latents = {
        part: denoiser.encode(to_pictures(digits, images), generator)
        for part, (images, _) in parts.items()
    }
    return {
        name: {
            part: denoising_loss(
                denoiser,
                latents[part],
                labels if name == "prompt" else UNCONDITIONAL,
                sigmas=LOSS_SIGMAS,
                sigma_data=1.0,
                repeats=1,
                seed=0,
            )
            for part, (_, labels) in parts.items()
        }
        for name in ("prompt", "empty prompt")
    }
