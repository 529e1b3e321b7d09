"""Guidance of text-to-image pipelines of diffusers, whatever their scheduler.

    with on_pipeline(pipe, Interval(ClassifierFree(PROMPT, 7.5), 0.5, 7.0)):
        pictures = pipe("a photograph of a cat").images

A pipeline asks its UNet for two outputs at once, of the negative or empty prompt and of the prompt, and
mixes them as `F_u + w (F_p - F_u)`. Within `on_pipeline` both halves of what it gets are the guided output,
so that its own mixing does nothing. The posterior mean is `D = skip x + out F` in EDM coordinates (see
`model_bridges.parametrisation`), where x is the UNet's input times `sqrt(1 + sigma^2)` and sigma comes from
the scheduler: its `sigmas`, where it has them, or `sqrt((1 - abar) / abar)` of the step.

Labels: `None` is the negative or empty prompt, `PROMPT` the prompt, `UNWANTED` a further prompt to push
away from, which costs an evaluation of its own. Kinds that track a posterior assume stochastic steps of the
reverse kernel, DDPM or a fully stochastic DDIM; under a deterministic scheduler the tracked number is a
heuristic.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from model_bridges.guidance.base import Class, Guidance
from model_bridges.parametrisation import COEFFICIENTS

PROMPT, UNWANTED = 0, 1


@contextmanager
def on_pipeline(pipe: Any, guidance: Guidance, *, unwanted: str | None = None) -> Iterator[None]:
    """Guide every run of a pipeline inside the `with` block.

    Args:
        pipe: A pipeline with `unet`, `scheduler` and `encode_prompt`, such as
            `StableDiffusionPipeline`, called with `guidance_scale` above 1, whose value plays no part.
        guidance: Labels are `None`, `PROMPT` and `UNWANTED`.
        unwanted: The prompt of `UNWANTED`.

    Raises:
        ValueError: If a part is missing, or the scheduler's `prediction_type` is unknown; at a run, if the
            pipeline asks for one output only, or the guidance for a prompt that is not there.
    """
    for part in ("unet", "scheduler", "encode_prompt"):
        if not hasattr(pipe, part):
            raise ValueError(
                f"`pipe` must be a pipeline with a UNet, as StableDiffusionPipeline; {type(pipe).__name__} "
                f"has no `{part}`. Use `Guided` with a sampler of your own."
            )
    _coefficients(pipe.scheduler, 1.0)
    with torch.no_grad():
        text = None if unwanted is None else _embedded(pipe, unwanted)
    handle = pipe.unet.register_forward_hook(_Hook(pipe, guidance, text), with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _embedded(pipe: Any, prompt: str) -> Tensor:
    embedded, _ = pipe.encode_prompt(prompt, pipe.unet.device, 1, False)
    return embedded


def sigma_of(scheduler: Any, timestep: Any) -> float:
    """Noise per signal of the state that the UNet sees at this step of a scheduler.

    Raises:
        ValueError: If the scheduler has neither `sigmas` nor `alphas_cumprod`.
    """
    step = float(timestep)
    sigmas = getattr(scheduler, "sigmas", None)
    if isinstance(sigmas, Tensor):
        index = getattr(scheduler, "step_index", None)
        if index is None or index >= len(sigmas) or float(scheduler.timesteps[index]) != step:
            index = int((scheduler.timesteps - step).abs().argmin())
        return float(sigmas[index])
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"{type(scheduler).__name__} has neither `sigmas` nor `alphas_cumprod`: its noise is unknown."
        )
    signal = float(scheduler.alphas_cumprod[round(step)])
    return ((1 - signal) / signal) ** 0.5


def _coefficients(scheduler: Any, sigma: float) -> tuple[float, float]:
    predicted = scheduler.config.get("prediction_type", "epsilon")
    if predicted not in COEFFICIENTS:
        raise ValueError(
            f"`prediction_type` must be one of {', '.join(COEFFICIENTS)}; the scheduler has {predicted!r}."
        )
    skip, out = COEFFICIENTS[predicted](torch.tensor(sigma, dtype=torch.float64))
    return float(skip), float(out)


class _Hook:
    """Replaces the outputs of a UNet by the guided one; the guidance's state lives from step to step."""

    def __init__(self, pipe: Any, guidance: Guidance, unwanted: Tensor | None):
        self.pipe, self.guidance, self.unwanted = pipe, guidance, unwanted
        self.state: Any = None
        self.sigma = 0.0

    def __call__(self, unet: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        sample, timestep = (*args, *(kwargs[k] for k in ("sample", "timestep") if k in kwargs))[:2]
        if not self.pipe.do_classifier_free_guidance or len(sample) % 2:
            raise ValueError(
                "The pipeline asks for the prompt alone; call it with `guidance_scale` above 1, so that the "
                "empty prompt is there to guide against."
            )
        outputs = (output[0] if isinstance(output, tuple) else output.sample).float()
        sigma = sigma_of(self.pipe.scheduler, timestep)
        skip, out = _coefficients(self.pipe.scheduler, sigma)
        half = len(sample) // 2
        x = sample[:half].float() * (1 + sigma**2) ** 0.5
        known: dict[Any, Tensor] = {None: outputs[:half], PROMPT: outputs[half:]}

        def denoise(label: Class) -> Tensor:
            if label not in known:
                known[label] = self._further(unet, sample[:half], timestep, label)
            return skip * x + out * known[label]

        if sigma >= self.sigma:  # a new picture
            self.state = self.guidance.init(x)
        guided, self.state = self.guidance.step(self.state, x, sigma, denoise)
        self.sigma = sigma
        result = torch.cat([(guided - skip * x) / out] * 2).to(sample.dtype)
        if isinstance(output, tuple):
            return (result, *output[1:])
        output.sample = result
        return output

    def _further(self, unet: Any, sample: Tensor, timestep: Any, label: Class) -> Tensor:
        if label != UNWANTED or self.unwanted is None:
            raise ValueError(
                f"The guidance asks for label {label!r}; a pipeline has None, PROMPT and, where "
                "`on_pipeline` is given `unwanted`, UNWANTED."
            )
        text = self.unwanted.expand(len(sample), -1, -1)
        # Not through the hooks: this one would come again.
        return unet.forward(sample, timestep, encoder_hidden_states=text).sample.float()


def interval_callback(low: float | int, high: float | int) -> Any:
    """A `callback_on_step_end` that guides where `low < sigma <= high`, and spares half the cost elsewhere.

        pipe(prompt, guidance_scale=7.5, callback_on_step_end=interval_callback(0.5, 7.0))

    A callback speaks after a step: the first one is guided as the pipeline is told. Where that matters, use
    `on_pipeline`.

    Args:
        low, high: Noise per signal, as of `guidance_interval`.

    Raises:
        ValueError: If not `0 <= low < high`.
    """
    from diffusers.callbacks import PipelineCallback

    from model_bridges.guidance.intervals import Interval
    from model_bridges.guidance.positive import ClassifierFree

    interval = Interval(ClassifierFree(PROMPT, 1.0), low, high)

    class IntervalCallback(PipelineCallback):
        tensor_inputs = ["prompt_embeds"]  # noqa: RUF012  as diffusers has it

        def callback_fn(
            self, pipeline: Any, step_index: int, timesteps: Any, callback_kwargs: dict[str, Any]
        ) -> dict[str, Any]:
            if step_index == 0:
                self.scale, self.both = pipeline.guidance_scale, callback_kwargs["prompt_embeds"]
                if not pipeline.do_classifier_free_guidance:
                    raise ValueError(
                        "The pipeline is not guided; call it with `guidance_scale` above 1."
                    )
            steps = pipeline.scheduler.timesteps
            if step_index + 1 < len(steps):
                acts = interval.contains(sigma_of(pipeline.scheduler, steps[step_index + 1]))
                pipeline._guidance_scale = self.scale if acts else 1.0
                text = self.both if acts else self.both.chunk(2)[1]
                callback_kwargs["prompt_embeds"] = text
            return callback_kwargs

    return IntervalCallback()
