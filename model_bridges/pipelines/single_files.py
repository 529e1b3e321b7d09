"""The weights of a whole pipeline in one safetensors file, under the names of its authors' own code.

Such a file says the names and shapes of its tensors and no more. What its networks are, the schedule they
were trained with and how text becomes tokens is read from a pipeline in the layout of diffusers, a folder
that needs no weights; diffusers renames the tensors (`from_single_file`). Where a file has raw weights and
their moving average both, the raw ones are read, as diffusers does.

What the file has counts before what the folder has. The numbers of a network must be as many in the file as
in the configuration: the renaming itself drops what it does not know, such as the scales of a quantised file
or a further block, and says so in a log line alone.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from gmm_speciation.reading import is_regular
from model_bridges.checkpoints.errors import MissingExtraError
from model_bridges.pipelines.networks import without_bar

# Where a file has what, by the part's name, or the class of a text encoder that others call otherwise.
_NETWORK = "model.diffusion_model."
_PREFIXES: dict[str, tuple[str, ...]] = {
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
    "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g."),
    "T5EncoderModel": ("text_encoders.t5xxl.",),
}
_ELSEWHERE = tuple(prefix for prefixes in _PREFIXES.values() for prefix in prefixes)
# Tensors without numbers by which fine-tuned files say what their schedule must say, too.
_MARKERS = {
    "v_pred": ("prediction_type", "v_prediction"),
    "ztsnr": ("rescale_betas_zero_snr", True),
}


def read_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Shapes of a file's tensors, from its header alone.

    Raises:
        ValueError: If there is no such file, or it is no safetensors file.
    """
    if not is_regular(path):
        raise ValueError(
            f"{str(path)!r} must be a file of weights; there is none. One of the hub is fetched by "
            "`hf download OWNER/NAME FILE` first."
        )
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{str(path)!r} must be a safetensors file ({error}).") from error


def repository_of(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Where diffusers has the configuration of such a file, told by names and shapes.

    Raises:
        ValueError: If these do not tell what its network predicts.
    """
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    empty = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    name = str(fetch_diffusers_config(empty)["pretrained_model_name_or_path"])
    if "stable-diffusion-2" in name:
        raise ValueError(
            f"{str(path)!r} is a Stable Diffusion 2, and these predict v or the noise, which their files do "
            "not say. Give `config`, a folder or a repository (`--config`), of the one that it is."
        )
    return name


@final
@dataclass(frozen=True)
class SingleFile:
    """A file of weights and the folder that says what they are.

    Args:
        path: A safetensors file.
        folder: A pipeline in the layout of diffusers on this machine, weights or none in it.
        shapes: Of the file's tensors.
    """

    path: Path
    folder: Path
    shapes: Mapping[str, tuple[int, ...]]

    def holds(self, part: str, kind: str) -> bool:
        """Whether it has the autoencoder, a text encoder, or the network, of this class."""
        prefixes = _PREFIXES.get(kind) or _PREFIXES.get(part)
        return prefixes is None or any(key.startswith(prefixes) for key in self.shapes)

    def check_scheduler(self, settings: Mapping[str, Any]) -> None:
        """Refuse a schedule other than the file says its weights were trained with.

        Raises:
            ValueError: If it is.
        """
        for marker, (key, wanted) in _MARKERS.items():
            if marker in self.shapes and settings.get(key) != wanted:
                raise ValueError(
                    f"{self.path} says by its tensor {marker!r} that its scheduler has {key} = {wanted!r}; "
                    f"that of `config` has {settings.get(key)!r}. Change it in a copy of the folder."
                )

    def model(self, part: str, kind: Any, dtype: torch.dtype) -> Any:
        """A network or autoencoder of this class of diffusers.

        Raises:
            ValueError: If its numbers are not as many as the configuration's, or a tensor is missing.
            MissingExtraError: If accelerate is not installed.
        """
        _need_accelerate()
        with torch.device("meta"):
            empty = kind.from_config(kind.load_config(self.folder, subfolder=part))
        wanted = sum(value.numel() for value in empty.state_dict().values())
        held = sum(math.prod(self.shapes[key]) for key in self._keys(part))
        if held != wanted:
            raise ValueError(
                f"the file has {held} numbers for it, and a {kind.__name__} so configured has {wanted}: "
                "they do not belong together, or the file is quantised, with scales of its own, and not read"
            )
        try:
            found = kind.from_single_file(
                str(self.path),
                config=str(self.folder),
                subfolder=part,
                torch_dtype=dtype,
                local_files_only=True,
            )
        except NotImplementedError as error:  # of tensors without memory
            raise ValueError("the file must hold every tensor; some are missing") from error
        return _whole(found)

    def text_encoder(self, part: str, pipeline: str) -> Any:
        """A text encoder in float32.

        Args:
            part: Its name in the pipeline.
            pipeline: The pipeline's class in diffusers.

        Raises:
            ValueError: If a tensor is missing.
            MissingExtraError: If accelerate is not installed.
        """
        import diffusers
        from diffusers.utils import logging

        _need_accelerate()
        made: Any = getattr(diffusers, pipeline)
        taken = inspect.signature(made.__init__).parameters
        absent: dict[str, Any] = {
            name: None
            for name, value in taken.items()
            if value.default in (value.empty, None) and name not in ("self", part)
        }
        if "requires_safety_checker" in taken:
            absent["requires_safety_checker"] = False
        with without_bar(logging):
            found = made.from_single_file(
                str(self.path),
                config=str(self.folder),
                torch_dtype=torch.float32,
                local_files_only=True,
                **absent,
            )
        return _whole(getattr(found, part))

    def _keys(self, part: str) -> list[str]:
        if part in _PREFIXES:  # losses were trained with the autoencoder and are no part of it
            return [
                key
                for key in self.shapes
                if key.startswith(_PREFIXES[part]) and ".loss." not in key
            ]
        named = [key for key in self.shapes if key.startswith(_NETWORK)]
        return named or [key for key in self.shapes if not key.startswith(_ELSEWHERE)]


def _whole(model: torch.nn.Module) -> Any:
    """The model, none of whose tensors was left out: those have no memory."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    lacking = sorted(name for name, value in tensors if value.is_meta)
    if lacking:
        raise ValueError(
            f"the file must hold every tensor; {len(lacking)} are missing, {lacking[0]} first"
        )
    return model


def _need_accelerate() -> None:
    from diffusers.utils import is_accelerate_available

    if not is_accelerate_available():  # without it missing tensors cannot be told from read ones
        raise MissingExtraError("single files need accelerate; install it: pip install accelerate")
