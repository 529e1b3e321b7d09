"""Models by name.

    "digits"           the shipped pair of small EDM2 networks on real handwritten digits
    "digits-text"      the shipped text-to-image model of the same digits, prompts as classes
    "edm2:COND,UNCOND" published EDM2 weights, official or converted files (`edm2.load`)
    "diffusers:PATH_OR_REPO", short "sd:..."   a pipeline of diffusers, of the families of
                       `pipelines.families`, with prompts or labels as classes; or a single safetensors
                       file, with `config=FOLDER`
    "module:function"  whatever `function()` of an importable module returns, if it is a denoiser

A pipeline in memory stands for itself (`pipelines.from_pipeline`). Names are resolved when `load` or
`study` is called; nothing is fetched from anywhere, but a pipeline with `fetch=True`.
"""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gmm_speciation.lookup import import_named, users_code
from gmm_speciation.progress import SILENT
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.devices import find_device, home, place
from model_bridges.studied import StudiedModel, study_denoiser

Say = Callable[[str], object]
ACCEPTED = (
    "'digits', 'digits-text', 'edm2:PATH[,PATH]', 'diffusers:PATH_OR_REPO' (or 'sd:...'), or "
    "'module:function' for a denoiser of your own"
)

SHIPPED = ("digits", "digits-text")  # they come with data


def load(
    name: Any,
    *,
    prompts: Sequence[str] | None = None,
    fetch: bool = False,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool = False,
    say: Say = SILENT.say,
    **options: Any,
) -> Denoiser:
    """The denoiser of this name, in EDM coordinates.

    Args:
        name: See the module; or a pipeline of diffusers.
        prompts: The classes of a text-to-image model; those of "digits-text" name its ten digits
            by default.
        fetch: Whether a pipeline may be fetched from the hub.
        device: "auto" takes the accelerator that is there, and leaves a pipeline in memory where it is; else
            "cpu", "cuda", "cuda:1", "mps".
        dtype: "auto", "float32", "bfloat16" or "float16", see `devices`; evidence is float64 with all.
        compile: Compile the network.
        say: Called with the line that says what "auto" took.
        **options: Of pipelines: `classes`, `class_names`, `config`, `variant`, `revision` and the others of
            `pipelines.load` and `pipelines.from_pipeline`.

    Raises:
        ValueError: If the name is unknown, or what it names is missing or no denoiser; if prompts
            are missing, or given to a model with its own classes; as `devices.place`.
    """
    find_device(device)  # refused before anything is read
    denoiser = _named(name, prompts, fetch, options)
    if device == "auto" and not isinstance(name, str):
        device = home(denoiser)
    return place(denoiser, device, dtype, compile, say)


def _named(
    name: Any, prompts: Sequence[str] | None, fetch: bool, options: dict[str, Any]
) -> Denoiser:
    if not isinstance(name, str):
        from model_bridges.pipelines import from_pipeline

        return from_pipeline(name, prompts, **options)
    kind, _, path = name.partition(":")
    if kind in ("sd", "diffusers"):
        from model_bridges.pipelines import load as load_pipeline

        return load_pipeline(path, prompts, local_files_only=not fetch, **options)
    if fetch or options:
        given = [*(["fetch"] if fetch else []), *options]
        raise ValueError(f"{name!r} is no pipeline, and takes no {', '.join(map(repr, given))}.")
    if name == "digits-text":
        from model_bridges.digits.text import load_denoiser

        return load_denoiser(prompts)
    if prompts:
        raise ValueError(f"{name!r} has its own classes and takes no prompts; got {prompts!r}.")
    if name == "digits":
        from model_bridges.digits import load_denoiser as load_digits

        return load_digits()
    if name.startswith("edm2:"):
        from model_bridges.edm2.weights import load_named

        return load_named(name.removeprefix("edm2:"))
    return _of_module(name)


def study(
    name: Any,
    *,
    data: str | Path | None = None,
    train_data: str | Path | None = None,
    split: bool = False,
    prompts: Sequence[str] | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool = False,
    say: Say = SILENT.say,
    **options: Any,
) -> StudiedModel:
    """The model of this name with its data, as every command takes it.

    Args:
        name, prompts, device, dtype, compile: As `load`.
        data, train_data, split: As `StudiedModel.with_data`; a model that comes with data needs none.
        say: Called with one line when a batch had to be split, and with what "auto" took when the first
            begins.
        **options: As `load`.

    Raises:
        ValueError: As `load` and `StudiedModel.with_data`.
    """
    notes: list[str] = []
    denoiser: Any = load(
        name,
        prompts=prompts,
        device=device,
        dtype=dtype,
        compile=compile,
        say=notes.append,
        **options,
    )
    known = isinstance(name, str)
    if known and name in SHIPPED and not prompts:
        from model_bridges.digits.studied import digits_model
        from model_bridges.digits.text.studied import text_model

        model = {"digits": digits_model, "digits-text": text_model}[name](denoiser, say)
    else:
        class_name = "prompt" if prompts else "class"
        title = name if known else type(name).__name__
        model = study_denoiser(denoiser, title, say, class_name=class_name)
    model.denoiser.note = "".join(notes)
    return model.with_data(data, train_data, split=split)


def _of_module(name: str) -> Denoiser:
    if ":" not in name and (near := difflib.get_close_matches(name, SHIPPED, n=1)):
        raise ValueError(f"`name` must be {ACCEPTED}; got {name!r}. Did you mean {near[0]!r}?")
    found = import_named(name, f"`name` must be {ACCEPTED}")
    denoiser = found
    if isinstance(found, type) or (callable(found) and not isinstance(found, Denoiser)):
        with users_code(name):
            denoiser = found()
    if not isinstance(denoiser, Denoiser):
        raise ValueError(
            f"{name!r} must return a denoiser with num_classes, event_shape, sigma_range, "
            f"provenance, has_unconditional, raw and coefficients; got {type(denoiser).__name__}. "
            "Wrap a network with `from_epsilon`, `from_velocity`, `from_x0`, `from_flow` or "
            "`NetworkDenoiser`."
        )
    return denoiser
