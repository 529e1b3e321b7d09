"""The parts of a latent diffusion pipeline, read one by one from a folder or the Hugging Face hub.

A pipeline is a folder with `unet/`, `vae/`, `text_encoder/`, `tokenizer/` and `scheduler/`. Weights come
from safetensors only, classes are fixed here and none of a file's choosing, and no code of a repository is
run. diffusers and transformers are imported when a part is read: they take seconds.
"""

import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from model_bridges.checkpoints.errors import MissingExtraError
from model_bridges.pipelines.configurations import check_configuration, check_files, check_size

LICENCE_NOTICE = (
    "{name}: these weights have a licence of their own, on their model card; Stable Diffusion's "
    "(CreativeML OpenRAIL-M) restricts what they may be used for."
)
# Inputs that a network of text and time does not have: other pipelines.
FOREIGN = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
_announced: set[str] = set()


@final
@dataclass(frozen=True)
class Source:
    """Where the parts are.

    Args:
        name: A folder, or `owner/name` on the hub.
        revision: Commit, tag or branch on the hub.
        local_files_only: Use what is on this machine, fetch nothing.
    """

    name: str
    revision: str | None = None
    local_files_only: bool = True

    @property
    def is_folder(self) -> bool:
        return Path(self.name).is_dir()

    @property
    def _options(self) -> dict[str, Any]:
        return {"revision": self.revision, "local_files_only": self.local_files_only}

    def announce_licence(self) -> None:
        """Say once a process, on standard error, that weights of the hub have a licence."""
        if not self.is_folder and self.name not in _announced:
            _announced.add(self.name)
            print(LICENCE_NOTICE.format(name=self.name), file=sys.stderr)

    def settings(self, part: str) -> dict[str, Any]:
        """The configuration of a part: the scheduler, the UNet or the autoencoder.

        Raises:
            ValueError: If it is missing or damaged.
        """
        with self._reading(part):
            from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

            # The class says no more than the file's name.
            kinds = {"scheduler": DDPMScheduler, "unet": UNet2DConditionModel, "vae": AutoencoderKL}
            loaded: Any = kinds[part].load_config(self.name, subfolder=part, **self._options)
        check_configuration(part, loaded)
        return dict(loaded)

    def unet(self, dtype: torch.dtype) -> Any:
        """The `UNet2DConditionModel`, in evaluation mode, without gradients.

        Raises:
            ValueError: If it is missing, damaged, without safetensors, or of another kind of pipeline.
        """
        check_unet(self.settings("unet"))
        from diffusers import UNet2DConditionModel

        unet = self._network(UNet2DConditionModel, "unet", dtype)
        # Channels last is the faster layout of convolutions, on CPUs and on GPUs in half precision.
        return unet.to(memory_format=torch.channels_last)

    def autoencoder(self) -> Any:
        """The `AutoencoderKL` in float32; half precision overflows in some of them.

        Raises:
            ValueError: If it is missing, damaged or without safetensors.
        """
        with self._reading("vae"):
            from diffusers import AutoencoderKL
        return self._network(AutoencoderKL, "vae", torch.float32)

    def text_encoder(self) -> Any:
        """The `CLIPTextModel` in float32.

        Raises:
            ValueError: If it is missing, damaged or without safetensors.
        """
        with self._reading("text_encoder"):
            from transformers import CLIPTextConfig, CLIPTextModel
            from transformers.utils import logging

            settings, _ = CLIPTextConfig.get_config_dict(
                self.name, subfolder="text_encoder", **self._options
            )
        check_configuration("text_encoder", settings)
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # one of its own, for a second
        try:
            encoder = self._network(CLIPTextModel, "text_encoder", torch.float32)
        finally:
            if shown:
                logging.enable_progress_bar()
        return encoder.float()

    def tokenizer(self) -> Any:
        """The `CLIPTokenizer`.

        Raises:
            ValueError: If it is missing or damaged.
        """
        with self._reading("tokenizer"):
            from transformers import CLIPTokenizer

            tokenizer = CLIPTokenizer.from_pretrained(
                self.name, subfolder="tokenizer", **self._options
            )
        # transformers 5 makes one of two special tokens, silently, where it finds no file.
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
            raise ValueError(
                f"{self.name}/tokenizer must hold a vocabulary; none was found. "
                "It needs tokenizer.json, or vocab.json and merges.txt."
            )
        return tokenizer

    def _network(self, kind: Any, part: str, dtype: torch.dtype) -> Any:
        options: dict[str, Any] = {"subfolder": part, "use_safetensors": True, **self._options}
        if kind.__module__.startswith("diffusers"):
            from diffusers.utils import is_accelerate_available

            options |= {"low_cpu_mem_usage": is_accelerate_available(), "torch_dtype": dtype}
        with self._reading(part):
            if self.is_folder and kind.__module__.startswith("diffusers"):
                # Without memory, to see how large it would be.
                with torch.device("meta"):
                    empty = kind.from_config(kind.load_config(self.name, subfolder=part))
                check_size(part, Path(self.name, part), sum(p.numel() for p in empty.parameters()))
            network, found = kind.from_pretrained(self.name, output_loading_info=True, **options)
        # A tensor that is not in the file would keep its random start, with no more than a log line.
        if found["missing_keys"] or found.get("mismatched_keys"):
            lacking = sorted(map(str, [*found["missing_keys"], *found.get("mismatched_keys", [])]))
            raise ValueError(
                f"{self.name}/{part} must hold every tensor of a {kind.__name__} with its "
                f"config.json; {len(lacking)} are missing or of another shape, {lacking[0]} first."
            )
        check_weights(f"{self.name}/{part}", network)
        return network.eval().requires_grad_(False)

    @contextmanager
    def _reading(self, part: str) -> Any:
        try:
            if self.is_folder:
                check_files(Path(self.name, part))
            yield
        except ImportError as error:
            raise MissingExtraError(
                f"pipelines need diffusers and transformers ({error}); install the extra: "
                "pip install 'gmm-speciation[bridge]'"
            ) from error
        except (
            Exception
        ) as error:  # a damaged file makes diffusers and transformers say many things
            remedy = (
                "Give a folder in the layout of diffusers, with safetensors."
                if self.is_folder or not self.local_files_only
                else "It is neither a folder nor in the local cache; pass `local_files_only=False` "
                "to fetch it from the hub, or fetch it first with `hf download`."
            )
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{self.name}: could not read `{part}` ({reason}). {remedy}"
            ) from error


def check_unet(settings: Mapping[str, Any]) -> None:
    """Refuse the networks of other pipelines.

    Args:
        settings: Contents of the UNet's `config.json`.

    Raises:
        ValueError: If it is no network of latents, time and text alone.
    """
    kind = settings.get("_class_name")
    if kind != "UNet2DConditionModel":
        raise ValueError(f"`unet` must be a UNet2DConditionModel; got {kind}.")
    foreign = [name for name in FOREIGN if settings.get(name) is not None]
    if foreign:
        raise ValueError(
            f"`unet` must take latents, a step and text only; this one has {', '.join(foreign)}: "
            "another kind of pipeline. Wrap it yourself with `from_epsilon` or `from_velocity`."
        )
    channels = settings.get("in_channels", 4), settings.get("out_channels", 4)
    if channels[0] != channels[1]:
        raise ValueError(
            f"`unet` must return what it takes; got {channels[0]} channels in and {channels[1]} "
            "out, as networks for inpainting, depth or upscaling have."
        )
    levels = len(settings.get("block_out_channels") or ())
    size = settings.get("sample_size")
    sizes = size if isinstance(size, list | tuple) else (size, size)
    fits = [isinstance(n, int) and n >= 2 ** max(levels - 1, 0) for n in sizes]
    if not (len(fits) == 2 and all(fits)):
        raise ValueError(
            f"`sample_size` in the UNet's config.json must be a whole number, or two, of at least "
            f"{2 ** max(levels - 1, 0)} for its {levels} levels; got {size!r}."
        )


def check_weights(name: str, network: torch.nn.Module) -> None:
    """Refuse weights that are damaged, or integers of a quantised file read as if they were the weights.

    Raises:
        ValueError: If a tensor has values that are not finite, or a matrix whole numbers only; if all
            matrices are zero.
    """
    matrices = [(key, value) for key, value in network.named_parameters() if value.ndim > 1]
    for key, value in network.named_parameters():
        if not value.isfinite().all():
            raise ValueError(
                f"{name} must hold finite weights; {key} has others. The file is damaged."
            )
    for key, value in matrices:
        if value.any() and not (value != value.round()).any():
            raise ValueError(
                f"{name} must hold floating weights; {key} has whole numbers only, as a quantised file "
                "has. Give the weights themselves."
            )
    if not any(value.any() for _, value in matrices):
        raise ValueError(
            f"{name}: all its matrices are zero. The file is damaged, or was never trained."
        )
