"""Digits as pictures of 32 x 32 in [-1, 1], and back.

A digit of 8 x 8 grey levels P in 0..16 becomes `U P U^T / 8 - 1` with U the `(32, 8)` matrix of
bicubic interpolation: paper is -1, ink is 1, up to the overshoot of the interpolation. The way back
is the least-squares one, `P = 8 U^+ (image + 1) U^+T`, exact on real digits, so that a judge of
8 x 8 digits judges pictures too.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from model_bridges.digits.data import Digits

SIZE, DIGIT_SIZE, FULL_INK = 32, 8, 16.0


def to_pictures(digits: Digits, images: Float[Tensor, "n 1 8 8"]) -> Float[Tensor, "n 1 32 32"]:
    """Pictures of standardised digits."""
    matrix = _interpolation().to(images)
    return matrix @ (digits.to_pixels(images) * (2 / FULL_INK)) @ matrix.mT - 1


def to_digits(digits: Digits, pictures: Float[Tensor, "n 1 32 32"]) -> Float[Tensor, "n 1 8 8"]:
    """Standardised digits of pictures."""
    inverse = torch.linalg.pinv(_interpolation()).to(pictures)
    pixels = inverse @ (pictures + 1) @ inverse.mT * (FULL_INK / 2)
    return (pixels - digits.mean) / digits.scale


def _interpolation() -> Float[Tensor, "32 8"]:
    unit = torch.eye(DIGIT_SIZE, dtype=torch.float64)[None, None]
    size = (SIZE, DIGIT_SIZE)
    return torch.nn.functional.interpolate(unit, size, mode="bicubic", align_corners=False)[0, 0]
