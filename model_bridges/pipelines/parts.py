"""The parts of a pipeline, read one by one from a folder or the Hugging Face hub.

A pipeline is a folder with `model_index.json`, which names its class, and a folder for each part. Weights
come from safetensors only, the classes of parts are those of `families` and none of a file's choosing, and
no code of a repository is run. diffusers and transformers are imported when a part is read: they take
seconds.
"""

import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from gmm_speciation.reading import read_json
from model_bridges.checkpoints.errors import MissingExtraError
from model_bridges.checkpoints.weights import check_weights
from model_bridges.pipelines.configurations import check_configuration, check_files, check_size
from model_bridges.pipelines.families import Family
from model_bridges.pipelines.networks import check_network, without_bar
from model_bridges.pipelines.single_files import SingleFile, read_shapes, repository_of

LICENCE_NOTICE = (
    "{name}: these weights have a licence of their own, on their model card; Stable Diffusion's "
    "(CreativeML OpenRAIL-M) restricts what they may be used for."
)
_VARIANT = re.compile(r"(?:diffusion_pytorch_model|model)\.([^.]+?)(?:-\d+-of-\d+)?\.safetensors$")
SINGLE_FILE_REMEDY = (
    "Give `config`, the folder of a pipeline of its kind in the layout of diffusers, which needs no weights "
    "(`--config FOLDER`), or `fetch=True` (`--fetch`) to let diffusers fetch the one that it takes it for."
)
OTHER_FILES = (".ckpt", ".pt", ".pth", ".bin", ".gguf")
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
        file: A single file of weights, whose parts count before those of `name`.
    """

    name: str
    revision: str | None = None
    local_files_only: bool = True
    variant: str | None = None
    file: SingleFile | None = None

    @property
    def is_folder(self) -> bool:
        return Path(self.name).is_dir()

    @property
    def title(self) -> str:
        """In words."""
        name = f"{self.name}@{self.revision}" if self.revision else self.name
        return name if self.file is None else f"{self.file.path} with {name}"

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
        if part == "scheduler" and self.file is not None:
            self.file.check_scheduler(loaded)
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
        with without_bar(logging):
            return self._network(kind, part, torch.float32).float()

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
        if self.file is not None and self.file.holds(part, kind.__name__):
            with self._reading(part):
                if kind.__module__.startswith("diffusers"):
                    network = self.file.model(part, kind, dtype)
                else:
                    network = self.file.text_encoder(part, self.index()[0])
        else:
            network = self._of_layout(kind, part, dtype)
        check_weights(f"{self.title}, `{part}`", network.named_parameters())
        return network.eval().requires_grad_(False)

    def _of_layout(self, kind: Any, part: str, dtype: torch.dtype) -> Any:
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
        # Layers that the configuration does not have would be left out with a log line, too.
        if kind.__module__.startswith("diffusers") and found.get("unexpected_keys"):
            more = sorted(map(str, found["unexpected_keys"]))
            raise ValueError(
                f"{self.name}/{part} must hold the tensors of a {kind.__name__} with its config.json and "
                f"no others; it has {len(more)} more, {more[0]} first. Its config.json is of another network."
            )
        return network

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
        except Exception as error:  # diffusers and transformers say many things of a damaged file
            remedy = (
                "Give a folder in the layout of diffusers, with safetensors."
                if self.is_folder or self.file is not None or not self.local_files_only
                else "It is neither a folder nor in the local cache; pass `fetch=True` (`--fetch`) "
                "(`local_files_only=False` to `pipelines.load`) to fetch it from the hub, or fetch it "
                "first with `hf download`."
            )
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{self.title}: could not read `{part}` ({reason}). {remedy}"
            ) from error


def open_source(
    name: str,
    *,
    config: str | Path | None = None,
    revision: str | None = None,
    local_files_only: bool = True,
    variant: str | None = None,
) -> Source:
    """A folder, a repository, or a single file with the folder or repository of its configuration.

    Args:
        name: One of the three.
        config: Of a single file; without one diffusers says which repository, where it may be fetched.
        revision, local_files_only, variant: As `Source`; of a single file's configuration.

    Raises:
        ValueError: If a single file is a pickle or is not there, if its configuration is not, or one is given
            to what is no single file.
    """
    single = not Path(name).is_dir() and name.endswith((".safetensors", *OTHER_FILES))
    if not single:
        if config is not None:
            raise ValueError(
                f"`config` goes with a single file of weights; {name!r} has its own. Leave it out."
            )
        return Source(name, revision, local_files_only, variant)
    if name.endswith(OTHER_FILES):
        raise ValueError(
            f"{name!r} is no safetensors file, and pickles are not read. Convert it where you trust it: "
            "`StableDiffusionPipeline.from_single_file(path).save_pretrained(folder)`, with its own class; "
            "give the folder, or the pipeline itself to `from_pipeline`."
        )
    shapes = read_shapes(Path(name))
    if config is None and local_files_only:
        raise ValueError(f"{name!r} does not say what its networks are. {SINGLE_FILE_REMEDY}")
    where = str(repository_of(Path(name), shapes) if config is None else config)
    folder = Path(where)
    if not folder.is_dir():
        try:
            from huggingface_hub import snapshot_download

            found = snapshot_download(
                where,
                revision=revision,
                local_files_only=local_files_only,
                allow_patterns=["*.json", "*.txt", "*.model"],
            )
        except Exception as error:  # the hub's client says many things
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"`config` must be a folder, or a repository that is on this machine or is fetched; could "
                f"not read {where!r} ({reason}). {SINGLE_FILE_REMEDY}"
            ) from error
        folder = Path(found)
    return Source(
        where, revision, local_files_only, variant, SingleFile(Path(name), folder, shapes)
    )
