"""Guidance of the modular pipelines of diffusers, as guiders of theirs.

    pipe.update_components(guider=as_guider(Interval(ClassifierFree(PROMPT, 7.5), 0.5, 7.0), pipe))
    pictures = pipe(prompt="a photograph of a cat", output="images")

A guider says which conditions the network is evaluated for at a step, and makes one output of theirs. Those
of diffusers count steps; these know the noise of each from the pipeline's scheduler, as `on_pipeline` does,
with the same labels, and ask for no output that the guidance leaves unused. Any kind acts on any such
pipeline, for outputs are affine in posterior means at one x; packed latents are the same states reordered.
"""

import functools
import threading
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from gmm_speciation.guidance import AbstractGuidance as Guidance
from gmm_speciation.guidance.intervals import warn_of_idle
from model_bridges.guidance.base import Class, Threaded
from model_bridges.guidance.evaluations import PROMPT, UNWANTED, inputs_of
from model_bridges.pipelines.networks import check_memoryless
from model_bridges.pipelines.schedulers import family_of, identified, level_at

PREDICTIONS: dict[Class, str] = {
    PROMPT: "pred_cond",
    None: "pred_uncond",
    UNWANTED: "pred_unwanted",
}


def as_guider(
    guidance: Guidance, pipe: Any, *, unwanted: Mapping[str, Tensor] | None = None
) -> Any:
    """A `BaseGuidance` of diffusers that guides as this kind; its class is named after the kind's.

    Args:
        guidance: Labels are `None`, the negative or empty prompt, `PROMPT` and `UNWANTED`.
        pipe: The modular pipeline that it will be a component of; its scheduler is the clock.
        unwanted: What the network gets for `UNWANTED`, one row each, by the names that the pipeline's
            denoising block has: `prompt_embeds` and `text_embeds` of SDXL, `encoder_hidden_states` and
            `text_embeds` of Stable Diffusion 3. All else is the prompt's.

    Raises:
        ValueError: If the pipeline has no guider, or its scheduler is unknown; at a call, if the guidance
            asks for a prompt that is not there, the noise rises, or another thread is in the same run.
    """
    if "guider" not in getattr(pipe, "_component_specs", {}):
        raise ValueError(
            f"`pipe` must be a modular pipeline with a guider; got {type(pipe).__name__}. Use `on_pipeline` "
            "or `interval_callback`."
        )
    if getattr(pipe, "scheduler", None) is not None:
        family_of(*identified(pipe.scheduler))
    return _guider_of(type(guidance))(guidance, pipe, dict(unwanted or {}))


@functools.cache
def _guider_of(kind: type) -> Any:
    """The guider class of a kind of guidance."""
    from diffusers.guiders import BaseGuidance
    from diffusers.guiders.guider_utils import GuiderOutput

    class Guider(BaseGuidance):
        def __init__(self, guidance: Guidance, pipe: Any, unwanted: dict[str, Tensor]):
            self._input_predictions = cast(Any, [*PREDICTIONS.values()])
            super().__init__()
            self.register_to_config(guidance=kind.__name__)
            self.guidance, self.pipe, self.unwanted = guidance, pipe, unwanted
            self.thread = 0
            self.levels: list[float] = []  # of the run, noise per signal
            self.threaded = Threaded(guidance)
            self.labels: list[Class] = []  # of the evaluations of the step that is going on
            self.states: Tensor | None = None
            self.hook: Any = None

        def new(self, **changes: Any) -> Any:
            return type(self)(
                **{"guidance": self.guidance, "pipe": self.pipe, "unwanted": self.unwanted}
                | changes
            )

        def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
            super().set_state(step, num_inference_steps, timestep)
            self.labels, self.states = [], None
            if getattr(self.pipe, "guider", self) is not self:
                raise ValueError(
                    "This guider was made for another pipeline, whose scheduler is its clock: "
                    "make one for this with `as_guider`."
                )
            check_memoryless("transformer", getattr(self.pipe, "transformer", None))
            if step == 0:
                self.threaded, self.thread = Threaded(self.guidance), threading.get_ident()
                self.levels = []
            elif self.thread != threading.get_ident():
                raise ValueError(
                    "This guider is in a run of another thread: give each thread a pipeline and a guider of "
                    "its own."
                )
            self.level = level_at(self.pipe.scheduler, timestep)
            if self.level.sigma > self.threaded.sigma and not self.level.provisional:
                raise ValueError(
                    f"Within one run the noise must not rise; the scheduler went from "
                    f"{self.threaded.sigma:g} to {self.level.sigma:g}."
                )
            if not self.level.provisional:
                self.levels.append(self.level.sigma)
                if float(timestep) == float(self.pipe.scheduler.timesteps[-1]):
                    warn_of_idle(self.guidance, self.levels)

        @property
        def num_conditions(self) -> int:
            """Of the step that is going on; between steps, when prompts are encoded, of any."""
            return len(self.labels) or (2 if self._enabled else 1)

        @property
        def is_conditional(self) -> bool:
            return self.labels[self._count_prepared - 1] is not None

        def prepare_inputs(self, data: Any) -> list[Any]:
            level = self.level
            asked = (
                self.threaded.asks(level.sigma, level.provisional) if self._enabled else (PROMPT,)
            )
            able: list[Class] = [PROMPT, None, *([UNWANTED] if self.unwanted else [])]
            self.labels = [label for label in able if asked is None or label in asked]
            missing = [label for label in asked or () if label not in able]
            paired = any(
                isinstance(value, tuple) and value[1] is not None for value in data.values()
            )
            if missing or (None in self.labels and not paired):
                raise ValueError(
                    f"The guidance asks for label {missing[0] if missing else None!r}; this pipeline has "
                    "PROMPT, None where it has encoded a negative or empty prompt (give `negative_prompt`), "
                    "and UNWANTED where `as_guider` is given `unwanted`."
                )
            return [self._batch(data, label) for label in self.labels]

        def _batch(self, data: dict[str, Any], label: Class) -> Any:
            batch = self._prepare_batch(data, 1 if label is None else 0, PREDICTIONS[label])
            for name, rows in self.unwanted.items() if label == UNWANTED else ():
                given = getattr(batch, name, None)
                if given is None:
                    raise ValueError(
                        "`unwanted` must hold inputs of the denoising block, "
                        f"{', '.join(data)}; got {name!r}."
                    )
                setattr(batch, name, rows.to(given).expand_as(given))
            return batch

        def prepare_inputs_from_block_state(
            self, data: Any, input_fields: dict[str, str | tuple[str, str]]
        ) -> list[Any]:
            given: dict[str, Any] = {}
            for name, field in input_fields.items():
                if isinstance(field, str):
                    given[name] = getattr(data, field, None)
                else:
                    given[name] = tuple(getattr(data, one, None) for one in field)
            return self.prepare_inputs({k: v for k, v in given.items() if v is not None})

        def prepare_models(self, denoiser: torch.nn.Module) -> None:
            if getattr(denoiser, "_compiled_call_impl", None) is not None:
                raise ValueError(
                    "A network that was compiled in place runs as it was then and shows nobody its states; "
                    "give the pipeline `torch.compile(network)`."
                )
            super().prepare_models(denoiser)
            self.hook = denoiser.register_forward_pre_hook(self._note, with_kwargs=True)

        def cleanup_models(self, denoiser: torch.nn.Module) -> None:
            self.hook.remove()

        def _note(self, network: Any, args: Any, kwargs: dict[str, Any]) -> None:
            """The states, the first of the network's inputs."""
            if threading.get_ident() == self.thread:
                given = inputs_of(network).bind(*args, **kwargs).arguments
                self.states = next(iter(given.values()))

        def forward(self, **raw: Tensor) -> Any:
            states = self.states
            if not self._enabled:
                return GuiderOutput(
                    pred=raw["pred_cond"], pred_cond=raw["pred_cond"], pred_uncond=None
                )
            first = next(iter(raw.values()))
            if states is None or states.shape != first.shape:
                raise ValueError(
                    f"The network must return what it takes; got {tuple(first.shape)} out of "
                    f"{None if states is None else tuple(states.shape)}, as networks for inpainting have."
                )

            def output_of(label: Class) -> Tensor:
                if label not in self.labels:
                    raise ValueError(f"The guidance asks for label {label!r}, which is not there.")
                return raw[PREDICTIONS[label]]

            pred = self.threaded.output(states, self.level, output_of).to(first.dtype)
            self.labels = []
            return GuiderOutput(
                pred=pred, pred_cond=raw.get("pred_cond"), pred_uncond=raw.get("pred_uncond")
            )

    Guider.__name__ = Guider.__qualname__ = f"{kind.__name__}Guider"
    return Guider
