"""Random batches of a training: images moved a little, and stratified uniform numbers."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_bridges.digits.training.recipe import Recipe


def augment(
    images: Float[Tensor, "B 1 H W"], background: float, recipe: Recipe
) -> Float[Tensor, "B 1 H W"]:
    """Random small shifts, rotations and zooms (bicubic); `background` fills what enters."""
    if recipe.max_shift == recipe.max_rotation == recipe.max_zoom == 0:
        return images
    batch, _, _, width = images.shape
    uniform = 2 * torch.rand(4, batch) - 1
    angle = math.radians(recipe.max_rotation) * uniform[0]
    zoom = torch.exp(recipe.max_zoom * uniform[1])
    shift = recipe.max_shift * 2 / width * uniform[2:]  # in grid units: the image spans [-1, 1]
    rows = [
        torch.stack([zoom * angle.cos(), -zoom * angle.sin(), shift[0]], 1),
        torch.stack([zoom * angle.sin(), zoom * angle.cos(), shift[1]], 1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    lifted = images - background  # outside the image, `grid_sample` reads zeros
    moved = nn.functional.grid_sample(lifted, grid, mode="bicubic", align_corners=False)
    return moved.clamp(0, float(lifted.max())) + background


def stratified(num: int) -> Float[Tensor, " B"]:
    """Uniform numbers, one from each of `num` equal intervals of (0, 1)."""
    return (torch.arange(num) + torch.rand(num)) / num
