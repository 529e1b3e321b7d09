"""Guidance of text-to-image pipelines of diffusers, whatever their scheduler.

    with on_pipeline(pipe, Interval(ClassifierFree(PROMPT, 7.5), 0.5, 7.0)):
        pictures = pipe("a photograph of a cat").images

A pipeline asks its UNet for two outputs at once, of the negative or empty prompt and of the prompt, and
mixes them as `F_u + w (F_p - F_u)`. Within `on_pipeline` both halves of what it gets are the guided output,
so that its own mixing does nothing. What the UNet sees and what its output stands for is the scheduler's:
`model_bridges.pipelines.schedulers`.

Labels: `None` is the negative or empty prompt, `PROMPT` the prompt, `UNWANTED` a further prompt to push
away from, which costs an evaluation of its own; it gets whatever else the pipeline gives to the prompt.
Kinds that track a posterior assume stochastic steps of the reverse kernel, DDPM or a fully stochastic DDIM;
under a deterministic scheduler the tracked number is a heuristic.

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
from model_bridges.pipelines.schedulers import family_of, identified, level_at

PROMPT, UNWANTED = 0, 1
# Pipelines whose network gets the negative prompt and the prompt, in this order, as one batch, and the
# tensors of both that a callback must halve; `None` where some are out of its reach.
_XL = ("prompt_embeds", "add_text_embeds", "add_time_ids")
PIPELINES: dict[str, tuple[str, ...] | None] = {
    "StableDiffusionPipeline": ("prompt_embeds",),
    "StableDiffusionImg2ImgPipeline": ("prompt_embeds",),
    "StableDiffusionControlNetPipeline": ("prompt_embeds", "image"),
    "StableDiffusionXLPipeline": _XL,
    "StableDiffusionXLImg2ImgPipeline": _XL,
    "StableDiffusionXLControlNetPipeline": (*_XL, "image"),
    "StableDiffusion3Pipeline": ("prompt_embeds", "pooled_prompt_embeds"),
    "StableDiffusionInpaintPipeline": None,
    "StableDiffusionXLInpaintPipeline": None,
    "StableDiffusionControlNetImg2ImgPipeline": None,
    "StableDiffusionControlNetInpaintPipeline": None,
    "StableDiffusionXLControlNetImg2ImgPipeline": None,
    "StableDiffusionXLControlNetInpaintPipeline": None,
    "StableDiffusionAdapterPipeline": None,
    "StableDiffusionXLAdapterPipeline": None,
}


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
def on_pipeline(pipe: Any, guidance: Guidance, *, unwanted: str | None = None) -> Iterator[None]:
    """Guide every call of a pipeline inside the `with` block; of this one only, whoever shares its parts.

    Args:
        pipe: One of `PIPELINES` with a UNet, called with `guidance_scale` above 1, whose value plays no
            part.
        guidance: Labels are `None`, `PROMPT` and `UNWANTED`.
        unwanted: The prompt of `UNWANTED`.

    Raises:
        ValueError: If the pipeline, its scheduler or its `prediction_type` is unknown, or it is guided
            already; at a call, if the pipeline asks for one output only, the guidance for a prompt that
            is not there, or another thread is in the same pipeline.
    """
    known_pipeline(pipe)
    if not hasattr(pipe, "unet"):
        raise ValueError(
            f"`pipe` must be a pipeline with a UNet; {type(pipe).__name__} has no `unet`. Limit its own "
            "guidance with `interval_callback`."
        )
    family_of(*identified(pipe.scheduler))
    kind: Any = type(pipe)
    calls = threading.Lock()
    if hasattr(kind, "guided_by"):
        raise ValueError(
            f"This pipeline is guided already, by {kind.guided_by}: leave that `with` block first."
        )

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        if not calls.acquire(blocking=False):
            raise ValueError(
                "This pipeline is in a call already, and its scheduler and its guidance have one state: "
                "give each thread a pipeline of its own (`copy.deepcopy(pipe)`)."
            )
        try:
            with _Run(pipe, guidance, unwanted).hooked():
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
    """One call of a pipeline: replaces the outputs of its UNet by the guided one."""

    def __init__(self, pipe: Any, guidance: Guidance, unwanted: str | None):
        self.pipe, self.unwanted = pipe, unwanted
        self.thread = threading.get_ident()
        self.inputs: dict[str, Any] = {}
        self.threaded = Threaded(guidance)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        hooks = (
            self.pipe.unet.register_forward_pre_hook(self._note, with_kwargs=True),
            self.pipe.unet.register_forward_hook(self._guide, with_kwargs=True),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __deepcopy__(self, memo: Any) -> "_Run":
        return self  # a copy of the network, made within the call, carries hooks that do nothing

    def _mine(self, unet: Any) -> bool:
        """Not of another thread, whose pipeline shares the network, nor of a copy."""
        return threading.get_ident() == self.thread and unet is self.pipe.unet

    def _note(self, unet: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Keep what the UNet is given, as it is given: it takes entries out of its lists."""
        if self._mine(unet):
            bound = inspect.signature(unet.forward).bind(*args, **kwargs).arguments
            self.inputs = {
                name: list(value) if isinstance(value, list) else value
                for name, value in bound.items()
            }

    def _guide(self, unet: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        if not self._mine(unet):
            return None
        raw = output[0] if isinstance(output, tuple) else output.sample
        sample = self.inputs["sample"]
        self._check(sample, raw)
        level = level_at(self.pipe.scheduler, self.inputs["timestep"])
        half = len(sample) // 2
        x = sample[:half].to(torch.promote_types(sample.dtype, torch.float32)) / level.scale
        known: dict[Any, Tensor] = {None: raw[:half], PROMPT: raw[half:]}

        def denoise(label: Class) -> Tensor:
            if label not in known:
                known[label] = self._further(unet, label)
            return level.skip * x + level.out * known[label].to(x)

        reached = self.threaded.sigma
        if level.sigma > reached and not level.provisional:
            raise ValueError(
                f"Within one call the noise must not rise; the scheduler went from {reached:g} to "
                f"{level.sigma:g}."
            )
        guided = self.threaded(x, level.sigma, denoise, level.provisional)
        result = torch.cat([(guided - level.skip * x) / level.out] * 2).to(raw.dtype)
        if isinstance(output, tuple):
            return (result, *output[1:])
        output.sample = result
        return output

    def _check(self, sample: Tensor, raw: Tensor) -> None:
        if not self.pipe.do_classifier_free_guidance or len(sample) % 2:
            raise ValueError(
                "The pipeline asks for the prompt alone; call it with `guidance_scale` above 1, so that the "
                "empty prompt is there to guide against."
            )
        if getattr(self.pipe, "guidance_rescale", 0):
            raise ValueError(
                "`guidance_rescale` acts on the pipeline's own mixture, which does nothing here; call the "
                "pipeline without it."
            )
        first, second = sample.chunk(2)
        if raw.shape != sample.shape or not torch.equal(first, second):
            raise ValueError(
                "The network must be given one state twice and return what it takes; got "
                f"{tuple(sample.shape)} with halves that differ, or an output {tuple(raw.shape)}, as "
                "networks for inpainting or with a learned variance have."
            )

    def _further(self, unet: Any, label: Class) -> Tensor:
        """The UNet's output for one more prompt, in the place of the prompt."""
        if label != UNWANTED or self.unwanted is None:
            raise ValueError(
                f"The guidance asks for label {label!r}; a pipeline has None, PROMPT and, where "
                "`on_pipeline` is given `unwanted`, UNWANTED."
            )
        rows = len(self.inputs["sample"])
        inputs = {name: last_half(value, rows, name) for name, value in self.inputs.items()}
        text, pooled = self._text
        inputs["encoder_hidden_states"] = _for_all(text, inputs["encoder_hidden_states"])
        added = inputs.get("added_cond_kwargs") or {}
        if "text_embeds" in added:
            inputs["added_cond_kwargs"] = added | {
                "text_embeds": _for_all(pooled, added["text_embeds"])
            }
        inputs["return_dict"] = False
        # Not through the hooks: these would come again.
        return unet.forward(**inputs)[0]

    @functools.cached_property
    def _text(self) -> tuple[Tensor, Tensor | None]:
        """Embedding of the unwanted prompt and its pooled one, made as the pipeline makes its own."""
        pipe = self.pipe
        attention = getattr(pipe, "cross_attention_kwargs", None) or {}
        with torch.no_grad():
            text, _, *pooled = pipe.encode_prompt(
                prompt=self.unwanted,
                device=self.inputs["sample"].device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
                lora_scale=attention.get("scale"),
                clip_skip=getattr(pipe, "clip_skip", None),
            )
        return text, pooled[0] if pooled else None


def _for_all(one: Tensor | None, given: Tensor) -> Tensor:
    """One prompt's embedding, a row a state."""
    assert one is not None  # pipelines that give pooled embeddings make them
    return one.to(given).expand(len(given), *one.shape[1:])


def last_half(value: Any, rows: int, name: str) -> Any:
    """The prompt's part of what goes with both prompts, in tensors of any nesting.

    Raises:
        ValueError: If a tensor has neither one row for all, nor one for every state of both.
    """
    if isinstance(value, dict):
        return {key: last_half(entry, rows, f"{name}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(last_half(entry, rows, name) for entry in value)
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) == 1:
        return value
    if len(value) != rows:
        raise ValueError(
            f"`{name}` must have one row, or {rows}, those of the negative prompt and of the prompt; got "
            f"{tuple(value.shape)}. Which of them go with a further prompt is not known."
        )
    return value[rows // 2 :]
