"""Stable Diffusion, and any latent UNet pipeline of the same kind, with prompts as classes.

    denoiser = load("stable-diffusion-v1-5/stable-diffusion-v1-5", ["a cat", "a dog"])
    latents = denoiser.encode(pictures)
    denoiser(latents + 2.0 * noise, 2.0, labels)

Works on the layout that diffusers writes: SD 1.x and 2.x, predicting epsilon, v, x_0 (Rombach et al. 2022) or
the velocity of a flow.
Weights are read from safetensors only. Nothing is fetched unless `local_files_only=False`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.denoisers.parametrisation import from_epsilon, from_flow, from_velocity, from_x0
from model_bridges.pipelines.latent_diffusion import LatentDiffusion
from model_bridges.pipelines.latents import latent_scale
from model_bridges.pipelines.parts import Source
from model_bridges.pipelines.prompts import check_prompts, embed
from model_bridges.pipelines.schedulers import family_of
from model_bridges.pipelines.schedules import alphas_cumprod

__all__ = ["LatentDiffusion", "load"]

WRAPPERS: dict[str, Callable[..., NetworkDenoiser]] = {
    "epsilon": from_epsilon,
    "v_prediction": from_velocity,
    "sample": from_x0,
}


def load(
    path_or_repo: str | Path,
    prompts: Sequence[str],
    *,
    embeddings: Float[Tensor, "K S E"] | None = None,
    empty_embedding: Float[Tensor, "S E"] | None = None,
    revision: str | None = None,
    local_files_only: bool = True,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_batch: int = 64,
    **options: Any,
) -> LatentDiffusion:
    """A pipeline on disk or on the hub as a denoiser whose classes are the prompts.

    Args:
        path_or_repo: A folder in the layout of diffusers, or `owner/name` on the hub.
        prompts: One a class; names only where `embeddings` are given.
        embeddings: Ready embeddings of the prompts; the text encoder is not read then.
        empty_embedding: That of the empty prompt, to go with them; without it there is no
            unconditional part.
        revision: Commit, tag or branch on the hub; pin it.
        local_files_only: Use what is on this machine; `False` fetches from the hub.
        device: Where the networks compute.
        dtype: What the UNet computes in. States, coefficients and the autoencoder stay in float32.
        max_batch: Largest batch given to the networks at once; larger ones are split over states and
            classes, with the same result.
        **options: `class_prior`, `outside` ("refuse" by default), `provenance` of
            `NetworkDenoiser`.

    Raises:
        ValueError: If a part is missing, damaged, without safetensors or of another kind; if the
            prompts are not distinct to the network; if a shape does not fit.
        MissingExtraError: If diffusers or transformers are not installed.
    """
    texts = check_prompts(prompts)
    if max_batch < 1:
        raise ValueError(f"`max_batch` must be at least 1; got {max_batch}.")
    source = Source(str(path_or_repo), revision, local_files_only)
    parametrisation = _parametrisation(source.settings("scheduler"))
    scale = latent_scale(source.settings("vae"))
    if embeddings is None:
        if empty_embedding is not None:
            raise ValueError("`empty_embedding` goes with `embeddings`; got it alone.")
        rows = embed(source, texts)
        embeddings, empty_embedding = rows[:-1], rows[-1]
    unet = source.unet(dtype).to(device)
    table = _table(embeddings, empty_embedding, len(texts), unet.config.cross_attention_dim)
    network = _Prompted(unet, table.to(device, dtype), len(texts), max_batch)
    source.announce_licence()
    name = f"{source.name}@{revision}" if revision else source.name
    denoiser = parametrisation(
        network,
        num_classes=len(texts),
        event_shape=_event_shape(unet.config),
        has_unconditional=empty_embedding is not None,
        device=device,
        **{"provenance": f"the pipeline {name} with prompts {' | '.join(texts)}", **options},
    )
    return LatentDiffusion(denoiser, texts, source, scale, max_batch)


class _Prompted(nn.Module):
    """A UNet called by the number of a prompt; None is the empty one, whose row comes last."""

    def __init__(self, unet: Any, table: Float[Tensor, "rows S E"], empty: int, max_batch: int):
        super().__init__()
        self.unet, self.table = unet, nn.Buffer(table)
        self.empty, self.max_batch = empty, max_batch

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """What is compiled is the UNet, whatever the batch."""
        self.unet.compile(*args, **kwargs)

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        index = torch.full((len(x),), self.empty, device=x.device) if label is None else label
        own = self.table.dtype
        # The step stays in float32: half precision has no room for its fraction.
        parts = [
            self.unet(x[r].to(own), time[r], encoder_hidden_states=self.table[index[r]]).sample
            for r in torch.arange(len(x), device=x.device).split(self.max_batch)
        ]
        return torch.cat(parts).to(x)


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
    if family == "edm" or "beta_start" not in settings or "snr_shift_scale" in settings:
        raise ValueError(
            f"{name} does not give its noise by betas alone; a pipeline with it is not read here. Wrap its "
            "network with `NetworkDenoiser`, or guide it with `on_pipeline`."
        )
    return functools.partial(WRAPPERS[prediction], alphas_cumprod=alphas_cumprod(settings))


def _event_shape(configuration: Any) -> tuple[int, ...]:
    size = configuration.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    return configuration.in_channels, height, width


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
