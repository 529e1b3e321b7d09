"""`model-bridges entropy` and `model-bridges windows`.

Both measure a model by any of the estimators on data or on the model's own samples; the first writes the
whole report, the second prints windows and guidance intervals as JSON. torch and JAX load when they run.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from gmm_speciation.reporting import terminal

# isort: split
import typer

from gmm_speciation.files import write_text
from gmm_speciation.lookup import pick
from gmm_speciation.reporting.terminal import Out
from model_bridges.cli.options import Request, with_options
from model_bridges.cli.planning import show_plan

CLASS_SAMPLES = 3
Preset = Annotated[
    str | None,
    typer.Option(help="handke2026-edm2, handke2026-sd15 or biroli2024: a paper's settings."),
]


DropBelow = Annotated[
    float,
    typer.Option(
        "--drop-below",
        metavar="P",
        help="Leave classes of a path out from where their posterior is below P, such as 1e-5.",
    ),
]


def _check(
    request: Request,
    *,
    estimators: str = "all",
    preset: str | None = None,
    mass: float = 0.8,
    scheduler: str | None = None,
    steps: int | None = None,
    **_: Any,
) -> Request:
    """The request with what a preset gives; what no model makes possible is refused."""
    if request.levels is not None and request.levels < 9:
        raise ValueError(f"A curve needs at least 9 noise levels; got {request.levels}.")
    if not 0 < mass < 1:
        raise ValueError(f"`--mass` must lie inside (0, 1); got {mass}.")
    if steps is not None and scheduler is None:
        raise ValueError("`--steps` are those of a scheduler; name it by `--scheduler`.")
    if preset is not None:
        from model_bridges.entropy.presets import PRESETS

        found = pick(preset, PRESETS, "preset")
        if request.data is None and request.generate is None:
            request = replace(request, generate=found.num_samples)
    if estimators != "all":
        _estimators(estimators, True)
    return request


def _load(request: Request, **_: Any) -> None:
    from model_bridges.cli.inputs import studied_model

    studied_model(request)


@with_options(Request, _check, _load)
def entropy(
    request: Request,
    *,
    estimators: Annotated[
        str,
        typer.Option("--estimators", help="Names with commas; 'all' for every one that applies."),
    ] = "tracking,gap,elbo,clones",
    preset: Preset = None,
    drop_below: DropBelow = 0.0,
    out: Out = None,
) -> None:
    """Class entropy of a model against the noise: curve, rate, peak and window of every partition."""
    terminal.check_place(out)
    quiet = request.quiet
    result, rank, sampled = _measure(request, estimators, preset, drop_below=drop_below)
    if request.plan:
        if rank == 0:
            show_plan(result, request)
        return
    samples = []
    if sampled:  # again with other classes for the groups: how much do they matter?
        known = all("tracking" in variable.curves for variable in result.variables.values())
        samples = [result] if known else []
        for index in range(len(samples), CLASS_SAMPLES):
            folder = None if request.folder is None else request.folder / f"classes-{index}"
            again = replace(request, folder=folder)
            other = _measure(again, "tracking", theory=False, sample=index, drop_below=drop_below)
            samples.append(other[0])
    if rank > 0:  # the first process of a launch reports for all
        return
    from gmm_speciation.reporting.tables import ERRORS, Table
    from gmm_speciation.reporting.trust import trust_rows
    from model_bridges.entropy.report import (
        comparison_rows,
        cost_rows,
        curve_rows,
        elimination_rows,
        entropy_record,
        entropy_report,
        sample_rows,
    )

    dependence = sample_rows(samples) if samples else Table([], [])

    def write() -> tuple[Any, dict[str, Any]]:
        record = entropy_record(result)
        if samples:
            record["class_samples"] = [
                dict(zip(dependence.headers, row, strict=True)) for row in dependence.rows
            ]
        arguments = vars(request) | {"estimators": estimators, "preset": preset}
        arguments |= {"drop_below": drop_below}
        record["provenance"] = terminal.stamp(
            request.seed, arguments, ("torch", "diffusers", "safetensors")
        )
        return entropy_report(result, f"Class entropy of {request.model} on {result.law}"), record

    tables = {
        f"{request.model}, {result.law}; noise σ in the model's units": curve_rows(result),
        "dependence on the classes that stand for large groups, tracking": dependence,
        "paired differences in log σ, coarse minus fine": comparison_rows(result.comparisons),
        "trust; checks that are not a plain yes": trust_rows(result.trusts),
        f"{result.evaluations:,} network evaluations": cost_rows(result),
        "classes left out": elimination_rows(result),
    }
    terminal.finish(tables, write, out, quiet, note=ERRORS, narrow=True)


@with_options(Request, _check, _load)
def windows(
    request: Request,
    *,
    mass: Annotated[float, typer.Option(help="Share of the information inside a window.")] = 0.8,
    force: Annotated[
        bool, typer.Option("--force", help="Give windows of curves that cannot be trusted, too.")
    ] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|CLASS",
            help="Give the steps of a scheduler of diffusers that lie inside, too: that of a pipeline's "
            "folder, or a class, with the settings of the model where it is a pipeline.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps that the scheduler takes; 50 by default.")
    ] = None,
    drop_below: DropBelow = 0.0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the JSON here as well.")
    ] = None,
) -> None:
    """The noise windows in which a model decides, and a guidance interval for diffusers, as JSON.

    Exits with 3 where a window means nothing: its curve cannot be trusted, or its levels end inside.
    """
    if out is not None:
        terminal.check_place(None, out.parent)
        if out.is_dir():
            raise ValueError(
                f"`--out` of `windows` is a file for the JSON; {str(out)!r} is a folder."
            )
    from gmm_speciation.reporting.records import to_json
    from gmm_speciation.reporting.tables import json_text
    from model_bridges.entropy.report import windows_record

    stepped = None if scheduler is None else _scheduler(scheduler, request, steps or 50)
    result, rank, _ = _measure(request, "tracking", theory=False, drop_below=drop_below)
    if request.plan:
        if rank == 0:
            show_plan(result, request)
        return
    if rank > 0:
        return
    record = windows_record(result, mass, force, stepped, steps or 50)
    text = json_text(to_json(record))
    try:
        if out is not None:
            write_text(out, text + "\n")
    finally:
        print(text, flush=True)  # the result itself, with and without `--json` and `--quiet`
    nothing = {n: window["reason"] for n, window in record["windows"].items() if "reason" in window}
    for name, reason in nothing.items():
        print(f"error: the window of {name} means nothing: {reason}", file=sys.stderr)
    if nothing and not force:
        raise typer.Exit(3)


def _scheduler(named: str, request: Request, steps: int) -> Any:
    """The scheduler in its pipeline, refused before any work if it cannot take these steps."""
    from model_bridges.digits.text import FOLDER
    from model_bridges.pipelines.families import family_of_pipeline
    from model_bridges.pipelines.parts import Source, open_source
    from model_bridges.pipelines.schedulers import scheduler_of
    from model_bridges.pipelines.steps import in_pipeline, stepped

    kind, _, path = request.model.partition(":")
    source = own = None
    if kind in ("sd", "diffusers"):
        source = open_source(
            path,
            config=request.config,
            revision=request.revision,
            local_files_only=not request.fetch,
        )
    elif request.model == "digits-text":
        source = Source(str(FOLDER))
    if source is not None:
        own = source.settings("scheduler")
    elif Path(named, "model_index.json").is_file():
        source = Source(named)
    scheduler = scheduler_of(named, own)
    if source is None:
        found = stepped(scheduler)
    else:
        pipeline, _ = source.index()
        network = source.settings(family_of_pipeline(pipeline).network)
        found = in_pipeline(scheduler, pipeline, network)
    found.levels(steps)
    if own is None and not Path(named).is_dir():
        print(
            f"note: {request.model} is no pipeline, so {named} has the defaults of its class.",
            file=sys.stderr,
        )
    return found


def _measure(
    request: Request,
    estimators: str,
    preset_name: str | None = None,
    *,
    theory: bool = True,
    sample: int = 0,
    drop_below: float = 0.0,
) -> tuple[Any, int, bool]:
    """The measurement, the rank of this process, and whether classes were sampled.

    `sample` fixes the classes that stand for large groups.
    """
    terminal.use_float64()
    import numpy as np

    from gmm_speciation.reporting.trust import TrustWarning
    from model_bridges.cli.inputs import chosen, own_rank, studied_model, with_samples
    from model_bridges.cli.planning import plan_jobs, unseen
    from model_bridges.crosscheck.theory import can_be_fitted, closed_form
    from model_bridges.denoisers.subset import ClassSubset
    from model_bridges.entropy.curve import NEED_UNCONDITIONAL
    from model_bridges.entropy.measure import jobs_of, measure
    from model_bridges.entropy.presets import PRESETS
    from model_bridges.entropy.problem import problem

    rank = own_rank(request)
    preset = PRESETS[preset_name] if preset_name else None
    with terminal.progress(quiet=request.quiet, shown=rank == 0) as bar:
        bar.step("loading the model")
        model = studied_model(request, say=bar.say)
        model, partitions, sampled = chosen(
            model,
            request.partition,
            request.max_classes,
            seed=request.seed,
            sample=sample,
            whole=preset is not None,
            say=bar.say,
        )
        denoiser = model.denoiser
        names = _estimators(estimators, denoiser.has_unconditional)
        sigmas, trajectories, clone_steps = None, False, 64
        if preset is not None:
            names, trajectories = preset.estimators, preset.trajectories
            if not denoiser.has_unconditional and set(names) & set(NEED_UNCONDITIONAL):
                left = [name for name in names if name in NEED_UNCONDITIONAL]
                names = tuple(name for name in names if name not in NEED_UNCONDITIONAL)
                bar.say(f"no unconditional model of these classes: without {', '.join(left)}")
            if isinstance(denoiser.denoiser, ClassSubset) and "tracking-ratio" in names:
                names = tuple(name for name in names if name != "tracking-ratio")
                bar.say(
                    "named classes are no whole that their ratios add up to: without tracking-ratio"
                )
            sigmas, clone_steps = preset.levels, preset.clone_steps
        if request.levels is not None:
            sigmas = np.geomspace(*denoiser.sigma_range, request.levels)
        num_trajectories = request.generate if trajectories else None
        if num_trajectories is not None:
            # The trajectories are the samples: nothing is drawn beforehand.
            bar.step("trajectories")
            states, labels = unseen(denoiser, num_trajectories, request.seed)
            law = f"{num_trajectories} trajectories of the model, classes in turn"
        elif request.plan and request.generate is not None:
            count = min(request.generate, request.images or request.generate)
            states, labels = unseen(denoiser, count, request.seed)
            law = f"{count} samples to come"
        else:
            model = with_samples(model, request, bar)
            bar.step("images")
            found = model.states(model.averaged.first(request.images), request.seed)
            states, labels, law = found.images.detach().cpu().double(), found.labels, found.law
        given = problem(
            denoiser,
            states,
            labels,
            law=law,
            sigmas=sigmas,
            partitions=partitions,
            seed=request.seed,
            max_batch=request.max_batch,
        )
        if request.plan:
            drawn = None if num_trajectories is not None else request.generate
            options = (names, num_trajectories is not None, request.paths or 1, clone_steps)
            bar.step("timing the network")
            note = "Leaving classes out takes less than this" if drop_below else ""
            plan = plan_jobs(request, given, lambda p: jobs_of(p, *options), drawn, note)
            return plan, rank, sampled
        closed = None
        if theory and can_be_fitted(model):
            bar.step("fitting the theory's mixture")
            closed = closed_form(model, request.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrustWarning)  # printed in full
            result = measure(
                given,
                names,
                run=request.folder,
                trajectories=num_trajectories is not None,
                num_paths=request.paths or 1,
                clone_steps=clone_steps,
                drop_below=drop_below,
                theory=closed,
                progress=bar,
            )
    return result, rank, sampled


def _estimators(text: str, unconditional: bool) -> tuple[str, ...]:
    """The estimators asked for; "all" leaves out those that the model cannot serve."""
    from model_bridges.entropy.curve import ESTIMATORS, NEED_UNCONDITIONAL

    if text == "all":
        return tuple(n for n in ESTIMATORS if unconditional or n not in NEED_UNCONDITIONAL)
    names = [word.strip() for word in text.split(",") if word.strip()]
    for name in names:
        pick(name, dict.fromkeys(ESTIMATORS), "estimator")
    return tuple(dict.fromkeys(names))
