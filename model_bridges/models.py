"""Models by name.

    "digits"           the shipped pair of small EDM2 networks on real handwritten digits
    "digits-text"      the shipped text-to-image model of the same digits, prompts as classes
    "edm2:COND,UNCOND" published EDM2 weights, official or converted files (`edm2.load`)
    "sd:PATH_OR_REPO"  a latent diffusion pipeline (`stable_diffusion`), with the prompts given
    "module:function"  whatever `function()` of an importable module returns, if it is a denoiser

Names are resolved when `load` is called; nothing is fetched from anywhere.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from model_bridges.denoisers.base import Denoiser, Unconditional
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.edm2 import EDM2Network

ACCEPTED = (
    "'digits', 'digits-text', 'edm2:PATH[,PATH]', 'sd:PATH_OR_REPO', or 'module:function' for a "
    "denoiser of your own"
)


def load(name: str, *, prompts: Sequence[str] | None = None) -> Denoiser:
    """The denoiser of this name, in EDM coordinates.

    Args:
        name: See the module.
        prompts: The classes of a text-to-image model; those of "digits-text" name its ten digits
            by default.

    Raises:
        ValueError: If the name is unknown, or what it names is missing or no denoiser; if prompts
            are missing, or given to a model with its own classes.
    """
    if name == "digits-text":
        from model_bridges.digits.text import load_denoiser

        return load_denoiser(prompts)
    if name.startswith("sd:"):
        from model_bridges.pipelines import load as load_pipeline

        if not prompts:
            raise ValueError(f"{name!r} needs prompts, its classes: pass `prompts`, or `--prompt`.")
        return load_pipeline(name.removeprefix("sd:"), prompts)
    if prompts:
        raise ValueError(f"{name!r} has its own classes and takes no prompts; got {prompts!r}.")
    if name == "digits":
        return _digits()
    if name.startswith("edm2:"):
        from model_bridges.edm2.weights import load_named

        return load_named(name.removeprefix("edm2:"))
    module_name, colon, function_name = name.partition(":")
    if not (colon and module_name and function_name):
        raise ValueError(f"`name` must be {ACCEPTED}; got {name!r}.")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name!r} could not be found: {error}. Give {ACCEPTED}; the module must be on the "
            "Python path."
        ) from error
    denoiser = function() if callable(function) else function
    if not isinstance(denoiser, Denoiser):
        raise ValueError(
            f"{name!r} must return a denoiser with num_classes, event_shape, sigma_range, "
            f"provenance, has_unconditional, raw and coefficients; got {type(denoiser).__name__}. "
            "Wrap a network with `from_epsilon`, `from_velocity`, `from_x0`, `from_flow` or "
            "`NetworkDenoiser`."
        )
    return denoiser


def _digits() -> Denoiser:
    from model_bridges.digits import load_networks

    conditional, unconditional, metadata = load_networks()
    return from_edm2(
        conditional,
        unconditional,
        sigma_range=metadata.sigma_range,
        provenance="EDM2 networks trained on scikit-learn's handwritten digits",
    )


def from_edm2(
    conditional: EDM2Network,
    unconditional: EDM2Network | None = None,
    *,
    sigma_range: tuple[float, float] = (0.002, 80.0),
    **options: Any,
) -> NetworkDenoiser:
    """A conditional EDM2 network and its unconditional partner, a network of its own.

    The zero label of the conditional network was never trained, so it does not stand in for a
    missing partner: without one, `UNCONDITIONAL` is refused.

    Args:
        conditional: Network with `label_dim` classes.
        unconditional: Network with `label_dim = 0` on the same states.
        sigma_range: Trained noise levels.
        **options: `provenance`, `class_prior`, `outside` ("warn" by default) of `NetworkDenoiser`.

    Raises:
        ValueError: If the networks are not such a pair.
    """
    if conditional.label_dim == 0:
        raise ValueError("`conditional` must have classes; got a network with label_dim = 0.")
    event_shape = (conditional.img_channels, *2 * (conditional.img_resolution,))
    if unconditional is not None:
        partner = (unconditional.img_channels, *2 * (unconditional.img_resolution,))
        if (
            unconditional.label_dim != 0
            or partner != event_shape
            or unconditional.sigma_data != conditional.sigma_data
        ):
            raise ValueError(
                "`unconditional` must have label_dim = 0 and the states and sigma_data of its "
                f"partner, {event_shape} and {conditional.sigma_data}; got label_dim "
                f"{unconditional.label_dim}, {partner} and {unconditional.sigma_data}."
            )

    def raw(x: Tensor, sigma: Tensor, label: Tensor | Unconditional) -> Tensor:
        if isinstance(label, Unconditional):
            assert unconditional is not None  # `has_unconditional` is checked before every call
            return unconditional.raw(x, sigma)
        return conditional.raw(x, sigma, label)

    def coefficients(sigma: Tensor) -> tuple[Tensor, Tensor]:
        preconditioning = conditional.preconditioning(sigma)
        return preconditioning.c_skip, preconditioning.c_out

    weight = next(conditional.parameters())
    return NetworkDenoiser(
        raw,
        coefficients,
        num_classes=conditional.label_dim,
        event_shape=event_shape,
        sigma_range=sigma_range,
        has_unconditional=unconditional is not None,
        soft_labels=True,
        dtype=torch.promote_types(weight.dtype, torch.float32),
        device=weight.device,
        **{"provenance": "an EDM2 network", **options},
    )
