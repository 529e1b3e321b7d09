"""Pipelines of diffusers as denoisers, with prompts or labels as classes.

    denoiser = from_pipeline(pipe, ["a cat", "a dog"])
    denoiser = load("stable-diffusion-v1-5/stable-diffusion-v1-5", ["a cat", "a dog"])
    latents = denoiser.encode(pictures)
    denoiser(latents + 2.0 * noise, 2.0, labels)

The families are those of `families`, predicting epsilon, v, x_0 (Rombach et al. 2022) or the velocity of a
flow (Esser et al. 2024). From disk, weights are read from safetensors only, and nothing is fetched unless
`local_files_only=False`.
"""

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gmm_speciation.checks import as_count
from model_bridges.denoisers.devices import check_floating, find_device
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.denoisers.parametrisation import from_epsilon, from_flow, from_velocity, from_x0
from model_bridges.pipelines.families import FAMILIES, Family, Rows
from model_bridges.pipelines.latent_diffusion import LatentDiffusion
from model_bridges.pipelines.opened import Opened, from_disk, in_memory
from model_bridges.pipelines.parts import open_source
from model_bridges.pipelines.prompts import check_prompts, check_rows, check_tokens
from model_bridges.pipelines.schedulers import family_of
from model_bridges.pipelines.schedules import alphas_cumprod

__all__ = ["FAMILIES", "LatentDiffusion", "from_pipeline", "load"]

WRAPPERS: dict[str, Callable[..., NetworkDenoiser]] = {
    "epsilon": from_epsilon,
    "v_prediction": from_velocity,
    "sample": from_x0,
}

Labels = Sequence[int] | Int[Tensor, " K"] | Int[np.ndarray, " K"]
OPTIONS = ("class_prior", "outside", "provenance")


@dataclass(frozen=True)
class Classes:
    """What the classes of a pipeline are, as its user says.

    Args:
        prompts: One a class, for text-to-image pipelines.
        labels: The network's own labels that are kept, in this order; all of them by default.
        names: What the classes are called; the prompts, or the names that the pipeline has, by default.
        null: The label that a network of labels was trained with where no class is given, if its family
            does not say.
    """

    prompts: Sequence[str] | None = None
    labels: Labels | None = None
    names: Sequence[str] | None = None
    null: int | None = None


def from_pipeline(
    pipe: Any,
    prompts: Sequence[str] | None = None,
    *,
    classes: Labels | None = None,
    class_names: Sequence[str] | None = None,
    null_class: int | None = None,
    size: tuple[int, int] | None = None,
    max_batch: int = 64,
    **options: Any,
) -> LatentDiffusion | NetworkDenoiser:
    """A pipeline in memory as a denoiser, as it is: with its adapters, its network, its scheduler.

    Its networks are set to evaluation mode and compute where they are, in the types that they have; an
    autoencoder of float16 with `force_upcast` in float32, to which it is cast for a call. What is changed in
    them later changes the denoiser; prompts are encoded here.

    Args:
        pipe: An object of one of the classes of `FAMILIES`, or of an heir.
        prompts: The classes of a text-to-image pipeline.
        classes: Labels of a class-conditional pipeline; all by default.
        class_names: What they are called.
        null_class: The label that stands for no class in a pipeline of pixels. DiT has one by itself.
        size: Height and width of its pictures in pixels; those it was trained for by default, 1024 for FLUX.
        max_batch: Largest batch given to the networks at once; larger ones are split over states and
            classes, with the same result.
        **options: `class_prior`, `outside` ("refuse" by default), `provenance` of
            `NetworkDenoiser`.

    Raises:
        ValueError: If the pipeline or its scheduler is of no known class, its network takes further
            inputs; if the scheduler's `alphas_cumprod` were set in place; if the classes are not those of
            such a pipeline, or not distinct to the network; if the network does not take the size, or the
            pipeline's class does not scale latents as its autoencoder says.
        TypeError: If an option is none of these.
    """
    asked = Classes(prompts, classes, class_names, null_class)
    return _denoiser(in_memory(pipe), asked, None, size, max_batch, options)


def load(
    path_or_repo: str | Path,
    prompts: Sequence[str] | None = None,
    *,
    embeddings: Float[Tensor, "K S E"] | None = None,
    empty_embedding: Float[Tensor, "S E"] | None = None,
    config: str | Path | None = None,
    revision: str | None = None,
    variant: str | None = None,
    local_files_only: bool = True,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    classes: Labels | None = None,
    class_names: Sequence[str] | None = None,
    null_class: int | None = None,
    size: tuple[int, int] | None = None,
    max_batch: int = 64,
    **options: Any,
) -> LatentDiffusion | NetworkDenoiser:
    """A pipeline on disk or on the hub as a denoiser; `model_index.json` says which family it is.

    Args:
        path_or_repo: A folder in the layout of diffusers, `owner/name` on the hub, or a single safetensors
            file.
        prompts: One a class; names only where `embeddings` are given.
        embeddings: Ready embeddings of the prompts of a Stable Diffusion 1 or 2; the text encoder is not
            read then.
        empty_embedding: That of the empty prompt, to go with them; without it there is no
            unconditional part.
        config: Of a single file: a folder or repository of a pipeline of its kind, for the configuration of
            its parts and for what the file does not have. If `None`, where diffusers has that of such
            files, which `local_files_only=False` fetches.
        revision: Commit, tag or branch on the hub; pin it.
        variant: Of the files of weights, such as "fp16".
        local_files_only: Use what is on this machine; `False` fetches from the hub.
        device: Where the networks compute.
        dtype: What the network computes in. States, coefficients and the autoencoder stay in float32.
        classes, class_names, null_class, size, max_batch, **options: As `from_pipeline`.

    Raises:
        ValueError: If a part is missing, damaged, without safetensors or of another kind; as
            `from_pipeline`; if a shape does not fit, the device is not there, or the dtype not floating.
        MissingExtraError: If diffusers or transformers are not installed.
    """
    check_floating(dtype)
    device = find_device(device)
    if prompts is not None:
        prompts = check_prompts(prompts)
    source = open_source(
        str(path_or_repo),
        config=config,
        revision=revision,
        local_files_only=local_files_only,
        variant=variant,
    )
    if embeddings is None and empty_embedding is not None:
        raise ValueError("`empty_embedding` goes with `embeddings`; got it alone.")
    opened = from_disk(source, device, dtype)
    rows = None
    if embeddings is not None:
        width = getattr(opened.network.config, "cross_attention_dim", 0)
        if opened.family is not FAMILIES["StableDiffusionPipeline"] or prompts is None:
            raise ValueError(
                "`embeddings` go with `prompts`, their names, and a StableDiffusionPipeline; others take "
                "more than one embedding a prompt. Give prompts alone."
            )
        table = _table(embeddings, empty_embedding, len(prompts), width)
        rows = {"encoder_hidden_states": table}
    source.announce_licence()
    asked = Classes(prompts, classes, class_names, null_class)
    return _denoiser(opened, asked, rows, size, max_batch, options)


def _denoiser(
    opened: Opened,
    asked: Classes,
    rows: Rows | None,
    size: tuple[int, int] | None,
    max_batch: int,
    options: dict[str, Any],
) -> LatentDiffusion | NetworkDenoiser:
    as_count(max_batch, "max_batch")
    if unknown := [name for name in options if name not in OPTIONS]:
        raise TypeError(
            f"a pipeline takes the options {', '.join(OPTIONS)} besides its arguments; got {unknown[0]!r}."
        )
    parametrisation = _parametrisation(opened.scheduler)
    family = opened.family
    event_shape = opened.event_shape(size)
    if family.conditions is None:
        names, rows, has_null = _labels(opened, asked)
    else:
        names = _texts(asked)
        if rows is None:
            pipe = opened.encoding()
            check_tokens(pipe, family.text_parts, names, family.longest)
            height, width = (opened.reduction * n for n in event_shape[1:])
            rows = family.conditions(pipe, names, (height, width))
        check_rows(rows, names, opened.dtype)
        has_null = len(next(iter(rows.values()))) > len(names)
    network = _Conditioned(family, opened.network, rows, len(names), max_batch)
    network.rows.to(opened.device)
    kind = "classes" if family.conditions is None else "prompts"
    shown = names
    if len(names) > 32:  # the digest tells lists apart whose beginning is the same
        digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]
        shown = (*names[:31], f"... {len(names)} in all ({digest})")
    called = names if asked.names is None else asked.names  # a text is not taken letter by letter
    denoiser = parametrisation(
        network,
        num_classes=len(names),
        event_shape=event_shape,
        has_unconditional=has_null,
        device=opened.device,
        **{
            "provenance": f"the pipeline {opened.name} with {kind} {' | '.join(shown)}",
            "class_names": called if isinstance(called, str) else tuple(called),
            **options,
        },
    )
    if opened.scale is None:
        return denoiser
    return LatentDiffusion(denoiser, names, opened.autoencoder, opened.scale, max_batch)


def _texts(asked: Classes) -> tuple[str, ...]:
    if asked.labels is not None or asked.null is not None:
        raise ValueError(
            "the classes of a text-to-image pipeline are `prompts`; got `classes` or `null_class`."
        )
    if asked.prompts is None:
        raise ValueError("a text-to-image pipeline needs `prompts`, its classes; got none.")
    return check_prompts(asked.prompts)


def _labels(opened: Opened, asked: Classes) -> tuple[tuple[str, ...], Rows, bool]:
    """Names of the classes, their labels with the null class last, and whether there is one.

    Raises:
        ValueError: If prompts are given, or labels that the network does not have, or one twice.
    """
    family, kind = opened.family, type(opened.network).__name__
    if asked.prompts is not None:
        raise ValueError(
            f"a {kind} reads no prompts; its classes are labels. Name those to keep as `classes`."
        )
    known = opened.network.config.get(family.labels) or 0
    if not known:  # one distribution, with or without its label
        if asked.labels is not None or asked.null is not None:
            raise ValueError(
                f"this {kind} was built without classes (`{family.labels}` is not set); leave out "
                "`classes` and `null_class`."
            )
        return ("all",), {}, True
    null = known if family.null_class else asked.null
    kept = asked.labels
    if kept is None:
        kept = [label for label in range(known) if label != null]
    if isinstance(kept, torch.Tensor | np.ndarray):
        kept = kept.tolist()
    if not isinstance(kept, Iterable):
        raise ValueError(f"`classes` must be a list of labels; got {kept!r}.")
    labels = [*kept] if null is None or family.null_class else [*kept, null]
    whole = all(isinstance(k, Integral) and not isinstance(k, bool) for k in labels)
    if not (kept and whole and len(set(labels)) == len(labels) and {*labels} <= {*range(known)}):
        raise ValueError(
            f"`classes` and `null_class` must be different labels in 0..{known - 1}; got {labels}."
        )
    rows = [int(k) for k in kept] + ([] if null is None else [int(null)])
    names = tuple(opened.label_names.get(k, str(k)) for k in rows[: len(kept)])
    return names, {"class_labels": torch.tensor(rows)}, null is not None


class _Conditioned(nn.Module):
    """A pipeline's network called by the number of a class; None is the row after the last one."""

    def __init__(self, family: Family, network: Any, rows: Rows, last: int, max_batch: int):
        super().__init__()
        self.family, self.last, self.max_batch = family, last, max_batch
        self.network = network
        self.rows = nn.Module()
        for name, value in rows.items():
            self.rows.register_buffer(name, value)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """What is compiled is the network, whatever the batch."""
        self.network.compile(*args, **kwargs)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        index = torch.full((len(x),), self.last, device=x.device) if label is None else label
        own, parts = self.network.dtype, []
        table = {
            name: value.to(own) if value.is_floating_point() else value
            for name, value in self.rows.named_buffers()
        }
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            for part in torch.arange(len(x), device=x.device).split(self.max_batch):
                given = {name: value[index[part]] for name, value in table.items()}
                # The step stays in float32: half precision has no room for its fraction.
                evaluated = self.family.evaluate(self.network, x[part].to(own), time[part], given)
                parts.append(evaluated.clone())  # a compiled network may write to one buffer
        # A learned variance is in the second half of the channels.
        return torch.cat(parts)[:, : x.shape[1]].to(x)


def _parametrisation(configuration: Mapping[str, Any]) -> Callable[..., NetworkDenoiser]:
    """What makes a denoiser of a network with this scheduler.

    Raises:
        ValueError: If the scheduler, its `prediction_type` or its schedule is unknown.
    """
    import diffusers

    name = str(configuration.get("_class_name") or "one without `_class_name`")
    family, prediction = family_of(name, configuration)
    taken = inspect.signature(getattr(diffusers, name).__init__).parameters
    # What the file does not say is what the class says; what the class does not know it does not use.
    settings = {key: configuration.get(key, value.default) for key, value in taken.items()}
    if family == "flow":
        steps = settings["num_train_timesteps"]
        return lambda network, **options: from_flow(
            lambda x, time, label: network(x, steps * time, label), **options
        )
    by_sigma = settings.get("timestep_type") == "continuous" and prediction == "v_prediction"
    if family == "edm" or "beta_start" not in settings or "snr_shift_scale" in settings or by_sigma:
        raise ValueError(
            f"{name} does not give its noise by betas and its network their steps"
            + (", but a quarter of log sigma, as its `timestep_type` says" if by_sigma else "")
            + "; a pipeline with it is not read here. Wrap its network with `NetworkDenoiser`, or guide it "
            "with `on_pipeline`."
        )
    return functools.partial(WRAPPERS[prediction], alphas_cumprod=alphas_cumprod(settings))


def _table(
    embeddings: Tensor, empty_embedding: Tensor | None, num_prompts: int, width: int
) -> Float[Tensor, "rows S E"]:
    """Embeddings of the prompts and, where there is one, of the empty prompt."""
    if embeddings.ndim != 3 or len(embeddings) != num_prompts or embeddings.shape[2] != width:
        raise ValueError(
            f"`embeddings` must have shape ({num_prompts}, tokens, {width}), one a prompt and as "
            f"wide as the UNet's cross-attention; got {tuple(embeddings.shape)}."
        )
    if empty_embedding is None:
        return embeddings
    if empty_embedding.shape != embeddings.shape[1:]:
        raise ValueError(
            f"`empty_embedding` must have shape {tuple(embeddings.shape[1:])}; got "
            f"{tuple(empty_embedding.shape)}."
        )
    return torch.cat([embeddings, empty_embedding[None].to(embeddings)])
