"""The EDM2 denoiser: preconditioning around a magnitude-preserving U-Net.

With `x = x_0 + sigma n`, `n ~ N(0, I)`, and data of standard deviation `sigma_d`,

    D(x; sigma, c) = c_skip x + c_out F(c_in x; c_noise, c),
    c_skip = sigma_d^2 / (sigma^2 + sigma_d^2),  c_out = sigma sigma_d / sqrt(sigma^2 + sigma_d^2),
    c_in = 1 / sqrt(sigma^2 + sigma_d^2),        c_noise = log(sigma) / 4

(Karras et al., 2022, arXiv 2206.00364, Table 1), where `F` is configuration G of Karras et al.
(2024, arXiv 2312.02696, Fig. 21; the equation numbers are of that paper). `D` estimates
`E[x_0 | x, c]`. Images are `(B, img_channels, img_resolution, img_resolution)`; `sigma` has the
units of the data. The tensor names are those of the published weights.
"""

import inspect
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model_bridges.edm2.layers import MPConv, MPFourier
from model_bridges.edm2.unet import Block, UNet


class Preconditioning(NamedTuple):
    """Coefficients of `D = c_skip x + c_out F(c_in x; c_noise)`, each of the shape of `sigma`."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class EDM2Network(nn.Module):
    """EDM2 denoiser `D(x; sigma, label)`, an estimate of the posterior mean `E[x_0 | x, label]`.

    Args:
        img_resolution: Height and width in pixels; halved once per further entry of `channel_mult`.
        img_channels: Channels of the image.
        label_dim: Number of classes; 0 makes a truly unconditional network.
        use_fp16: Kept with the configuration. Computation is in the dtype of the parameters, at
            least float32; the published half-precision outputs differ by up to 1e-3.
        sigma_data: Standard deviation of the data, `sigma_d`.
        logvar_channels: Fourier features of the log-variance head.
        dropout: Probability of dropping an activation inside a block, in training only.
        **unet_kwargs: `model_channels`, `channel_mult`, `channel_mult_noise`, `channel_mult_emb`,
            `num_blocks`, `attn_resolutions`, `label_balance`, `concat_balance`, `res_balance`,
            `attn_balance`, `channels_per_head`, `clip_act` under their published names.

    Raises:
        ValueError: If an argument is unknown or the resolution cannot be halved often enough.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        *,
        use_fp16: bool = False,
        sigma_data: float = 0.5,
        logvar_channels: int = 128,
        dropout: float = 0.0,
        **unet_kwargs: Any,
    ) -> None:
        super().__init__()
        self.img_resolution, self.img_channels = img_resolution, img_channels
        self.label_dim, self.sigma_data, self.use_fp16 = label_dim, sigma_data, use_fp16
        _check_configuration(img_resolution, unet_kwargs)
        self.unet = UNet(img_resolution, img_channels, label_dim, dropout=dropout, **unet_kwargs)
        self.logvar_fourier = MPFourier(logvar_channels)
        self.logvar_linear = MPConv(logvar_channels, 1)

    def preconditioning(self, sigma: Float[Tensor, "*B"]) -> Preconditioning:
        """Coefficients at noise level `sigma` (Karras et al., 2022, Table 1)."""
        total = (sigma**2 + self.sigma_data**2).sqrt()
        return Preconditioning(
            c_skip=self.sigma_data**2 / total**2,
            c_out=sigma * self.sigma_data / total,
            c_in=1 / total,
            c_noise=sigma.log() / 4,
        )

    def raw(
        self,
        x: Float[Tensor, "B *event"],
        sigma: Float[Tensor, "*B"] | float | int,
        class_labels: Int[Tensor, "*L"] | Float[Tensor, "*L"] | None = None,
    ) -> Float[Tensor, "B *event"]:
        """The raw output `F`; differences of denoisers are `c_out (F - F')`, free of `c_skip x`.

        Arguments and errors as in `forward`.
        """
        x, levels, labels = self._prepare(x, sigma, class_labels)
        coefficients = self.preconditioning(levels)
        return self.unet(_per_image(coefficients.c_in) * x, coefficients.c_noise, labels)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """What is compiled is the U-Net, which every output comes from."""
        self.unet.compile(*args, **kwargs)

    def logvar(self, sigma: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Log of the expected weighted squared error per element at `sigma`, as learned (Eq. 21).

        At the optimum `exp(logvar) = (sigma^2 + sigma_d^2)/(sigma sigma_d)^2 * mmse per element`.
        """
        return self.logvar_linear(self.logvar_fourier(sigma.log() / 4))[:, 0]

    def forward(
        self,
        x: Float[Tensor, "B *event"],
        sigma: Float[Tensor, "*B"] | float | int,
        class_labels: Int[Tensor, "*L"] | Float[Tensor, "*L"] | None = None,
        return_logvar: bool = False,
    ) -> Float[Tensor, "B *event"] | tuple[Float[Tensor, "B *event"], Float[Tensor, "B 1 1 1"]]:
        """Denoise `x`.

        Args:
            x: Noisy images `(B, img_channels, img_resolution, img_resolution)`.
            sigma: Noise level, positive, a scalar or one per image.
            class_labels: Integers `(B,)`, soft labels `(B, label_dim)`, or `None` for the zero
                label. The zero label is not an unconditional model: that is a network of its own.
            return_logvar: Also return the log-variance head, `(B, 1, 1, 1)`.

        Raises:
            ValueError: If a shape, a noise level or a label does not fit the network.
        """
        x, levels, labels = self._prepare(x, sigma, class_labels)
        coefficients = self.preconditioning(levels)
        output = self.unet(_per_image(coefficients.c_in) * x, coefficients.c_noise, labels)
        denoised = _per_image(coefficients.c_skip) * x + _per_image(coefficients.c_out) * output
        return (denoised, _per_image(self.logvar(levels))) if return_logvar else denoised

    def _prepare(
        self, x: Tensor, sigma: Tensor | float | int, class_labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Arguments in one dtype and device, `sigma` as `(B,)`, labels as `(B, label_dim)`."""
        weight = self.logvar_linear.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        event = (self.img_channels, self.img_resolution, self.img_resolution)
        if tuple(x.shape[1:]) != event:
            raise ValueError(
                f"`x` must have shape (B, {', '.join(map(str, event))}); got {tuple(x.shape)}. "
                "Resize or reshape the images to the network's resolution."
            )
        x = x.to(weight.device, dtype)
        levels = torch.as_tensor(sigma, device=weight.device, dtype=dtype)
        if levels.shape not in ((), (len(x),)):
            raise ValueError(
                f"`sigma` must be a scalar or have one entry per image ({len(x)},); got shape "
                f"{tuple(levels.shape)}. Flatten it first."
            )
        if levels.device.type != "meta" and not bool(((levels > 0) & levels.isfinite()).all()):
            raise ValueError(
                f"`sigma` must be positive and finite; got values from {float(levels.min()):g} to "
                f"{float(levels.max()):g}. Stop a schedule before its last zero."
            )
        return x, levels.expand(len(x)), self._labels(class_labels, len(x), weight.device, dtype)

    def _labels(
        self,
        class_labels: Tensor | None,
        batch: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Tensor:
        if class_labels is None:
            return torch.zeros(batch, self.label_dim, device=device, dtype=dtype)
        if self.label_dim == 0:
            raise ValueError(
                "`class_labels` must be None: this network is unconditional (label_dim = 0). "
                "Use the conditional network of the pair to condition on a class."
            )
        labels = class_labels.to(device)
        if labels.is_floating_point() and labels.shape == (batch, self.label_dim):
            return labels.to(dtype)
        if labels.is_floating_point() or labels.shape != (batch,):
            raise ValueError(
                f"`class_labels` must be integers of shape ({batch},) or soft labels of shape "
                f"({batch}, {self.label_dim}); got {labels.dtype} of shape {tuple(labels.shape)}."
            )
        if device.type != "meta" and not bool(((labels >= 0) & (labels < self.label_dim)).all()):
            raise ValueError(
                f"`class_labels` must be in 0..{self.label_dim - 1}; got {int(labels.min())} to "
                f"{int(labels.max())}. Pass None for the zero label."
            )
        return nn.functional.one_hot(labels.long(), self.label_dim).to(dtype)


def _per_image(values: Float[Tensor, " B"]) -> Float[Tensor, "B 1 1 1"]:
    return values[:, None, None, None]


def _check_configuration(img_resolution: int, unet_kwargs: dict) -> None:
    known = {
        name
        for module in (UNet, Block)
        for name, parameter in inspect.signature(module).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    } - {"decoder", "mode", "attention"}
    unknown = sorted(set(unet_kwargs) - known)
    if unknown:
        raise ValueError(
            f"unknown arguments {unknown}; expected some of {sorted(known)}. Check the spelling "
            "against the published configuration."
        )
    halvings = len(unet_kwargs.get("channel_mult", (1, 2, 3, 4))) - 1
    if img_resolution % 2**halvings:
        raise ValueError(
            f"`img_resolution` must be divisible by {2**halvings} to be halved {halvings} times; "
            f"got {img_resolution}. Shorten `channel_mult` or pad the images."
        )
