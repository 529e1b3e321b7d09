"""What a pipeline's configuration files may say: numbers of the kinds and sizes that such networks have.

A configuration comes with the weights and is no more to be trusted than they are. A network is built from it
before the weights are read, so a million layers, or a head of dimension 0, are found here, by file and key.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gmm_speciation.reading import is_regular, read_json

# Largest whole number that each key may have, alone or in a list; the smallest is 1.
_MOST = {
    "num_train_timesteps": 100_000,
    "in_channels": 4096,
    "out_channels": 4096,
    "latent_channels": 4096,
    "layers_per_block": 64,
    "transformer_layers_per_block": 64,
    "block_out_channels": 16_384,
    "norm_num_groups": 16_384,
    "attention_head_dim": 16_384,
    "num_attention_heads": 16_384,
    "cross_attention_dim": 65_536,
    "hidden_size": 65_536,
    "intermediate_size": 262_144,
    "projection_dim": 65_536,
    "num_hidden_layers": 256,
    "num_layers": 256,
    "num_single_layers": 256,
    "num_embeds_ada_norm": 1 << 21,
    "num_class_embeds": 1 << 21,
    "patch_size": 4096,
    "joint_attention_dim": 65_536,
    "caption_projection_dim": 65_536,
    "caption_channels": 65_536,
    "pooled_projection_dim": 65_536,
    "d_model": 65_536,
    "d_ff": 262_144,
    "num_heads": 16_384,
    "vocab_size": 1 << 21,
    "max_position_embeddings": 65_536,
}
# Keys with one number; others of the table may have one for each block.
_ONE = ("num_train_timesteps", "in_channels", "out_channels", "latent_channels", "norm_num_groups")
_OF_SCHEDULES = ("num_train_timesteps", "beta_start", "beta_end")
_REAL = ("beta_start", "beta_end", "shift", "norm_eps", "layer_norm_eps")
_LISTS = {"block_out_channels": 16, "down_block_types": 16, "up_block_types": 16}
# Entries of any other list, and letters of a name: an error that repeats it stays readable.
_LONGEST, _LONGEST_NAME = 256, 1000


def check_files(folder: Path) -> None:
    """Refuse a part with a file that cannot be read without waiting, or JSON that cannot be used.

    Raises:
        ValueError: If there is one; names it.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() or path.name.startswith("."):
            continue
        if not is_regular(path):
            raise ValueError(
                f"{str(path)!r} must be a file; it is a pipe, a device, or a broken link."
            )
        if path.name in ("config.json", "scheduler_config.json"):
            content = read_json(path)
            if not isinstance(content, dict):
                raise ValueError(
                    f"{str(path)!r} must hold an object; got {type(content).__name__}."
                )


def check_configuration(part: str, settings: Mapping[str, Any]) -> None:
    """Refuse numbers that no such network has.

    Raises:
        ValueError: If a number is of another kind or size, or a list is none or too long; names the key.
    """
    for key, value in settings.items():
        if value is None and part == "scheduler" and key in _OF_SCHEDULES:
            raise _unlike(part, key, "a number", value)
        if value is None:
            continue
        if key in (*_ONE, *_REAL) and isinstance(value, list | tuple):
            raise _unlike(part, key, "one number", value)
        most = _MOST["num_train_timesteps"] if key == "trained_betas" else _LISTS.get(key, _LONGEST)
        if isinstance(value, list | tuple) and len(value) > most:
            raise _unlike(part, key, f"at most {most} entries", len(value))
        if isinstance(value, str) and len(value) > _LONGEST_NAME:
            raise _unlike(part, key, f"at most {_LONGEST_NAME} letters", len(value))
        if key in _LISTS and not (isinstance(value, list | tuple) and value):
            raise _unlike(part, key, "a list", value)
        entries = list(_entries(value))
        if key in _MOST and not all(type(v) is int and 1 <= v <= _MOST[key] for v in entries):
            raise _unlike(part, key, f"whole numbers from 1 to {_MOST[key]}", value)
        if key in _REAL and not all(_is_real(v) for v in entries):
            raise _unlike(part, key, "finite numbers", value)
        if key == "trained_betas" and not (
            isinstance(value, list | tuple) and all(map(_is_real, value))
        ):
            raise _unlike(part, key, "a list of finite numbers", value)


def _entries(value: Any) -> Iterator[Any]:
    """The entries of nested lists, or the one value."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _entries(one)
    else:
        yield value


def _is_real(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _unlike(part: str, key: str, wanted: str, came: Any) -> ValueError:
    return ValueError(
        f"`{key}` in the configuration of `{part}` must be {wanted}; got {str(came)[:80]!r}."
    )


def check_size(part: str, folder: Path, num_parameters: int) -> None:
    """Refuse a configuration of more parameters than the files of weights have bytes.

    Raises:
        ValueError: If it has.
    """
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if num_parameters > size:
        raise ValueError(
            f"the configuration of `{part}` has {num_parameters} parameters, more than the {size} bytes of "
            f"weights in {str(folder)!r} can hold; they do not belong together."
        )
