"""Networks that are what a pipeline's class lets expect: no further inputs, no memory."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from model_bridges.pipelines.families import Family

# Inputs that a network of text and time does not have: other pipelines.
FOREIGN = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


@contextmanager
def without_bar(logging: Any) -> Iterator[None]:
    """Without the progress bar of a library's `utils.logging`: one of its own, for a second."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def check_network(family: Family, settings: Mapping[str, Any]) -> None:
    """Refuse the networks of other pipelines.

    Args:
        family: The pipeline's.
        settings: The network's configuration.

    Raises:
        ValueError: If it takes further inputs, or gives neither its state nor that with a variance.
    """
    part = family.network
    foreign = [
        name for name in FOREIGN if settings.get(name) is not None and name not in family.foreign
    ]
    if foreign:
        raise ValueError(
            f"`{part}` must take no more than its pipeline gives it; this one has {', '.join(foreign)}: "
            "another kind of pipeline. Wrap it yourself with `from_epsilon` or `from_velocity`."
        )
    channels = (
        settings.get("in_channels", 4),
        settings.get("out_channels") or settings.get("in_channels", 4),
    )
    if channels[1] not in (channels[0], 2 * channels[0]):
        raise ValueError(
            f"`{part}` must return what it takes; got {channels[0]} channels in and {channels[1]} "
            "out, as networks for inpainting, depth or upscaling have."
        )
    if "sample_size" not in settings and part != "unet":
        return
    levels = len(settings.get("block_out_channels") or ())
    size = settings.get("sample_size")
    sizes = size if isinstance(size, list | tuple) else (size, size)
    fits = [isinstance(n, int) and n >= 2 ** max(levels - 1, 0) for n in sizes]
    if not (len(fits) == 2 and all(fits)):
        raise ValueError(
            f"`sample_size` in the configuration of `{part}` must be a whole number, or two, of at least "
            f"{2 ** max(levels - 1, 0)} for its {levels} levels; got {size!r}."
        )


def check_memoryless(part: str, network: Any) -> None:
    """Refuse a network whose output depends on what it was asked before.

    Raises:
        ValueError: If it has a cache of diffusers.
    """
    if getattr(network, "is_cache_enabled", False):
        raise ValueError(
            f"the cache of `{part}` answers with what was computed at other steps; call "
            f"`pipe.{part}.disable_cache()` first."
        )
