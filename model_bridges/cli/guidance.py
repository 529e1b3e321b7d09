"""`model-bridges guidance` and `model-bridges remove`: guidance measured on trained models."""

from pathlib import Path
from typing import Annotated, Any

from gmm_speciation.reporting import terminal

# isort: split
import typer

from gmm_speciation.lookup import pick
from gmm_speciation.reporting.terminal import Out, Quiet, Seed

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="digits, digits-text, or module:function.")
]
ImageFiles = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Of module:function: a folder of MNIST (IDX) or CIFAR-10 binary files."
    ),
]
# At least two images in each of the twenty batches that errors come from.
Drawn = Annotated[int, typer.Option("--images", metavar="N", min=40, help="Images of each run.")]
SHIPPED = ("digits", "digits-text")
PACKAGES = ("torch", "diffusers", "transformers", "scikit-learn", "safetensors")


def remove(
    model: Model,
    label: Annotated[
        int, typer.Option("--class", metavar="C", min=0, max=9, help="The class to remove.")
    ] = 7,
    data: ImageFiles = None,
    images: Drawn = 500,
    steps: Annotated[int, typer.Option(min=4, help="Of the sampler.")] = 32,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only this: NP, SLD, DNG, 'DNG, classes', 'DNG, published'. Repeat it."),
    ] = None,
    strengths: Annotated[
        str | None,
        typer.Option(metavar="S,…", help="Of every kind, and no others; its own, doubled, else."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keeps every run's images; goes on where it stopped."),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Draw without a class: negative prompting, safe latent and dynamic negative guidance compared."""
    terminal.use_float64()
    from gmm_speciation.reporting.report import check_directory
    from model_bridges.control.removal import STRENGTHS, remove_class
    from model_bridges.control.removal_report import (
        area_rows,
        removal_record,
        removal_report,
        removal_rows,
    )

    for directory in (out, folder):
        if directory is not None:
            check_directory(directory)
    names = [pick(k, dict(zip(STRENGTHS, STRENGTHS, strict=True)), "kind") for k in kind or ()]
    chosen: dict[str, Any] | None = None
    if names or strengths is not None:
        own = (
            None if strengths is None else sorted(terminal.numbers(strengths, "--strengths", float))
        )
        chosen = dict.fromkeys(names or STRENGTHS, own)
    runs = 3 + sum(len(own or STRENGTHS[name]) for name, own in (chosen or STRENGTHS).items())
    with terminal.progress(runs, quiet) as bar:
        bar.step("training the judge")
        judged = _judged(model, data)
        result = remove_class(
            judged,
            label,
            num_images=images,
            num_steps=steps,
            strengths=chosen,
            seed=seed,
            folder=folder,
            progress=bar,
        )
    title = f"Class {label} removed from what {model} draws"
    headers, rows = removal_rows(result)
    narrow = [[f"{row[0]}, {row[1]}" if row[1] != "—" else row[0], *row[2:5]] for row in rows]
    _show(title, ["kind, strength", *headers[2:5]], narrow, [], quiet)
    _show("area between fronts: mean over log price", *area_rows(result), result.checks, quiet)
    if out is not None:
        record = removal_record(result)
        arguments = {"model": model, "class": label, "data": data, "images": images, "steps": steps}
        record["provenance"] = _provenance(seed, arguments | {"kinds": chosen, "folder": folder})
        removal_report(result, title).write(out, record)
        terminal.show(f"Report: {Path(out) / 'report.html'}", quiet)


def guidance(
    model: Model,
    section: Annotated[
        list[str] | None, typer.Option(help="Only this: information, intervals, grids. Repeat it.")
    ] = None,
    data: ImageFiles = None,
    mass: Annotated[float, typer.Option(help="Share of the information in the interval.")] = 0.8,
    scale: Annotated[
        float, typer.Option(help="Guidance scale of the intervals, above 1, which is unguided.")
    ] = 2.0,
    images: Drawn = 500,
    paths: Annotated[int, typer.Option(min=20, help="Trajectories of each tracked run.")] = 150,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """What guidance does: when it decides, the interval of the entropy curve, grids in information."""
    terminal.use_float64()
    from gmm_speciation.reporting.report import check_directory
    from model_bridges.control.report import (
        draw_rows,
        guidance_record,
        guidance_report,
        information_rows,
    )
    from model_bridges.control.study import SECTIONS, check_mass, study_guidance

    if out is not None:
        check_directory(out)
    known = dict.fromkeys(SECTIONS, "")
    for name in section or ():
        pick(name, known, "section")
    check_mass(mass)
    sections = tuple(dict.fromkeys(section or SECTIONS))
    # Runs of a section: scales, intervals, feedback and the mixture; the search; the grids.
    runs = 3 + sum({"information": 14, "intervals": 19, "grids": 18}[name] for name in sections)
    with terminal.progress(runs, quiet) as bar:
        bar.step("training the judge")
        judged = _judged(model, data)
        theory = None
        if model in SHIPPED and "information" in sections:
            bar.step("fitting the mixture")
            theory = _fitted(judged, seed)
        result = study_guidance(
            judged,
            theory=theory,
            sections=sections,
            mass=mass,
            scale=scale,
            num_images=images,
            num_paths=paths,
            seed=seed,
            progress=bar,
        )
    title = f"Guidance of {model}"
    if result.information is not None:
        headers, rows = information_rows(result.information)
        _show(title, headers[:4], [row[:4] for row in rows], [], quiet)
    if result.intervals is not None:
        found = result.intervals
        shown = [
            found.unguided,
            found.entropic,
            found.cells[found.best],
            found.full,
            *found.feedback,
        ]
        headers, rows = draw_rows(shown)
        keep = [0, 1, 4, 6]
        _show(
            "intervals",
            [headers[i] for i in keep],
            [[row[i] for i in keep] for row in rows],
            [],
            quiet,
        )
    _show("", [], [], result.checks, quiet)
    if out is not None:
        arguments = {
            "model": model,
            "sections": sections,
            "data": data,
            "mass": mass,
            "scale": scale,
        }
        record = guidance_record(result)
        record["provenance"] = _provenance(seed, arguments | {"images": images, "paths": paths})
        guidance_report(result, title).write(out, record)
        terminal.show(f"Report: {Path(out) / 'report.html'}", quiet)


def _fitted(judged: Any, seed: int) -> Any:
    """A mixture fitted to the states of the training images, as a model."""
    from model_bridges.crosscheck.theory import fitted_mixture
    from model_bridges.denoisers.mixture import mixture_denoiser

    train = judged.states(judged.train, seed + 1)
    mixture, _ = fitted_mixture(train)
    return mixture_denoiser(
        mixture,
        event_shape=tuple(judged.denoiser.event_shape),
        sigma_range=judged.denoiser.sigma_range,
    )


def _judged(model: str, data: Path | None) -> Any:
    from model_bridges.control.judged import digits_model, own_model

    if model in SHIPPED:
        if data is not None:
            raise ValueError(f"{model} brings its own data; `--data` goes with module:function.")
        return digits_model(model)
    if ":" not in model:
        pick(model, dict.fromkeys((*SHIPPED, "module:function")), "model")
    if data is None:
        raise ValueError(
            f"{model!r} needs images to be judged on: `--data DIR` with MNIST (IDX) or CIFAR-10 binary "
            f"files. The shipped models, {' and '.join(SHIPPED)}, bring their own."
        )
    return own_model(model, data)


def _show(title: str, headers: Any, rows: Any, checks: Any, quiet: bool) -> None:
    from model_bridges.crosscheck.report import check_rows
    from model_bridges.entropy.windows import ERRORS

    for (head, body), name in (((headers, rows), title), (check_rows(checks), "checks")):
        if not body:
            continue
        # A terminal is narrow: no room around ±.
        tight = [[cell.replace(" ± ", "±") for cell in row] for row in body]
        terminal.show(terminal.table(head, tight, title=name), quiet)
        if "±" in str((head, tight)):
            terminal.show(f"{ERRORS}.\n", quiet)


def _provenance(seed: int, arguments: dict[str, Any]) -> Any:
    from gmm_speciation.reporting.records import provenance

    return provenance(terminal.command_line(), seed, arguments, packages=PACKAGES)
