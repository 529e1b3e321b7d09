"""`model-bridges guidance` and `model-bridges remove`: guidance measured on trained models."""

from dataclasses import replace
from typing import Annotated, Any

from gmm_speciation.reporting import terminal

# isort: split
import typer

from gmm_speciation.lookup import pick
from gmm_speciation.reporting.tables import ERRORS, NONE, Table
from gmm_speciation.reporting.terminal import Out
from model_bridges.cli.options import PACKAGES, Study, with_options
from model_bridges.cli.planning import show_plan

# At least two images in each of the twenty batches that errors come from.
Drawn = Annotated[int, typer.Option("--images", metavar="N", min=40, help="Images of each run.")]


def _check_removal(
    request: Study, *, kind: list[str] | None, strengths: str | None, **_: Any
) -> Study:
    """The request; what no model makes possible is refused."""
    _kinds(kind, strengths)
    return request


def _kinds(kind: list[str] | None, strengths: str | None) -> dict[str, Any] | None:
    """The strengths of the kinds that were asked for; None for all of both."""
    from model_bridges.control.removal import STRENGTHS

    names = [pick(k, dict(zip(STRENGTHS, STRENGTHS, strict=True)), "kind") for k in kind or ()]
    if not names and strengths is None:
        return None
    own = None if strengths is None else sorted(terminal.numbers(strengths, "--strengths", float))
    return dict.fromkeys(names or STRENGTHS, own)


def _load(request: Study, *, label: int = 0, **_: Any) -> None:
    from model_bridges.cli.inputs import studied_model

    _check_removed(studied_model(request, split=True), label)


@with_options(Study, _check_removal, _load)
def remove(
    request: Study,
    *,
    label: Annotated[
        int, typer.Option("--class", metavar="C", min=0, help="The class to remove, by number.")
    ] = 7,
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
    out: Out = None,
) -> None:
    """Draw without a class: negative prompting, safe latent and dynamic negative guidance compared."""
    terminal.use_float64()
    from gmm_speciation.reporting.claims import check_rows
    from model_bridges.cli.inputs import own_rank
    from model_bridges.control.removal import STRENGTHS, remove_class
    from model_bridges.control.removal_report import (
        area_rows,
        removal_record,
        removal_report,
        removal_rows,
    )

    quiet, seed, folder = request.quiet, request.seed, request.folder
    terminal.check_place(out, folder)
    rank = own_rank(request)
    chosen = _kinds(kind, strengths)
    if request.plan:
        show_plan(_removal_plan(request, label, images, steps, chosen), request)
        return
    runs = 3 + sum(len(own or STRENGTHS[name]) for name, own in (chosen or STRENGTHS).items())
    with terminal.progress(runs, quiet, shown=rank == 0) as bar:
        model = _model(request, bar, label)
        result = remove_class(
            model,
            label,
            num_images=images,
            num_steps=steps,
            strengths=chosen,
            seed=seed,
            folder=folder,
            progress=bar,
        )
    if rank > 0:  # the first process of a launch reports for all
        return
    title = f"Class {label} removed from what {model.name} draws"
    headers, rows = removal_rows(result)
    narrow = [[f"{row[0]}, {row[1]}" if row[1] != NONE else row[0], *row[2:5]] for row in rows]

    def write() -> tuple[Any, dict[str, Any]]:
        record = removal_record(result)
        arguments = {"class": label, "images": images, "steps": steps, "kinds": chosen}
        record["provenance"] = terminal.stamp(seed, vars(request) | arguments, PACKAGES)
        return removal_report(result, title), record

    tables = {
        title: Table(["kind, strength", *headers[2:5]], narrow),
        "area between fronts: mean over log price": area_rows(result),
        "checks": check_rows(result.checks),
    }
    terminal.finish(tables, write, out, quiet, note=ERRORS, narrow=True)


def _check_guidance(
    request: Study, *, section: list[str] | None, mass: float, scale: float, **_: Any
) -> Study:
    """The request; what no model makes possible is refused."""
    from model_bridges.control.study import SECTIONS, check_numbers

    if request.plan:
        raise ValueError(
            "`--plan` cannot count what guidance takes: its intervals and grids follow from the window that "
            "it finds first. Plan `windows` or `remove`."
        )
    for name in section or ():
        pick(name, dict.fromkeys(SECTIONS, ""), "section")
    check_numbers(mass, scale)
    return request


@with_options(Study, _check_guidance, _load)
def guidance(
    request: Study,
    *,
    section: Annotated[
        list[str] | None, typer.Option(help="Only this: information, intervals, grids. Repeat it.")
    ] = None,
    mass: Annotated[float, typer.Option(help="Share of the information in the interval.")] = 0.8,
    scale: Annotated[
        float, typer.Option(help="Guidance scale of the intervals, above 1, which is unguided.")
    ] = 2.0,
    images: Drawn = 500,
    paths: Annotated[int, typer.Option(min=20, help="Trajectories of each tracked run.")] = 150,
    out: Out = None,
) -> None:
    """What guidance does: when it decides, the interval of the entropy curve, grids in information."""
    terminal.use_float64()
    from gmm_speciation.reporting.claims import check_rows
    from model_bridges.cli.inputs import own_rank
    from model_bridges.control.report import (
        draw_rows,
        guidance_record,
        guidance_report,
        information_rows,
    )
    from model_bridges.control.study import SECTIONS, study_guidance
    from model_bridges.crosscheck.theory import mixture_model

    quiet, seed = request.quiet, request.seed
    terminal.check_place(out, request.folder)
    rank = own_rank(request)
    sections = tuple(dict.fromkeys(section or SECTIONS))
    if rank > 0:  # the trajectories of this section are not shared
        sections = tuple(name for name in sections if name != "information")
        if not sections:
            return
    # Runs of a section: scales, intervals, feedback and the mixture; the search; the grids.
    runs = 3 + sum({"information": 14, "intervals": 19, "grids": 18}[name] for name in sections)
    with terminal.progress(runs, quiet, shown=rank == 0) as bar:
        model = _model(request, bar)
        theory = None
        if "information" in sections:
            bar.step("fitting the mixture")
            theory = mixture_model(model, seed)
        result = study_guidance(
            model,
            theory=theory,
            sections=sections,
            mass=mass,
            scale=scale,
            num_images=images,
            num_paths=paths,
            seed=seed,
            progress=bar,
        )
    if rank > 0:
        return
    title = f"Guidance of {model.name}"
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
        arguments = {"sections": sections, "mass": mass, "scale": scale}
        arguments |= {"images": images, "paths": paths}
        record["provenance"] = terminal.stamp(seed, vars(request) | arguments, PACKAGES)
        return guidance_report(result, title), record

    tables["checks"] = check_rows(result.checks)
    terminal.finish(tables, write, out, quiet, note=ERRORS, narrow=True)


def _removal_plan(
    request: Study, label: int, images: int, steps: int, kinds: dict[str, Any] | None
) -> Any:
    from model_bridges.cli.inputs import studied_model
    from model_bridges.cli.planning import sampling_work
    from model_bridges.control.removal_plan import removal_works
    from model_bridges.entropy.plan import plan_of

    with terminal.progress(quiet=request.quiet) as bar:
        bar.step("loading the model")
        model = studied_model(request, split=True, say=bar.say)
        _check_removed(model, label)
        bar.step("timing the network")
        works = removal_works(model, label, num_images=images, num_steps=steps, strengths=kinds)
        if request.generate is not None:
            works = [sampling_work(model.denoiser, request.generate), *works]
        note = "Training the judge and judging come on top"
        return plan_of(works, model.denoiser, images, request.devices, note)


def _check_removed(model: Any, removed: int) -> None:
    model.check_guided()
    if removed >= model.denoiser.num_classes:
        raise ValueError(
            f"'--class' must be one of 0 to {model.denoiser.num_classes - 1}; got {removed}."
        )


def _model(request: Study, bar: Any, removed: int = 0) -> Any:
    """The model with data to judge its pictures by, and its judge."""
    from model_bridges.cli.inputs import studied_model, with_samples

    bar.step("loading the model")
    model = studied_model(request, split=True, say=bar.say)
    _check_removed(model, removed)
    model = with_samples(model, request, bar, split=True)
    model = replace(model, folder=request.folder)
    bar.step("training the judge")
    _ = model.judge
    return model
