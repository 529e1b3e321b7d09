"""One call of a pipeline under guidance: what it finds in the place of its network while it denoises.

A pipeline either gives its network the negative prompt and the prompt as one batch, `Run`, or asks twice a
step, for the prompt and for the negative one, `TwiceRun`. Both leave the pipeline's own mixture
`F_u + w (F_p - F_u)` without effect: the two outputs that it mixes are the guided one. The network itself is
called as it is, compiled, quantised, with what was hooked to it, and is the same to whoever shares it.
"""

import copy
import functools
import inspect
from typing import Any, final

import torch
from torch import Tensor

from gmm_speciation.guidance import AbstractGuidance as Guidance
from model_bridges.guidance.base import Class, Threaded
from model_bridges.pipelines.families import ENCODING
from model_bridges.pipelines.schedulers import Level, level_at

PROMPT, UNWANTED = 0, 1


def inputs_of(network: Any) -> inspect.Signature:
    """What a network takes; one that is compiled says that it takes anything."""
    return inspect.signature(getattr(network, "_orig_mod", network).forward)


class Run:
    """A call of a pipeline that gives its network both halves at once."""

    def __init__(
        self,
        pipe: Any,
        guidance: Guidance,
        unwanted: str | int | None,
        given: dict[str, Any],
        halves: tuple[Class, Class] = (None, PROMPT),
    ):
        self.pipe, self.unwanted, self.given = pipe, unwanted, given
        self.network = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
        self.taken = inputs_of(self.network)
        self.state = next(iter(self.taken.parameters))  # the name of its states
        self.halves = halves
        self.threaded = Threaded(guidance)
        # Of the evaluation that is going on: what the pipeline gave, where, and the half that is computed.
        self.inputs: dict[str, Any] = {}
        self.levels: list[float] = []  # of the steps
        self.level: Level
        self.alone: tuple[Class, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["network"], name)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self.network, memo)  # a copy made within the loop is the network's

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the pipeline gets: the guided output for both halves, of which it may compute one."""
        self.inputs = self._bound(args, kwargs)
        self._check()
        self._arrive(self.inputs["timestep"])
        # It takes entries out of its lists.
        given = self._half(self.alone[0]) if self.alone else self._bound(args, kwargs)
        return self._guide(self._evaluate(given))

    def _evaluate(self, given: dict[str, Any]) -> Any:
        """What the network returns; it may work in place, on states that are needed afterwards."""
        return self.network(**given | {self.state: given[self.state].clone()})

    def _bound(self, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Inputs by name, in lists and dictionaries of their own: they are changed after they are given."""
        bound = self.taken.bind(*args, **kwargs).arguments
        return {
            name: value.copy() if isinstance(value, list | dict) else value
            for name, value in bound.items()
        }

    def _arrive(self, timestep: Any) -> None:
        """At a level, where one of the two outputs may do."""
        self.level = level = level_at(self.pipe.scheduler, timestep)
        self.levels += [] if level.provisional else [level.sigma]
        reached = self.threaded.sigma
        if level.sigma > reached and not level.provisional:
            raise ValueError(
                f"Within one call the noise must not rise; the scheduler went from {reached:g} to "
                f"{level.sigma:g}."
            )
        asked = self.threaded.asks(level.sigma, level.provisional)
        needed = self.halves if asked is None else [k for k in self.halves if k in asked]
        self.alone = tuple(needed) if len(needed) == 1 else ()

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
        if self.inputs.get("skip_layers") is not None:
            raise ValueError(
                "`skip_guidance_layers` mixes a third output into the pipeline's own two, which does nothing "
                "here; call the pipeline without it."
            )
        if not torch.equal(*states.chunk(2)):
            raise ValueError(
                f"The network must be given one state twice; got {tuple(states.shape)} with halves that "
                "differ."
            )

    def _half(self, label: Class) -> dict[str, Any]:
        rows, first = len(self.inputs[self.state]), label == self.halves[0]
        return {name: half(value, rows, name, first) for name, value in self.inputs.items()}

    def _guide(self, output: Any) -> Any:
        # One that was captured writes to the same place when it is asked for a further prompt.
        raw = (output[0] if isinstance(output, tuple) else output.sample).clone()
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
        mean = self._guided(states, known, channels)
        rest = raw[:, channels:].chunk(parts)[0]
        result = torch.cat([torch.cat([mean.to(raw.dtype), rest], 1)] * 2)
        if isinstance(output, tuple):
            return (result, *output[1:])
        output.sample = result
        return output

    def _guided(self, states: Tensor, known: dict[Class, Tensor], channels: int) -> Tensor:
        """What the network would return if it were the guided one."""

        def output_of(label: Class) -> Tensor:
            if label not in known:
                known[label] = self._further(label)[:, :channels]
            return known[label]

        return self.threaded.output(states, self.level, output_of)

    def _further(self, label: Class) -> Tensor:
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
        output: Tensor = self._evaluate(inputs)[0]
        return output.clone()

    @functools.cached_property
    def _text(self) -> dict[str, Tensor]:
        """What the network is given for the unwanted prompt, made as the pipeline makes its own."""
        pipe, states = self.pipe, self.inputs[self.state]
        if not hasattr(pipe, "encode_prompt"):
            return {"class_labels": torch.tensor([self.unwanted], device=states.device)}
        encode = inspect.signature(pipe.encode_prompt).parameters
        options = {name: self.given[name] for name in ENCODING if name in self.given}
        attention = getattr(pipe, "cross_attention_kwargs", None)
        attention = attention or self.given.get("joint_attention_kwargs") or {}
        options |= {"prompt_2": None, "prompt_3": None, "lora_scale": attention.get("scale")}
        options["do_classifier_free_guidance"] = False
        with torch.no_grad():
            text, second, *others = pipe.encode_prompt(
                prompt=self.unwanted,
                device=states.device,
                num_images_per_prompt=1,
                **{name: value for name, value in options.items() if name in encode},
            )
        found = self._named(text, second, *others)
        given = self.inputs["encoder_hidden_states"]
        return {
            name: value.to(given) if value.is_floating_point() else value
            for name, value in found.items()
            if value is not None
        }

    def _named(self, text: Tensor, second: Any, *others: Any) -> dict[str, Any]:
        """What `encode_prompt` returns, by the names that the network has for it."""
        found = {"encoder_hidden_states": text}
        if "encoder_attention_mask" in self.inputs:  # PixArt
            return found | {"encoder_attention_mask": second}
        pooled = {"text_embeds": others[0], "pooled_projections": others[0]} if others else {}
        return found | pooled


@final
class TwiceRun(Run):
    """A call of a pipeline that asks for the prompt and then, at the same state, for the negative one.

    What it gets for the prompt is overwritten by the guided output when it asks for the second time; an
    output that the guidance leaves unused is not computed.
    """

    first: Tensor | None = None  # the answer that is still open

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor]:
        inputs = self._bound(args, kwargs)
        states = inputs[self.state]
        if self.first is None:
            self.both: dict[Class, dict[str, Any]] = {PROMPT: inputs}
            self.inputs = inputs
            self._check()
            # In half precision the step that the network is given is rounded.
            self._arrive(self.pipe.current_timestep)
            asked = self.alone != (None,)
            self.first = self._output(PROMPT) if asked else torch.empty_like(states)
            return (self.first,)
        first, self.first = self.first, None
        self.both[None] = inputs
        known: dict[Class, Tensor] = {} if self.alone == (None,) else {PROMPT: first}
        if self.alone != (PROMPT,):
            known[None] = self._output(None)
        mean = self._guided(states, known, states.shape[1]).to(first.dtype)
        return (first.copy_(mean),)

    def _output(self, label: Class) -> Tensor:
        output: Tensor = self._evaluate(self.both[label])[0]
        return output.clone()

    def _half(self, label: Class) -> dict[str, Any]:
        return dict(self.both[label])

    def _check(self) -> None:
        given = self.given
        negative = given["negative_prompt"] is not None or (
            given["negative_prompt_embeds"] is not None
            and given["negative_pooled_prompt_embeds"] is not None
        )
        if given["true_cfg_scale"] <= 1 or not negative:
            raise ValueError(
                "The pipeline asks for the prompt alone; call it with `true_cfg_scale` above 1 and a "
                '`negative_prompt`, "" if there is nothing to say, to guide against.'
            )

    def _named(self, text: Tensor, second: Any, *others: Any) -> dict[str, Any]:
        return {"encoder_hidden_states": text, "pooled_projections": second}


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
