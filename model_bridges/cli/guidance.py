"""`model-bridges guidance` and `model-bridges remove`: guidance measured on trained models."""

from pathlib import Path
from typing import Annotated, Any

from gmm_speciation.reporting import terminal

# isort: split
import typer

from gmm_speciation.lookup import pick
from gmm_speciation.reporting.tables import ERRORS, NONE, Table
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
    from gmm_speciation.reporting.claims import check_rows
    from model_bridges.control.removal import STRENGTHS, remove_class
    from model_bridges.control.removal_report import (
        area_rows,
        removal_record,
        removal_report,
        removal_rows,
    )

    terminal.check_place(out, folder)
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
    narrow = [[f"{row[0]}, {row[1]}" if row[1] != NONE else row[0], *row[2:5]] for row in rows]

    def write() -> tuple[Any, dict[str, Any]]:
        record = removal_record(result)
        arguments = {"model": model, "class": label, "data": data, "images": images, "steps": steps}
        arguments |= {"kinds": chosen, "folder": folder}
        record["provenance"] = terminal.stamp(seed, arguments, PACKAGES)
        return removal_report(result, title), record

    tables = {
        title: Table(["kind, strength", *headers[2:5]], narrow),
        "area between fronts: mean over log price": area_rows(result),
        "checks": check_rows(result.checks),
    }
    terminal.finish(tables, write, out, quiet, note=ERRORS, narrow=True)


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
    from gmm_speciation.reporting.claims import check_rows
    from model_bridges.control.report import (
        draw_rows,
        guidance_record,
        guidance_report,
        information_rows,
    )
    from model_bridges.control.study import SECTIONS, check_mass, study_guidance

    terminal.check_place(out)
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
    tables: dict[str, Table] = {}
    if result.information is not None:
        tables[title] = information_rows(result.information).columns(0, 1, 2, 3)
    if result.intervals is not None:
        found = result.intervals
        best = found.cells[found.best]
        shown = [found.unguided, found.entropic, best, found.full, *found.feedback]
        tables["intervals"] = draw_rows(shown).columns(0, 1, 4, 6)

    def write() -> tuple[Any, dict[str, Any]]:
        record = guidance_record(result)
        arguments = {"model": model, "sections": sections, "data": data, "mass": mass}
        arguments |= {"scale": scale, "images": images, "paths": paths}
        record["provenance"] = terminal.stamp(seed, arguments, PACKAGES)
        return guidance_report(result, title), record

    tables["checks"] = check_rows(result.checks)
    terminal.finish(tables, write, out, quiet, note=ERRORS, narrow=True)


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
