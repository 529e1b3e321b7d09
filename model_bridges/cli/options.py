"""Options that commands share: what is studied, on which data; how entropies are measured.

A dataclass holds them, once for all commands; `with_options` gives a command the options of one besides
its own, and hands them over as one value.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from gmm_speciation.reporting import terminal

# isort: split
import typer

from gmm_speciation.reporting.terminal import Quiet, Seed
from model_bridges.cli.cluster import spread

MODEL = "digits, digits-text, edm2:COND,UNCOND, diffusers:PATH_OR_REPO, or module:function."
MOST = 2**31 - 1  # of what is counted; beyond 64 bits torch fails in its own words
PACKAGES = ("torch", "diffusers", "transformers", "scikit-learn", "safetensors")  # in a record
PATHS = "Class folders of pictures, MNIST or CIFAR-10 binary files, or an .npz"


@dataclass(frozen=True, kw_only=True)
class Study:
    """The model and its data."""

    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)]
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help=f"{PATHS}; of the digits also held-out or train."),
    ] = None
    train_data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="What is fitted; else the data's own training part, or half."
        ),
    ] = None
    generate: Annotated[
        int | None,
        typer.Option(metavar="N", help="Average over N samples of the model's own instead."),
    ] = None
    class_prior: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="Of the classes, such as 0.2,0.3,0.5, or `data`, the shares of its labels; by default "
            "the model's own, else equal.",
        ),
    ] = None
    prompt: Annotated[
        list[str] | None, typer.Option(help="Class of a text-to-image model. Repeat it.")
    ] = None
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Of a pipeline in a single file: one of its kind, for what it is.",
        ),
    ] = None
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a pipeline's weights, such as fp16.")
    ] = None
    revision: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Of a pipeline on the hub; pin it.")
    ] = None
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch a pipeline that is not on this machine.")
    ] = False
    folder: Annotated[
        Path | None,
        # Launchers read `--run` as an abbreviation of an option of theirs.
        typer.Option(
            "--folder", "--run", metavar="DIR", help="Of a long run: killed, it continues there."
        ),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of a Dask scheduler, such as tcp://host:8786: its workers share the run in --folder.",
        ),
    ] = None
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1, ... or mps; auto takes an accelerator.")
    ] = "auto"
    dtype: Annotated[
        str, typer.Option(help="Of the network: auto, float32, bfloat16 or float16.")
    ] = "auto"
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network.")] = False
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say in ten seconds what it will take here, and stop."),
    ] = False
    devices: Annotated[
        int, typer.Option(metavar="D", min=1, help="Of the plan: on D devices like this one.")
    ] = 1
    seed: Seed = 0
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class Request(Study):
    """What is measured of it."""

    partition: Annotated[
        list[str] | None,
        typer.Option(help="Grouping: a known name, groups.json, or 'a, b | c'. Repeat it."),
    ] = None
    images: Annotated[int | None, typer.Option(metavar="N", help="At most N images.")] = None
    levels: Annotated[
        int | None,
        typer.Option(
            help="Noise levels, even in log sigma; by default as the command places them."
        ),
    ] = None
    paths: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Noise paths of each image.")
    ] = None
    max_batch: Annotated[
        int, typer.Option(min=1, max=MOST, help="Largest batch for the network.")
    ] = 1024
    max_classes: Annotated[
        int, typer.Option(min=2, help="Where more classes are named, groups are sampled.")
    ] = 32


def with_options(
    kind: type, check: Callable[..., Any], load: Callable[..., object]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As the terminal's; with `--cluster` the work is done when the command begins.

    Args:
        kind: The dataclass.
        check: Called with the command's arguments before all else; gives the options, completed, and raises
            what they alone tell.
        load: Called with the same before a cluster is connected; raises what the model tells.
    """

    def prepare(options: Any, **values: Any) -> Any:
        options = check(options, **values)
        if options.cluster is None:
            return options
        workers = spread(
            options.cluster,
            options.folder,
            lambda: options.plan or load(options, **values),
            plan=options.plan,
            quiet=options.quiet,
        )
        return replace(options, cluster=None, devices=workers if options.plan else options.devices)

    return terminal.with_options(kind, prepare)
