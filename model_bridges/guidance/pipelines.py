"""Guidance of the pipelines of diffusers, whatever their scheduler.

    with on_pipeline(pipe, Interval(ClassifierFree(PROMPT, 7.5), 0.5, 7.0)):
        pictures = pipe("a photograph of a cat").images

A pipeline asks its network for two outputs at once, of the negative or empty prompt and of the prompt, and
mixes them as `F_u + w (F_p - F_u)`. Within `on_pipeline` both halves of what it gets are the guided output,
so that its own mixing does nothing. Where the guidance needs one of the two alone, as outside an interval,
the network computes no more than that one. What the network sees and what its output stands for is the
scheduler's: `model_bridges.pipelines.schedulers`.

Labels: `None` is the negative or empty prompt, or the null class, `PROMPT` the prompt or the class,
`UNWANTED` a further one to push away from, which costs an evaluation of its own; it gets whatever else the
pipeline gives to the prompt. Kinds that track a posterior assume stochastic steps of the reverse kernel, DDPM
or a fully stochastic DDIM; under a deterministic scheduler the tracked number is a heuristic.

A guidance's state lives for one call of the pipeline and moves on once a level (`base.Threaded`). At an
evaluation that a scheduler of second order does not keep the guidance acts as it did at the step's first,
as in `samplers.sample`: an interval decides once a step.
"""

import functools
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gmm_speciation.guidance import AbstractGuidance as Guidance
from model_bridges.guidance.base import Class, Threaded
from model_bridges.pipelines.schedulers import Level, family_of, identified, level_at

PROMPT, UNWANTED = 0, 1
# Pipelines whose network gets the negative prompt and the prompt as one batch, in this order but in DiT, and
# the tensors of both that a callback must halve; `None` where some are out of its reach, or it has none.
_XL = ("prompt_embeds", "add_text_embeds", "add_time_ids")
PIPELINES: dict[str, tuple[str, ...] | None] = {
    "StableDiffusionPipeline": ("prompt_embeds",),
    "StableDiffusionImg2ImgPipeline": ("prompt_embeds",),
    "StableDiffusionControlNetPipeline": ("prompt_embeds", "image"),
    "StableDiffusionXLPipeline": _XL,
    "StableDiffusionXLImg2ImgPipeline": _XL,
    "StableDiffusionXLControlNetPipeline": (*_XL, "image"),
    "StableDiffusion3Pipeline": ("prompt_embeds", "pooled_prompt_embeds"),
    "StableDiffusion3Img2ImgPipeline": None,
    "StableDiffusionInpaintPipeline": None,
    "StableDiffusionXLInpaintPipeline": None,
    "StableDiffusionControlNetImg2ImgPipeline": None,
    "StableDiffusionControlNetInpaintPipeline": None,
    "StableDiffusionXLControlNetImg2ImgPipeline": None,
    "StableDiffusionXLControlNetInpaintPipeline": None,
    "StableDiffusionAdapterPipeline": None,
    "StableDiffusionXLAdapterPipeline": None,
    "PixArtAlphaPipeline": None,
    "PixArtSigmaPipeline": None,
    "DiTPipeline": None,
}
# What a pipeline lets its user change of how a prompt is encoded.
_ENCODING = ("clip_skip", "max_sequence_length", "clean_caption")


def known_pipeline(pipe: Any) -> str:
    """The class in `PIPELINES` that a pipeline is or inherits.

    Raises:
        ValueError: If there is none.
    """
    for kind in type(pipe).__mro__:
        if kind.__name__ in PIPELINES:
            return kind.__name__
    raise ValueError(
        f"`pipe` must be one of {', '.join(PIPELINES)}; what others give to their networks is not known "
        f"here. Got {type(pipe).__name__}. Use `Guided` with a sampler of your own."
    )


@contextmanager
def on_pipeline(
    pipe: Any, guidance: Guidance, *, unwanted: str | int | None = None
) -> Iterator[None]:
    """Guide every call of a pipeline inside the `with` block; of this one only, whoever shares its parts.

    Args:
        pipe: One of `PIPELINES`, called with `guidance_scale` above 1, whose value plays no part.
        guidance: Labels are `None`, `PROMPT` and `UNWANTED`.
        unwanted: The prompt of `UNWANTED`, or the label, of a pipeline of labels.

    Raises:
        ValueError: If the pipeline, its scheduler or its `prediction_type` is unknown, or it is guided
            already; at a call, if the pipeline asks for one output only, the guidance for a prompt that
            is not there, or another thread is in the same pipeline.
    """
    known_pipeline(pipe)
    family_of(*identified(pipe.scheduler))
    kind: Any = type(pipe)
    calls = threading.Lock()
    if hasattr(kind, "guided_by"):
        raise ValueError(
            f"This pipeline is guided already, by {kind.guided_by}: leave that `with` block first."
        )
    signature = inspect.signature(kind.__call__)

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        if not calls.acquire(blocking=False):
            raise ValueError(
                "This pipeline is in a call already, and its scheduler and its guidance have one state: "
                "give each thread a pipeline of its own (`copy.deepcopy(pipe)`)."
            )
        try:
            given = signature.bind(self, *args, **options)
            given.apply_defaults()
            with _Run(pipe, guidance, unwanted, given.arguments).hooked():
                return kind.__call__(self, *args, **options)
        finally:
            calls.release()

    def reduce(self: Any, protocol: Any) -> Any:  # copies are not guided
        make, (_, *rest), *state = kind.__reduce_ex__(self, protocol)
        return (make, (kind, *rest), *state)

    # Python looks `__call__` up in the class. One class for this one object keeps the rest as it was.
    names = {"__call__": call, "__reduce_ex__": reduce, "guided_by": type(guidance).__name__}
    pipe.__class__ = type(kind.__name__, (kind,), {**names, "__module__": kind.__module__})
    try:
        yield
    finally:
        pipe.__class__ = kind


class _Run:
    """One call of a pipeline: replaces the outputs of its network by the guided one."""

    def __init__(
        self, pipe: Any, guidance: Guidance, unwanted: str | int | None, given: dict[str, Any]
    ):
        self.pipe, self.unwanted, self.given = pipe, unwanted, given
        self.network = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
        self.taken = inspect.signature(self.network.forward)
        self.state = next(iter(self.taken.parameters))  # the name of its states
        self.halves = (PROMPT, None) if known_pipeline(pipe) == "DiTPipeline" else (None, PROMPT)
        self.thread = threading.get_ident()
        self.threaded = Threaded(guidance)
        # Of the evaluation that is going on: what the pipeline gave, where, and the half that is computed.
        self.inputs: dict[str, Any] = {}
        self.level: Level
        self.alone: tuple[Class, ...] = ()

    @contextmanager
    def hooked(self) -> Iterator[None]:
        hooks = (
            self.network.register_forward_pre_hook(self._begin, with_kwargs=True),
            self.network.register_forward_hook(self._guide, with_kwargs=True),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __deepcopy__(self, memo: Any) -> "_Run":
        return self  # a copy of the network, made within the call, carries hooks that do nothing

    def _mine(self, network: Any) -> bool:
        """Not of another thread, whose pipeline shares the network, nor of a copy."""
        return threading.get_ident() == self.thread and network is self.network

    def _begin(self, network: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Keep what the network is given, as it is given: it takes entries out of its lists.

        Where one half will do, it gets that half.
        """
        if not self._mine(network):
            return None
        bound = self.taken.bind(*args, **kwargs).arguments
        self.inputs = {
            name: list(value) if isinstance(value, list) else value for name, value in bound.items()
        }
        self._check()
        level = level_at(self.pipe.scheduler, self.inputs["timestep"])
        self.level = level
        reached = self.threaded.sigma
        if level.sigma > reached and not level.provisional:
            raise ValueError(
                f"Within one call the noise must not rise; the scheduler went from {reached:g} to "
                f"{level.sigma:g}."
            )
        asked = self.threaded.asks(level.sigma, level.provisional)
        needed = self.halves if asked is None else [k for k in self.halves if k in asked]
        self.alone = tuple(needed) if len(needed) == 1 else ()
        return ((), self._half(self.alone[0])) if self.alone else None

    def _check(self) -> None:
        states = self.inputs[self.state]
        guided = getattr(self.pipe, "do_classifier_free_guidance", self.given["guidance_scale"] > 1)
        if not guided or len(states) % 2:
            raise ValueError(
                "The pipeline asks for the prompt alone; call it with `guidance_scale` above 1, so that the "
                "empty prompt is there to guide against."
            )
        if getattr(self.pipe, "guidance_rescale", 0):
            raise ValueError(
                "`guidance_rescale` acts on the pipeline's own mixture, which does nothing here; call the "
                "pipeline without it."
            )
        if not torch.equal(*states.chunk(2)):
            raise ValueError(
                f"The network must be given one state twice; got {tuple(states.shape)} with halves that "
                "differ."
            )

    def _half(self, label: Class) -> dict[str, Any]:
        rows, first = len(self.inputs[self.state]), label == self.halves[0]
        return {name: half(value, rows, name, first) for name, value in self.inputs.items()}

    def _guide(self, network: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        if not self._mine(network):
            return None
        level = self.level
        raw = output[0] if isinstance(output, tuple) else output.sample
        states = self.inputs[self.state].chunk(2)[0]
        channels, parts = states.shape[1], 1 if self.alone else 2
        # A learned variance is in the second half of the channels; pipelines drop it.
        if raw.shape[1] not in (channels, 2 * channels) or len(raw) != parts * len(states):
            raise ValueError(
                f"The network must return what it takes; got {tuple(states.shape)} in and "
                f"{tuple(raw.shape)} out, as networks for inpainting have."
            )
        labels = self.alone or self.halves
        known = dict(zip(labels, raw[:, :channels].chunk(parts), strict=True))
        x = states.to(torch.promote_types(states.dtype, torch.float32)) / level.scale

        def denoise(label: Class) -> Tensor:
            if label not in known:
                known[label] = self._further(network, label)[:, :channels]
            return level.skip * x + level.out * known[label].to(x)

        guided = self.threaded(x, level.sigma, denoise, level.provisional)
        mean = (guided - level.skip * x) / level.out
        rest = raw[:, channels:].chunk(parts)[0]
        result = torch.cat([torch.cat([mean.to(raw.dtype), rest], 1)] * 2)
        if isinstance(output, tuple):
            return (result, *output[1:])
        output.sample = result
        return output

    def _further(self, network: Any, label: Class) -> Tensor:
        """The network's output for one more prompt, in the place of the prompt; or for the other half."""
        inputs = self._half(PROMPT if label == UNWANTED else label)
        if label == UNWANTED and self.unwanted is not None:
            changed, added = self._text, inputs.get("added_cond_kwargs")
            rows = len(inputs[self.state])
            inputs |= {name: _for_all(changed[name], rows) for name in changed if name in inputs}
            if added is not None:
                pooled = {name: _for_all(changed[name], rows) for name in changed if name in added}
                inputs["added_cond_kwargs"] = added | pooled
        elif label not in self.halves:
            raise ValueError(
                f"The guidance asks for label {label!r}; a pipeline has None, PROMPT and, where "
                "`on_pipeline` is given `unwanted`, UNWANTED."
            )
        inputs["return_dict"] = False
        # Not through the hooks: these would come again.
        return network.forward(**inputs)[0]

    @functools.cached_property
    def _text(self) -> dict[str, Tensor]:
        """What the network is given for the unwanted prompt, made as the pipeline makes its own."""
        pipe, states = self.pipe, self.inputs[self.state]
        if not hasattr(pipe, "encode_prompt"):
            return {"class_labels": torch.tensor([self.unwanted], device=states.device)}
        encode = inspect.signature(pipe.encode_prompt).parameters
        options = {name: self.given[name] for name in _ENCODING if name in self.given}
        attention = getattr(pipe, "cross_attention_kwargs", None)
        attention = attention or self.given.get("joint_attention_kwargs") or {}
        options |= {"prompt_2": None, "prompt_3": None, "lora_scale": attention.get("scale")}
        with torch.no_grad():
            text, second, *others = pipe.encode_prompt(
                prompt=self.unwanted,
                device=states.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
                **{name: value for name, value in options.items() if name in encode},
            )
        found = {"encoder_hidden_states": text, "encoder_attention_mask": second}
        if others and known_pipeline(pipe).startswith("StableDiffusion"):
            found |= {"text_embeds": others[0], "pooled_projections": others[0]}
        given = self.inputs["encoder_hidden_states"]
        return {
            name: value.to(given) if value.is_floating_point() else value
            for name, value in found.items()
            if value is not None
        }


def _for_all(one: Tensor, rows: int) -> Tensor:
    """What goes with one prompt, a row a state."""
    return one.expand(rows, *one.shape[1:])


def half(value: Any, rows: int, name: str, first: bool = False) -> Any:
    """One half, the last by default, of what goes with both prompts, in tensors of any nesting.

    Raises:
        ValueError: If a tensor has neither one row for all, nor one for every state of both.
    """
    if isinstance(value, dict):
        return {key: half(entry, rows, f"{name}[{key!r}]", first) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(half(entry, rows, name, first) for entry in value)
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) == 1:
        return value
    if len(value) != rows:
        raise ValueError(
            f"`{name}` must have one row, or {rows}, those of the negative prompt and of the prompt; got "
            f"{tuple(value.shape)}. Which of them go with a further prompt is not known."
        )
    return value[: rows // 2] if first else value[rows // 2 :]
