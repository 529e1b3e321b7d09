"""An interval of noise for the guidance that a pipeline of diffusers has of its own."""

import inspect
from typing import Any

from gmm_speciation.guidance import ClassifierFree, Interval
from gmm_speciation.guidance.intervals import warn_of_idle
from model_bridges.guidance.evaluations import PROMPT, half
from model_bridges.guidance.pipelines import PIPELINES, TWICE, known_pipeline
from model_bridges.pipelines.schedulers import level_at


def interval_callback(pipe: Any, low: float | int, high: float | int) -> Any:
    """A `callback_on_step_end` that guides where `low < sigma <= high`, and spares half the cost elsewhere.

        pipe(prompt, guidance_scale=7.5, callback_on_step_end=interval_callback(pipe, 0.5, 7.0))

    A callback speaks after a step: the first one is guided as the pipeline is told. Where that matters, use
    `on_pipeline`. Where none of the others lies inside, the last call warns.

    Args:
        pipe: The pipeline that will be called, one of `PIPELINES`.
        low, high: Noise per signal, as of `guidance_interval`.

    Raises:
        ValueError: If not `0 <= low < high`, or the pipeline is unknown; at a call, if it is not guided, its
            scheduler is unknown, or images prompt it, whose halves no callback can change.
    """
    from diffusers.callbacks import PipelineCallback

    interval = Interval(ClassifierFree(PROMPT, 1.0), low, high)  # the pipeline knows its scale
    name = known_pipeline(pipe)
    halved = PIPELINES[name]
    if halved is None:
        can = "callback_on_step_end" in inspect.signature(type(pipe).__call__).parameters
        reason = "cannot halve all that {} gives to its network" if can else "has no place in {}"
        if name in TWICE:
            reason = "does not reach the `true_cfg_scale` of {}"
        raise ValueError(f"A callback {reason.format(name)}. Use `on_pipeline`.")
    tensors = list(halved)

    class IntervalCallback(PipelineCallback):
        tensor_inputs = tensors

        def callback_fn(
            self, pipeline: Any, step_index: int, timestep: Any, callback_kwargs: dict[str, Any]
        ) -> dict[str, Any]:
            steps = pipeline.scheduler.timesteps
            if step_index == 0:
                self._start(pipeline, callback_kwargs)
                # A run may begin in the middle, as image-to-image does, even between two equal steps.
                places = (steps == timestep).flatten().nonzero().flatten().tolist()
                middle = len(steps) - pipeline.num_timesteps
                self.first = middle if middle in places else places[0]
                self.levels: list[float] = []  # of the steps after the first
            index = self.first + step_index + 1
            if index == len(steps):
                if self.levels and low < self.levels[0]:  # another is not beside the first step
                    warn_of_idle(interval, self.levels)
                return callback_kwargs
            level = level_at(pipeline.scheduler, steps[index])
            if not level.provisional:  # decided once a step
                self.levels.append(level.sigma)
                acts = interval.contains(level.sigma)
                pipeline._guidance_scale = self.scale if acts else 1.0
                callback_kwargs.update(self.both if acts else self.prompt)
            return callback_kwargs

        def _start(self, pipeline: Any, both: dict[str, Any]) -> None:
            if not pipeline.do_classifier_free_guidance:
                raise ValueError(
                    "The pipeline is not guided; call it with `guidance_scale` above 1."
                )
            network = getattr(pipeline, "unet", None)
            if getattr(network, "encoder_hid_proj", None) is not None:
                raise ValueError(
                    "The pipeline is prompted by images, too, whose halves a callback cannot change. Use "
                    "`on_pipeline`."
                )
            self.scale, self.both = pipeline.guidance_scale, {name: both[name] for name in tensors}
            rows = len(self.both["prompt_embeds"])
            # ControlNet's guess mode has one image for both halves.
            self.prompt = {
                name: value if name == "image" and _rows(value) != rows else half(value, rows, name)
                for name, value in self.both.items()
            }

    return IntervalCallback()


def _rows(images: Any) -> int:
    return len(images[0] if isinstance(images, list) else images)
