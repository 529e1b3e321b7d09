"""The raw EDM2 network `F`: a magnitude-preserving U-Net (Karras et al., 2024, Fig. 21).

Residual blocks keep the magnitude of activations: `x <- mp_sum(x, y, res_balance)` with

    y = conv_res1(mp_silu(conv_res0(mp_silu(x)) * (emb_linear(emb) * emb_gain + 1))),

where `emb = mp_silu(mp_sum(noise embedding, label embedding, label_balance))`. `out_gain` and
every `emb_gain` start at zero, so a fresh network returns 0 and ignores its label.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_bridges.edm2.layers import (
    MPConv,
    MPFourier,
    mp_cat,
    mp_silu,
    mp_sum,
    normalize,
    resample,
)


class Block(nn.Module):
    """Residual block of the encoder or decoder, with optional attention (Fig. 21).

    Attention needs at least one whole head: with fewer than `channels_per_head` channels there
    is none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        *,
        decoder: bool,
        mode: str = "keep",
        attention: bool = False,
        channels_per_head: int = 64,
        dropout: float = 0.0,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float | int | None = 256,
    ) -> None:
        super().__init__()
        self.decoder, self.mode, self.dropout = decoder, mode, dropout
        self.res_balance, self.attn_balance, self.clip_act = res_balance, attn_balance, clip_act
        self.num_heads = out_channels // channels_per_head if attention else 0
        self.emb_gain = nn.Parameter(torch.zeros([]))
        width = in_channels if decoder else out_channels
        self.conv_res0 = MPConv(width, out_channels, (3, 3))
        self.emb_linear = MPConv(emb_channels, out_channels)
        self.conv_res1 = MPConv(out_channels, out_channels, (3, 3))
        changes = in_channels != out_channels
        self.conv_skip = MPConv(in_channels, out_channels, (1, 1)) if changes else None
        has_heads = self.num_heads > 0
        self.attn_qkv = MPConv(out_channels, 3 * out_channels, (1, 1)) if has_heads else None
        self.attn_proj = MPConv(out_channels, out_channels, (1, 1)) if has_heads else None

    def forward(
        self, x: Float[Tensor, "B C H W"], emb: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B C2 H2 W2"]:
        x = resample(x, self.mode)
        if not self.decoder:
            x = x if self.conv_skip is None else self.conv_skip(x)
            x = normalize(x, axes=[1])  # pixelwise
        scale = self.emb_linear(emb, gain=self.emb_gain) + 1
        y = self.conv_res0(mp_silu(x))
        y = mp_silu(y * scale[:, :, None, None])
        y = nn.functional.dropout(y, self.dropout, self.training and self.dropout > 0)
        y = self.conv_res1(y)
        if self.decoder and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = mp_sum(x, y, self.res_balance)
        if self.attn_qkv is not None and self.attn_proj is not None:
            x = mp_sum(x, self.attn_proj(self._attend(self.attn_qkv(x))), self.attn_balance)
        return x if self.clip_act is None else x.clip(-self.clip_act, self.clip_act)

    def _attend(self, qkv: Float[Tensor, "B C3 H W"]) -> Float[Tensor, "B C H W"]:
        """Cosine attention: queries, keys and values normalised over the channels of a head."""
        batch, channels, height, width = qkv.shape
        heads = qkv.reshape(batch, self.num_heads, -1, 3, height * width)
        query, key, value = normalize(heads, axes=[2]).unbind(3)  # (B, heads, c, pixels)
        logits = torch.einsum("bncq,bnck->bnqk", query, key) / math.sqrt(query.shape[2])
        attended = torch.einsum("bnqk,bnck->bncq", logits.softmax(-1), value)
        return attended.reshape(batch, channels // 3, height, width)


class UNet(nn.Module):
    """The raw network `F`: encoder, decoder with skips, embedding of noise level and class."""

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        *,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        **block_kwargs: Any,
    ) -> None:
        super().__init__()
        widths = [model_channels * m for m in channel_mult]
        noise = model_channels * channel_mult_noise if channel_mult_noise else widths[0]
        emb = model_channels * channel_mult_emb if channel_mult_emb else max(widths)
        self.label_balance, self.concat_balance = label_balance, concat_balance
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = MPFourier(noise)
        self.emb_noise = MPConv(noise, emb)
        self.emb_label = MPConv(label_dim, emb) if label_dim > 0 else None

        def block(cin: int, cout: int, decoder: bool, mode: str = "keep", attn: bool = False):
            return Block(cin, cout, emb, decoder=decoder, mode=mode, attention=attn, **block_kwargs)

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        resolutions = [img_resolution >> level for level in range(len(widths))]
        channels = img_channels + 1  # one constant channel stands in for the biases
        skips: list[int] = []
        for level, (res, width) in enumerate(zip(resolutions, widths, strict=True)):
            name = f"{res}x{res}"
            if level == 0:
                self.enc[f"{name}_conv"] = MPConv(channels, width, (3, 3))
                channels = width
            else:
                self.enc[f"{name}_down"] = block(channels, channels, False, "down")
            skips.append(channels)
            for index in range(num_blocks):
                attn = res in attn_resolutions
                self.enc[f"{name}_block{index}"] = block(channels, width, False, attn=attn)
                channels = width
                skips.append(channels)
        for res, width in reversed(list(zip(resolutions, widths, strict=True))):
            name = f"{res}x{res}"
            if res == resolutions[-1]:
                self.dec[f"{name}_in0"] = block(channels, channels, True, attn=True)
                self.dec[f"{name}_in1"] = block(channels, channels, True)
            else:
                self.dec[f"{name}_up"] = block(channels, channels, True, "up")
            for index in range(num_blocks + 1):
                attn, wide = res in attn_resolutions, channels + skips.pop()
                self.dec[f"{name}_block{index}"] = block(wide, width, True, attn=attn)
                channels = width
        self.out_conv = MPConv(channels, img_channels, (3, 3))

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        c_noise: Float[Tensor, " B"],
        labels: Float[Tensor, "B label_dim"] | None,
    ) -> Float[Tensor, "B C H W"]:
        emb = self.emb_noise(self.emb_fourier(c_noise))
        if self.emb_label is not None and labels is not None:
            embedded = self.emb_label(labels * math.sqrt(labels.shape[1]))
            emb = mp_sum(emb, embedded, self.label_balance)
        emb = mp_silu(emb)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        skips = []
        for name, layer in self.enc.items():
            x = layer(x) if name.endswith("_conv") else layer(x, emb)
            skips.append(x)
        for name, layer in self.dec.items():
            x = mp_cat(x, skips.pop(), self.concat_balance) if "_block" in name else x
            x = layer(x, emb)
        return self.out_conv(x, gain=self.out_gain)
