"""A pipeline of diffusers with its parts at hand: an object as it is, or read from disk part by part.

An object keeps what was done to it: adapters, a network of one's own, another scheduler. From disk,
`model_index.json` says the pipeline's class and nothing else of the code that is run: the classes of its
parts are those of `families`.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from model_bridges.pipelines.families import Family, Size, family_of_pipeline, kind_of
from model_bridges.pipelines.latents import LatentScale, latent_scale
from model_bridges.pipelines.networks import check_memoryless, check_network
from model_bridges.pipelines.parts import Source
from model_bridges.pipelines.schedulers import KNOWN, check_untouched, identified

DEFAULT_SIZE = 128  # of latents, where the network's configuration says none: FLUX


@dataclass(frozen=True)
class Opened:
    """What a denoiser is made of.

    Args:
        family: What it evaluates.
        name: In words.
        network: What is evaluated, in evaluation mode.
        scheduler: Configuration of its scheduler, with the class as `_class_name`.
        scale: Scale of its latents; `None` where the states are pixels.
        reduction: Pixels a state's entry, along each axis.
        autoencoder: Gives the autoencoder.
        encoding: Gives the pipeline that encodes prompts.
        device: Where the networks compute.
        dtype: What the network computes in.
        label_names: What its labels are called, as far as it says.
    """

    family: Family
    name: str
    network: Any
    scheduler: Mapping[str, Any]
    scale: LatentScale | None
    reduction: int
    autoencoder: Callable[[], Any]
    encoding: Callable[[], Any]
    device: torch.device | str
    dtype: torch.dtype
    label_names: Mapping[int, str]

    def event_shape(self, size: Size | None) -> tuple[int, int, int]:
        """Shape of a state, for pictures of a size in pixels; of the network's own by default.

        Raises:
            ValueError: As `latent_size`.
        """
        settings = self.network.config
        height, width = latent_size(self.family, settings, self.reduction, size)
        return settings["in_channels"] // self.family.channels, height, width


def latent_size(
    family: Family, settings: Mapping[str, Any], reduction: int, size: Size | None
) -> tuple[int, int]:
    """Height and width of the states of a network of this configuration, for pictures of a size.

    Raises:
        ValueError: If the size in pixels, or its own without one, is no multiple of what autoencoder and
            network need, larger than the table of its places, or not square where it takes squares: DiT.
    """
    asked: Any = size
    if size is None:
        own = settings.get("sample_size") or DEFAULT_SIZE
        asked = tuple(reduction * n for n in ((own, own) if isinstance(own, int) else own))
    multiple = reduction * family.side(settings)
    most = multiple * (settings.get("pos_embed_max_size") or math.inf)
    square = family.kinds[family.network] == "DiTTransformer2DModel"
    sides = [*asked] if isinstance(asked, Iterable) else []
    whole = all(
        isinstance(n, Integral) and 1 <= int(n) <= most and n % multiple == 0 for n in sides
    )
    if len(sides) != 2 or not whole or (square and sides[0] != sides[1]):
        limits = " and equal" * square + f" up to {most}" * (most < math.inf)
        raise ValueError(
            f"`size` must be height and width in pixels, multiples of {multiple}{limits}; got {asked!r}."
        )
    return sides[0] // reduction, sides[1] // reduction


def in_memory(pipe: Any) -> Opened:
    """An object of diffusers.

    Raises:
        ValueError: If its class is in no family, a part is missing, its network takes further inputs, or the
            signal of its scheduler was set in place.
    """
    kind = kind_of(pipe)
    family = family_of_pipeline(kind)
    part = getattr(pipe, family.network, None)
    if not isinstance(part, torch.nn.Module):
        raise ValueError(
            f"the pipeline must have its `{family.network}`; got {type(part).__name__}. Load it whole."
        )
    network: Any = part
    check_network(family, dict(network.config))
    check_memoryless(family.network, network)
    if getattr(network, "encoder_hid_proj", None) is not None:
        raise ValueError(
            f"`{family.network}` is prompted by images, too (an IP adapter), which are not known here. "
            "`pipe.unload_ip_adapter()` leaves the prompts."
        )
    for name in (family.network, *family.text_parts, "vae"):
        if isinstance(getattr(pipe, name, None), torch.nn.Module):
            getattr(pipe, name).eval()
    name, settings = identified(pipe.scheduler)
    if name in KNOWN:  # others are refused by name
        check_untouched(pipe.scheduler)
    vae: Any = getattr(pipe, "vae", None)
    # Of an heir, the class of diffusers counts.
    kinds = [kind.__name__ for kind in type(vae).__mro__]
    known = "AutoencoderKL" if "AutoencoderKL" in kinds else kinds[0]
    settings_of_vae = {} if vae is None else {**vae.config, "_class_name": known}
    return Opened(
        family,
        str(getattr(pipe, "name_or_path", None) or type(pipe).__name__),
        network,
        {**settings, "_class_name": name},
        *_scale(family, settings_of_vae),
        lambda: vae,
        lambda: pipe,
        pipe._execution_device,
        network.dtype,
        _label_names((k, name) for name, k in getattr(pipe, "labels", {}).items()),
    )


def from_disk(source: Source, device: torch.device | str, dtype: torch.dtype) -> Opened:
    """The parts of a folder or a repository; the text encoders and the autoencoder when they are asked for.

    Raises:
        ValueError: If a part is missing, damaged, without safetensors or of another kind.
    """
    kind, own = source.index()
    family = family_of_pipeline(kind)
    scheduler = source.settings("scheduler")
    scale, reduction = _scale(family, source.settings("vae") if "vae" in family.kinds else {})
    network = source.network(family, dtype).to(device)

    def encoding() -> Any:
        import diffusers

        made: Any = getattr(diffusers, kind)
        taken = inspect.signature(made.__init__).parameters
        absent = {name for name, entry in own.items() if entry == [None, None]}
        parts: dict[str, Any] = {
            name: None for name, value in taken.items() if value.default is value.empty
        }
        parts.pop("self")
        parts |= {
            name: value for name, value in own.items() if type(value) is bool and name in taken
        }
        parts |= {
            part: source.text_part(part, family.kinds[part], device)
            for part in family.text_parts
            if part not in absent
        }
        if "requires_safety_checker" in taken:
            parts["requires_safety_checker"] = False
        return made(**parts | {family.network: network})

    return Opened(
        family,
        source.title,
        network,
        scheduler,
        scale,
        reduction,
        source.autoencoder,
        encoding,
        device,
        dtype,
        _label_names(_named(own.get("id2label"))),
    )


def _named(names: Any) -> Iterator[tuple[int, str]]:
    """Labels and their names of an `id2label`, whose keys are strings in a file."""
    for key, value in names.items() if isinstance(names, Mapping) else ():
        if str(key).isdecimal():
            yield from ((int(key), name.strip()) for name in str(value).split(","))


def _label_names(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    """The shortest name of each label: the pipeline does not keep the order of several."""
    found: dict[int, str] = {}
    for label, name in pairs:
        found[label] = min(found.get(label, name), name, key=lambda one: (len(one), one))
    return found


def _scale(family: Family, vae: Mapping[str, Any]) -> tuple[LatentScale | None, int]:
    """Scale of the latents, and how much smaller than the pictures they are."""
    if "vae" not in family.kinds:
        return None, 1
    reduction = 2 ** (len(vae.get("block_out_channels") or (0,)) - 1)
    return latent_scale(vae, family.normalised), reduction
