"""The parts of a pipeline, read one by one from a folder or the Hugging Face hub.

A pipeline is a folder with `model_index.json`, which names its class, and a folder for each part. Weights
come from safetensors only, the classes of parts are those of `families` and none of a file's choosing, and
no code of a repository is run. diffusers and transformers are imported when a part is read: they take
seconds.
"""

import re
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from gmm_speciation.reading import read_json
from model_bridges.checkpoints.errors import MissingExtraError
from model_bridges.pipelines.configurations import check_configuration, check_files, check_size
from model_bridges.pipelines.families import Family

LICENCE_NOTICE = (
    "{name}: these weights have a licence of their own, on their model card; Stable Diffusion's "
    "(CreativeML OpenRAIL-M) restricts what they may be used for."
)
# Inputs that a network of text and time does not have: other pipelines.
FOREIGN = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
_VARIANT = re.compile(r"(?:diffusion_pytorch_model|model)\.([^.]+?)(?:-\d+-of-\d+)?\.safetensors$")
SINGLE_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
_announced: set[str] = set()


@final
@dataclass(frozen=True)
class Source:
    """Where the parts are.

    Args:
        name: A folder, or `owner/name` on the hub.
        revision: Commit, tag or branch on the hub.
        local_files_only: Use what is on this machine, fetch nothing.
        variant: Of the files of weights, such as "fp16"; in a folder, of those parts that have it.

    Raises:
        ValueError: If it is a single file of weights.
    """

    name: str
    revision: str | None = None
    local_files_only: bool = True
    variant: str | None = None

    def __post_init__(self) -> None:
        if self.name.endswith(SINGLE_FILES) and not self.is_folder:
            raise ValueError(
                f"{self.name!r} is a single file of weights, which does not say what its networks are. "
                "Convert it once: `StableDiffusionPipeline.from_single_file(path).save_pretrained(folder)`, "
                "with the class that it is of; give the folder, or the pipeline itself to `from_pipeline`."
            )

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

    def index(self) -> tuple[str, dict[str, Any]]:
        """Class of the pipeline and the contents of `model_index.json`; without one, Stable Diffusion.

        Raises:
            ValueError: If it is damaged.
        """
        path = Path(self.name, "model_index.json")
        if self.is_folder and not path.exists():
            return "StableDiffusionPipeline", {}
        with self._reading("model_index.json"):
            from diffusers import DiffusionPipeline

            found = read_json(path) if self.is_folder else None
            found = found or DiffusionPipeline.load_config(self.name, **self._options)
        if not isinstance(found, dict) or not isinstance(found.get("_class_name"), str):
            raise ValueError(
                f"{self.name}/model_index.json must name the pipeline's class as `_class_name`."
            )
        return found["_class_name"], found

    def settings(self, part: str) -> dict[str, Any]:
        """The configuration of a part: the scheduler, or a network of diffusers.

        Raises:
            ValueError: If it is missing or damaged.
        """
        with self._reading(part):
            from diffusers import DDPMScheduler, UNet2DModel

            # The class says no more than the file's name.
            kind: Any = DDPMScheduler if part == "scheduler" else UNet2DModel
            loaded = kind.load_config(self.name, subfolder=part, **self._options)
        check_configuration(part, loaded)
        return dict(loaded)

    def network(self, family: Family, dtype: torch.dtype) -> Any:
        """What a family evaluates, in evaluation mode, without gradients.

        Raises:
            ValueError: If it is missing, damaged, without safetensors, or of another kind of pipeline.
        """
        part, kind = family.network, family.kinds[family.network]
        settings = self.settings(part)
        if settings.get("_class_name") not in (kind, *family.former):
            raise ValueError(f"`{part}` must be a {kind}; got {settings.get('_class_name')}.")
        check_network(family, settings)
        import diffusers

        network = self._network(getattr(diffusers, kind), part, dtype)
        # Channels last is the faster layout of convolutions, on CPUs and on GPUs in half precision.
        return network.to(memory_format=torch.channels_last) if part == "unet" else network

    def autoencoder(self) -> Any:
        """The `AutoencoderKL` in float32; half precision overflows in some of them.

        Raises:
            ValueError: If it is missing, damaged or without safetensors.
        """
        with self._reading("vae"):
            from diffusers import AutoencoderKL
        return self._network(AutoencoderKL, "vae", torch.float32)

    def text_part(self, part: str, kind: str, device: torch.device | str) -> Any:
        """A tokenizer, or a text encoder in float32.

        Args:
            part: Its folder.
            kind: Its class in transformers.
            device: Where an encoder computes.

        Raises:
            ValueError: If it is missing, damaged or without safetensors.
        """
        with self._reading(part):
            import transformers

            made = getattr(transformers, kind)
        if part.startswith("tokenizer"):
            return self._tokenizer(part, made)
        return self._text_encoder(part, made).to(device)

    def _text_encoder(self, part: str, kind: Any) -> Any:
        with self._reading(part):
            from transformers.utils import logging

            settings, _ = kind.config_class.get_config_dict(
                self.name, subfolder=part, **self._options
            )
        check_configuration(part, settings)
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # one of its own, for a second
        try:
            encoder = self._network(kind, part, torch.float32)
        finally:
            if shown:
                logging.enable_progress_bar()
        return encoder.float()

    def _tokenizer(self, part: str, kind: Any) -> Any:
        with self._reading(part):
            tokenizer = kind.from_pretrained(self.name, subfolder=part, **self._options)
        # transformers 5 makes one of two special tokens, silently, where it finds no file.
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
            raise ValueError(
                f"{self.name}/{part} must hold a vocabulary; none was found. "
                "It needs tokenizer.json, or vocab.json and merges.txt."
            )
        return tokenizer

    def _network(self, kind: Any, part: str, dtype: torch.dtype) -> Any:
        options: dict[str, Any] = {"subfolder": part, "use_safetensors": True, **self._options}
        options["variant"] = self._variant(part)
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

    def _variant(self, part: str) -> str | None:
        """The variant to ask for: in a folder, none where the part has only plain files.

        Raises:
            ValueError: If a folder has files of other variants only.
        """
        if not self.is_folder:
            return self.variant
        names = [path.name for path in Path(self.name, part).glob("*.safetensors")]
        if self.variant and any(f".{self.variant}." in name for name in names):
            return self.variant
        variants = [found[1] for name in names if (found := _VARIANT.match(name))]
        if variants and len(variants) == len(names):
            raise ValueError(
                f"{self.name}/{part} has only the variants {sorted(set(variants))}; pass `variant`, e.g. "
                f"`variant={variants[0]!r}`, or `--variant {variants[0]}`."
            )
        return None

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
                else "It is neither a folder nor in the local cache; pass `fetch=True` (`--fetch`) "
                "(`local_files_only=False` to `pipelines.load`) to fetch it from the hub, or fetch it "
                "first with `hf download`."
            )
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{self.name}: could not read `{part}` ({reason}). {remedy}"
            ) from error


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
