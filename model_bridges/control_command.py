"""`model-bridges guidance` and `model-bridges remove`: guidance measured on trained models."""

from pathlib import Path
from typing import Annotated, Any

from gmm_speciation import terminal

# isort: split
import typer

from gmm_speciation.terminal import Out, Quiet, Seed

Drawn = Annotated[int, typer.Option("--images", metavar="N", help="Images of each run.")]
SHIPPED = ("digits", "digits-text")
PACKAGES = ("torch", "diffusers", "transformers", "scikit-learn", "safetensors")


def remove(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="digits, digits-text, or module:function.")
    ],
    label: Annotated[
        int, typer.Option("--class", metavar="C", help="The class to remove, from 0.")
    ] = 7,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Of module:function: a folder of MNIST (IDX) or CIFAR-10 binary files.",
        ),
    ] = None,
    images: Drawn = 500,
    steps: Annotated[int, typer.Option(min=4, help="Of the sampler.")] = 32,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only this: NP, SLD, DNG, 'DNG, classes', 'DNG, published'. Repeat it."),
    ] = None,
    strengths: Annotated[
        str | None, typer.Option(metavar="S,…", help="Of every kind, instead of its own.")
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Draw without a class: negative prompting, safe latent and dynamic negative guidance compared."""
    terminal.use_float64()
    from gmm_speciation.reports import check_directory
    from model_bridges.control.removal import STRENGTHS, remove_class
    from model_bridges.control.removal_report import removal_record, removal_report, removal_rows

    if out is not None:
        check_directory(out)
    names = [
        terminal.pick(k, dict(zip(STRENGTHS, STRENGTHS, strict=True)), "kind") for k in kind or ()
    ]
    chosen: dict[str, Any] | None = None
    if names or strengths is not None:
        own = (
            None if strengths is None else sorted(terminal.numbers(strengths, "--strengths", float))
        )
        chosen = {name: own or STRENGTHS[name] for name in names or STRENGTHS}
    runs = 3 + sum(map(len, (chosen or STRENGTHS).values()))
    with terminal.progress(runs, quiet) as bar:
        bar.next("training the judge")
        judged = _judged(model, data)
        result = remove_class(
            judged, label, num_images=images, num_steps=steps, strengths=chosen, seed=seed,
            step=bar.next, progress=bar.part,
        )  # fmt: skip
    title = f"Class {label} removed from what {model} draws"
    headers, rows = removal_rows(result)
    narrow = [[f"{row[0]}, {row[1]}" if row[1] != "—" else row[0], *row[2:5]] for row in rows]
    _show(title, ["kind, strength", *headers[2:5]], narrow, result.checks, quiet)
    if out is not None:
        record = removal_record(result)
        arguments = {"model": model, "class": label, "data": data, "images": images, "steps": steps}
        record["provenance"] = _provenance(seed, arguments | {"kinds": chosen})
        removal_report(result, title).write(out, record)
        terminal.show(f"Report: {Path(out) / 'report.html'}", quiet)


def _judged(model: str, data: Path | None) -> Any:
    from model_bridges.control.judged import digits_model, own_model

    if model in SHIPPED:
        if data is not None:
            raise ValueError(f"{model} brings its own data; `--data` goes with module:function.")
        return digits_model(model)
    if data is None:
        raise ValueError(
            f"{model!r} needs images to be judged on: `--data DIR` with MNIST (IDX) or CIFAR-10 binary "
            f"files. The shipped models, {' and '.join(SHIPPED)}, bring their own."
        )
    return own_model(model, data)


def _show(title: str, headers: Any, rows: Any, checks: Any, quiet: bool) -> None:
    from model_bridges.reports import check_rows

    for (head, body), name in (((headers, rows), title), (check_rows(checks), "checks")):
        # A terminal is narrow: no room around ±.
        tight = [[cell.replace(" ± ", "±") for cell in row] for row in body]
        terminal.show(terminal.table(head, tight, title=name), quiet)


def _provenance(seed: int, arguments: dict[str, Any]) -> Any:
    from gmm_speciation.records import provenance

    return provenance(terminal.command_line(), seed, arguments, packages=PACKAGES)
