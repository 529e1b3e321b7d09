"""The pipelines of diffusers that are read, one row a class: which network, and what goes with each class.

    class                       network        state     a class is
    StableDiffusionPipeline     unet           latents   a prompt: its embedding
    StableDiffusionXLPipeline   unet           latents   a prompt: two encoders, their pooled part, sizes
    StableDiffusion3Pipeline    transformer    latents   a prompt: three encoders, the pooled part of two
    FluxPipeline                transformer    latents   a prompt: T5's embedding, CLIP's pooled one
    PixArtAlphaPipeline         transformer    latents   a prompt: T5's embedding with its mask, sizes
    PixArtSigmaPipeline         transformer    latents   the same without sizes
    DiTPipeline                 transformer    latents   a label; one more is the null class
    DDPMPipeline, DDIMPipeline  unet           pixels    a label where the network has any; else all is one

Conditions are tensors by the names of the network's inputs, a row a class; the row after the last class is
the unconditional one, where there is one. What a prompt becomes is left to the pipeline's own
`encode_prompt`, adapters included. FLUX takes the scale of its distilled guidance as one more input: it is
asked at 1, without guidance; what was distilled for other scales is not a posterior mean there.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# What a pipeline lets its user change of how a prompt is encoded.
ENCODING = ("clip_skip", "max_sequence_length", "clean_caption")
Rows = Mapping[str, Tensor]
Size = tuple[int, int]


@dataclass(frozen=True)
class Family:
    """A row of the module's table.

    Args:
        network: The part that is evaluated.
        kinds: The classes of its parts on disk; others are not read.
        evaluate: `(network, x, step, rows) -> output`, a row a state.
        conditions: `(pipe, prompts, size in pixels) -> rows`, the empty prompt last; `None` where classes
            are labels.
        labels: Key of the network's configuration with the number of its labels.
        null_class: Whether the label after the last one is no class.
        foreign: Of `networks.FOREIGN`, those that this family gives.
        former: Further names that the network's class has in files.
        longest: Most tokens of a prompt that the pipeline reads.
        channels: Channels of the network's input for one of the state.
        normalised: What it applies to latents besides `scaling_factor`, by the autoencoder's configuration.
    """

    network: str
    kinds: Mapping[str, str]
    evaluate: Callable[[Any, Tensor, Tensor, Rows], Tensor]
    conditions: Callable[[Any, Sequence[str], Size], Rows] | None = None
    labels: str | None = None
    null_class: bool = False
    foreign: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    longest: int | float = math.inf
    channels: int = 1
    normalised: tuple[str, ...] = ()

    @property
    def text_parts(self) -> tuple[str, ...]:
        """Tokenizers and text encoders, in the order in which a prompt needs them."""
        return tuple(
            sorted(part for part in self.kinds if part.startswith("tokenizer"))
            + sorted(part for part in self.kinds if part.startswith("text_encoder"))
        )

    def side(self, settings: Mapping[str, Any]) -> int:
        """What height and width of a state are multiples of: patches, FLUX squares, levels of pixels' UNet.

        `UNet2DConditionModel` pads what its levels do not divide.
        """
        if self.kinds[self.network] == "UNet2DModel":
            return 2 ** (len(settings.get("block_out_channels") or range(4)) - 1)
        if self.channels > 1:
            return math.isqrt(self.channels)
        return settings.get("patch_size") or 1


# What the networks are given


def _plain(network: Any, x: Tensor, step: Tensor, rows: Rows) -> Tensor:
    return network(x, timestep=step, **rows).sample


def _with_added(names: tuple[str, ...]) -> Callable[[Any, Tensor, Tensor, Rows], Tensor]:
    """Some of the inputs, `None` where there are none, as the dictionary `added_cond_kwargs`."""

    def evaluate(network: Any, x: Tensor, step: Tensor, rows: Rows) -> Tensor:
        added = {name: rows.get(name) for name in names}
        others = {name: value for name, value in rows.items() if name not in added}
        return network(x, timestep=step, added_cond_kwargs=added, **others).sample

    return evaluate


def _flux(transformer: Any, x: Tensor, step: Tensor, rows: Rows) -> Tensor:
    """Squares of 2 x 2 latents are tokens with their place; the time goes from 0 to 1."""
    squares = functional.pixel_unshuffle(x, 2)
    places = [torch.arange(n, device=x.device) for n in (1, *squares.shape[2:])]
    text = rows["encoder_hidden_states"]
    guided = transformer.config.guidance_embeds
    output = transformer(
        squares.flatten(2).mT,
        timestep=step / 1000,
        guidance=torch.ones_like(step) if guided else None,
        txt_ids=x.new_zeros(text.shape[1], 3),
        img_ids=torch.cartesian_prod(*places).to(x),
        **rows,
    ).sample
    return functional.pixel_shuffle(output.mT.unflatten(2, squares.shape[2:]), 2)


# What a prompt becomes


def _prompts(pipe: Any, prompts: Sequence[str], size: Size) -> Rows:
    given, empty = _encoded(
        pipe, prompts, num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    return {"encoder_hidden_states": torch.cat([given, empty[:1]])}


def _prompts_xl(pipe: Any, prompts: Sequence[str], size: Size) -> Rows:
    given, empty, pooled, pooled_empty = _encoded(pipe, prompts)
    sizes = pipe._get_add_time_ids(
        size, (0, 0), size, given.dtype, text_encoder_projection_dim=pooled.shape[-1]
    )
    return {
        "encoder_hidden_states": torch.cat([given, empty[:1]]),
        "text_embeds": torch.cat([pooled, pooled_empty[:1]]),
        "time_ids": sizes.expand(len(prompts) + 1, -1),
    }


def _prompts_3(pipe: Any, prompts: Sequence[str], size: Size) -> Rows:
    given, empty, pooled, pooled_empty = _encoded(pipe, prompts, prompt_2=None, prompt_3=None)
    return {
        "encoder_hidden_states": torch.cat([given, empty[:1]]),
        "pooled_projections": torch.cat([pooled, pooled_empty[:1]]),
    }


def _prompts_flux(pipe: Any, prompts: Sequence[str], size: Size) -> Rows:
    given, pooled, _ = _encoded(pipe, [*prompts, ""])
    return {"encoder_hidden_states": given, "pooled_projections": pooled}


def _prompts_sigma(pipe: Any, prompts: Sequence[str], size: Size) -> Rows:
    given, mask, empty, empty_mask = _encoded(pipe, prompts)
    return {
        "encoder_hidden_states": torch.cat([given, empty[:1]]),
        "encoder_attention_mask": torch.cat([mask, empty_mask[:1]]),
    }


def _prompts_alpha(pipe: Any, prompts: Sequence[str], size: Size) -> Rows:
    rows = dict(_prompts_sigma(pipe, prompts, size))
    if pipe.transformer.config.sample_size == 128:  # those of 1024 pixels are told their size
        of_size = {"resolution": [size], "aspect_ratio": [[size[0] / size[1]]]}
        for name, values in of_size.items():
            rows[name] = torch.tensor(values, dtype=torch.float32).expand(len(prompts) + 1, -1)
    return rows


def _encoded(pipe: Any, prompts: Sequence[str], **options: Any) -> tuple[Tensor, ...]:
    """What `encode_prompt` gives with the defaults of a call, which are not always its own."""
    options |= _of_a_call(pipe, pipe.encode_prompt)
    with torch.no_grad():
        return pipe.encode_prompt(prompt=list(prompts), device=pipe._execution_device, **options)


def _of_a_call(pipe: Any, function: Callable[..., Any]) -> dict[str, Any]:
    """What a call hands to a function that encodes, by default."""
    called, taken = (inspect.signature(one).parameters for one in (pipe.__call__, function))
    return {name: called[name].default for name in ENCODING if name in {*called} & {*taken}}


def as_read(pipe: Any, texts: Sequence[str]) -> list[str]:
    """What a pipeline's own cleaning leaves of texts for its tokenizers: PixArt's has no capitals."""
    clean = getattr(pipe, "_text_preprocessing", None)
    return [*texts] if clean is None else clean([*texts], **_of_a_call(pipe, clean))


_CLIP = {"tokenizer": "CLIPTokenizer", "text_encoder": "CLIPTextModel"}
_T5 = {"tokenizer": "T5TokenizerFast", "text_encoder": "T5EncoderModel"}
_TWO = {"tokenizer_2": "CLIPTokenizer", "text_encoder_2": "CLIPTextModelWithProjection"}
_VAE = {"vae": "AutoencoderKL"}
_UNET = _VAE | {"unet": "UNet2DConditionModel"}
_FORMER = ("Transformer2DModel",)
_PIXELS = Family("unet", {"unet": "UNet2DModel"}, _plain, labels="num_class_embeds")
_PIXART = Family(
    "transformer",
    _VAE | _T5 | {"transformer": "PixArtTransformer2DModel"},
    _with_added(("resolution", "aspect_ratio")),
    _prompts_alpha,
    former=_FORMER,
    longest=120,
)
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family("unet", _UNET | _CLIP, _plain, _prompts),
    "StableDiffusionXLPipeline": Family(
        "unet",
        _UNET | _CLIP | _TWO,
        _with_added(("text_embeds", "time_ids")),
        _prompts_xl,
        foreign=("addition_embed_type",),
        normalised=("latents_mean", "latents_std"),
    ),
    "StableDiffusion3Pipeline": Family(
        "transformer",
        _VAE
        | {"transformer": "SD3Transformer2DModel", **_CLIP, **_TWO}
        | {"text_encoder": "CLIPTextModelWithProjection"}
        | {f"{part}_3": kind for part, kind in _T5.items()},
        _plain,
        _prompts_3,
        longest=256,
        normalised=("shift_factor",),
    ),
    "FluxPipeline": Family(
        "transformer",
        _VAE
        | {"transformer": "FluxTransformer2DModel", **_CLIP}
        | {f"{part}_2": kind for part, kind in _T5.items()},
        _flux,
        _prompts_flux,
        longest=512,
        channels=4,
        normalised=("shift_factor",),
    ),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": replace(_PIXART, conditions=_prompts_sigma, longest=300),
    "DiTPipeline": Family(
        "transformer",
        _VAE | {"transformer": "DiTTransformer2DModel"},
        _plain,
        labels="num_embeds_ada_norm",
        null_class=True,
        former=_FORMER,
    ),
    "DDPMPipeline": _PIXELS,
    "DDIMPipeline": _PIXELS,
}


def family_of_pipeline(kind: str) -> Family:
    """The row of a pipeline's class.

    Raises:
        ValueError: If there is none.
    """
    if kind not in FAMILIES:
        raise ValueError(
            f"The pipeline must be one of {', '.join(FAMILIES)}; got {kind}, and what it gives to its "
            "network is not known here. Wrap the network as a function of state, time and label: "
            "`from_epsilon`, `from_velocity` or `from_x0` with its scheduler's `alphas_cumprod`, "
            "`from_flow` where it matches a flow."
        )
    return FAMILIES[kind]


def kind_of(pipe: Any) -> str:
    """The class of diffusers that a pipeline is, or that a class of the user's own inherits."""
    for kind in type(pipe).__mro__:
        if kind.__module__.startswith("diffusers."):
            return kind.__name__
    return type(pipe).__name__
