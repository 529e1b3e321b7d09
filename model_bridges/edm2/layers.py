"""Magnitude-preserving layers of EDM2 (Karras et al., 2024, arXiv 2312.02696).

Every layer keeps activations at unit magnitude in expectation: an array `x` has magnitude 1
when the mean of `x^2` is 1. Weights are normalised per output channel, nonlinearities and sums
are divided by the magnitude they would produce on independent unit-normal inputs, and there are
no biases. Equation numbers are those of the paper. Images are `(B, channels, height, width)`.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

SILU_MAGNITUDE = 0.596  # root mean square of silu(z), z ~ N(0, 1) (Eq. 81)


def normalize(
    x: Float[Tensor, "*shape"], axes: Sequence[int] | None = None, epsilon: float = 1e-4
) -> Float[Tensor, "*shape"]:
    """`x / (epsilon + rms(x))`, the root mean square over `axes` (Eq. 66).

    Args:
        x: Any array; the norm is taken in float32 or wider.
        axes: Axes of one vector; all but the first when `None`, one vector per output channel.
        epsilon: Guards vectors of zero length.
    """
    axes = list(range(1, x.ndim)) if axes is None else list(axes)
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=axes, keepdim=True, dtype=wide)
    rms = epsilon + norm * math.sqrt(norm.numel() / x.numel())
    return x / rms.to(x.dtype)


def mp_silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Magnitude-preserving SiLU (Eq. 81)."""
    return nn.functional.silu(x) * (1 / SILU_MAGNITUDE)


def mp_sum(
    a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"], balance: float
) -> Float[Tensor, "*shape"]:
    """`((1-t) a + t b) / sqrt((1-t)^2 + t^2)` with `t = balance` (Eq. 88)."""
    return a.lerp(b.to(a.dtype), balance) * (1 / math.hypot(1 - balance, balance))


def mp_cat(
    a: Float[Tensor, "B M H W"], b: Float[Tensor, "B N H W"], balance: float
) -> Float[Tensor, "B both H W"]:
    """Concatenation of channels to which `b` contributes with weight `t = balance` (Eq. 103)."""
    num_a, num_b = a.shape[1], b.shape[1]
    scale = math.sqrt(num_a + num_b) / math.hypot(1 - balance, balance)
    weight_a = scale * (1 - balance) / math.sqrt(num_a)
    weight_b = scale * balance / math.sqrt(num_b)
    return torch.cat([weight_a * a, weight_b * b], dim=1)


def resample(x: Float[Tensor, "B C H W"], mode: str) -> Float[Tensor, "B C H2 W2"]:
    """Halve (`"down"`: mean of 2 x 2) or double (`"up"`: nearest) the resolution, or `"keep"`."""
    if mode == "down":
        return nn.functional.avg_pool2d(x, 2)
    if mode == "up":
        return nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    return x


class MPFourier(nn.Module):
    """`sqrt(2) cos(freqs u + phases)` of a scalar `u` (Eq. 75).

    The frequencies and phases are drawn once and belong to the state of the network.
    """

    freqs: Tensor
    phases: Tensor

    def __init__(self, num_channels: int, bandwidth: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * bandwidth * torch.randn(num_channels))
        self.register_buffer("phases", 2 * math.pi * torch.rand(num_channels))

    def forward(self, u: Float[Tensor, " B"]) -> Float[Tensor, "B features"]:
        return math.sqrt(2) * torch.cos(u[:, None] * self.freqs + self.phases)


class MPConv(nn.Module):
    """Convolution or, with `kernel=()`, linear map with normalised weights (Eq. 47).

    The weight of every output channel has unit length in use. In training the stored weight is
    overwritten by its normalised value before each forward (forced weight normalisation, Eq. 66),
    so that the effective learning rate does not drift.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Sequence[int] = ()) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, *kernel))

    def forward(
        self, x: Float[Tensor, "B features *space"], gain: Tensor | float = 1.0
    ) -> Float[Tensor, "B channels *space"]:
        if self.training:
            with torch.no_grad():
                self.weight.copy_(normalize(self.weight))
        fan_in = self.weight[0].numel()
        weight = normalize(self.weight) * (gain / math.sqrt(fan_in))
        weight = weight.to(x.dtype)
        if weight.ndim == 2:
            return x @ weight.T
        return nn.functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
