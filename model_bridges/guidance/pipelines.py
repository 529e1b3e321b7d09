"""Guidance of the pipelines of diffusers, whatever their scheduler.

    with on_pipeline(pipe, Interval(ClassifierFree(PROMPT, 7.5), 0.5, 7.0)):
        pictures = pipe("a photograph of a cat").images

A pipeline asks its network for two outputs at once, of the negative or empty prompt and of the prompt, and
mixes them as `F_u + w (F_p - F_u)`. Within `on_pipeline` both halves of what it gets are the guided output,
so that its own mixing does nothing (see `evaluations`). Where the guidance needs one of the two alone, as
outside an interval, the network computes no more than that one. What the network sees and what its output
stands for is the scheduler's: `model_bridges.pipelines.schedulers`.

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

from gmm_speciation.guidance import AbstractGuidance as Guidance
from gmm_speciation.guidance.intervals import warn_of_idle
from model_bridges.guidance.evaluations import PROMPT, Run, TwiceRun
from model_bridges.pipelines.networks import check_memoryless
from model_bridges.pipelines.schedulers import family_of, identified

# Pipelines whose network gets the negative prompt and the prompt, as one batch, in this order but in DiT, and
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
    "FluxPipeline": None,
}
# Those that ask their network twice a step: the negative prompt is a second call.
TWICE = ("FluxPipeline",)


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
        pipe: One of `PIPELINES`, called with `guidance_scale` above 1, whose value plays no part; FLUX with
            `true_cfg_scale` above 1 and a `negative_prompt`: its `guidance_scale` is an input of the network.
        guidance: Labels are `None`, `PROMPT` and `UNWANTED`.
        unwanted: The prompt of `UNWANTED`, or the label, of a pipeline of labels.

    Raises:
        ValueError: If the pipeline, its scheduler or its `prediction_type` is unknown, its network has a
            cache, or it is guided already; at a call, if the pipeline asks for one output only, the guidance
            for a prompt that is not there, or another thread is in the same pipeline.
    """
    name = known_pipeline(pipe)
    family_of(*identified(pipe.scheduler))
    kind: Any = type(pipe)
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    check_memoryless(part, getattr(pipe, part))
    calls = threading.Lock()
    if hasattr(kind, "guided_by"):
        raise ValueError(
            f"This pipeline is guided already, by {kind.guided_by}: leave that `with` block first."
        )
    signature = inspect.signature(kind.__call__)
    run_of = TwiceRun if name in TWICE else Run
    halves = (PROMPT, None) if name == "DiTPipeline" else (None, PROMPT)
    current: list[Run] = []  # of the call that is going on
    looping: list[Run] = []  # the same, while it denoises

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
            current.append(run_of(pipe, guidance, unwanted, given.arguments, halves))
            result = kind.__call__(self, *args, **options)
            if not current[0].inputs:
                raise ValueError(
                    f"This {kind.__name__} did not ask its `{part}` within its `progress_bar`: nothing was "
                    "guided. Use `Guided` with a sampler of your own."
                )
            warn_of_idle(guidance, current[0].levels)
            return result
        finally:
            current.clear()
            calls.release()

    def reduce(self: Any, protocol: Any) -> Any:  # copies are not guided
        make, (_, *rest), *state = kind.__reduce_ex__(self, protocol)
        return (make, (kind, *rest), *state)

    def progress_bar(self: Any, *args: Any, **options: Any) -> "_Loop":
        return _Loop(kind.progress_bar(self, *args, **options), current, looping)

    def network(self: Any) -> Any:
        return looping[0] if looping else vars(self)[part]

    # Python looks `__call__` up in the class. One class for this one object keeps the rest as it was.
    names = {
        "__call__": call,
        "__reduce_ex__": reduce,
        "guided_by": type(guidance).__name__,
        "progress_bar": progress_bar,
        part: property(network, lambda self, value: vars(self).update({part: value})),
    }
    pipe.__class__ = type(kind.__name__, (kind,), {**names, "__module__": kind.__module__})
    try:
        yield
    finally:
        pipe.__class__ = kind


class _Loop:
    """A pipeline's progress bar, around its loop or as what the loop runs over, and around nothing else.

    What moves and hooks networks before and after it finds the network itself.
    """

    def __init__(self, bar: Any, current: list[Run], looping: list[Run]):
        self.bar, self.current, self.looping = bar, current, looping

    def __enter__(self) -> Any:
        self.looping.extend(self.current)
        return self.bar.__enter__()

    def __exit__(self, *raised: Any) -> Any:
        self.looping.clear()
        return self.bar.__exit__(*raised)

    def __iter__(self) -> Iterator[Any]:
        self.looping.extend(self.current)
        try:
            yield from self.bar
        finally:
            self.looping.clear()
