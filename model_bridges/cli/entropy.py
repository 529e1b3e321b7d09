"""`model-bridges entropy` and `model-bridges windows`.

Both measure a model by any of the estimators on data or on the model's own samples; the first writes the
whole report, the second prints windows and guidance intervals as JSON. torch and JAX load when they run.
"""

import json
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from gmm_speciation.reporting import terminal

# isort: split
import typer

from gmm_speciation.files import write_text
from gmm_speciation.lookup import pick
from gmm_speciation.reporting.terminal import Out, Quiet, Seed

NAMES = "digits, digits-text, edm2:COND,UNCOND, sd:PATH_OR_REPO, or module:function."
Model = Annotated[str, typer.Argument(metavar="MODEL", help=NAMES)]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="Pictures in one subfolder a class, or an .npz; digits: a distribution."
    ),
]
Generate = Annotated[
    int | None, typer.Option(metavar="N", help="Average over N samples of the model's own instead.")
]
Partitions = Annotated[
    list[str] | None,
    typer.Option(
        "--partition", help="Grouping: a known name, groups.json, or 'a, b | c'. Repeat it."
    ),
]
Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", help="Class of a text-to-image model. Repeat it.")
]
Images = Annotated[int | None, typer.Option("--images", metavar="N", help="At most N images.")]
Levels = Annotated[
    int | None,
    typer.Option(help="Noise levels, even in log sigma; by default placed where decisions fall."),
]
Run = Annotated[
    Path | None,
    # Launchers read `--run` as an abbreviation of an option of theirs.
    typer.Option(
        "--run", "--folder", metavar="DIR", help="Folder of a long run: killed, it continues there."
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(help="handke2026-edm2, handke2026-sd15 or biroli2024: a paper's settings."),
]
MaxClasses = Annotated[
    int, typer.Option(min=2, help="Where more classes are named, groups are sampled.")
]
Batch = Annotated[int, typer.Option("--max-batch", min=1, help="Largest batch for the network.")]

CLASS_SAMPLES = 3


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    model: str
    data: str | None
    generate: int | None
    partitions: tuple[str, ...]
    prompts: tuple[str, ...]
    images: int | None
    levels: int | None
    paths: int
    run: Path | None
    preset: str | None
    max_batch: int
    seed: int
    max_classes: int = 32
    sample: int = 0  # of the classes that stand for large groups


def entropy(
    model: Model,
    estimators: Annotated[
        str,
        typer.Option("--estimators", help="Names with commas; 'all' for every one that applies."),
    ] = "tracking,gap,elbo,clones",
    data: Data = None,
    generate: Generate = None,
    partition: Partitions = None,
    prompt: Prompts = None,
    images: Images = None,
    levels: Levels = None,
    paths: Annotated[int, typer.Option(min=1, help="Noise paths of each image.")] = 1,
    run: Run = None,
    preset: Preset = None,
    max_batch: Batch = 1024,
    max_classes: MaxClasses = 32,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Class entropy of a model against the noise: curve, rate, peak and window of every partition."""
    request = Request(
        model,
        data,
        generate,
        tuple(partition or ()),
        tuple(prompt or ()),
        images,
        levels,
        paths,
        run,
        preset,
        max_batch,
        seed,
        max_classes,
    )
    terminal.check_place(out)
    result, rank, sampled = _measure(request, estimators, quiet)
    samples = []
    if sampled:  # again with other classes for the groups: how much do they matter?
        known = all("tracking" in variable.curves for variable in result.variables.values())
        samples = [result] if known else []
        for index in range(len(samples), CLASS_SAMPLES):
            folder = None if run is None else run / f"classes-{index}"
            again = replace(request, sample=index, run=folder)
            samples.append(_measure(again, "tracking", quiet, theory=False)[0])
    if rank > 0:  # the first process of a launch reports for all
        return
    from gmm_speciation.reporting.tables import ERRORS, Table
    from model_bridges.entropy.report import (
        comparison_rows,
        cost_rows,
        curve_rows,
        entropy_record,
        entropy_report,
        sample_rows,
    )
    from model_bridges.entropy.trust import trust_rows

    dependence = sample_rows(samples) if samples else Table([], [])

    def write() -> tuple[Any, dict[str, Any]]:
        record = entropy_record(result)
        if samples:
            record["class_samples"] = [
                dict(zip(dependence.headers, row, strict=True)) for row in dependence.rows
            ]
        arguments = vars(request) | {"estimators": estimators}
        record["provenance"] = terminal.stamp(
            seed, arguments, ("torch", "diffusers", "safetensors")
        )
        return entropy_report(result, f"Class entropy of {model} on {result.law}"), record

    tables = {
        f"{model}, {result.law}; noise σ in the model's units": curve_rows(result),
        "dependence on the classes that stand for large groups, tracking": dependence,
        "paired differences in log σ, coarse minus fine": comparison_rows(result.comparisons),
        "trust; checks that are not a plain yes": trust_rows(result.trusts),
        f"{result.evaluations:,} network evaluations": cost_rows(result),
    }
    terminal.finish(tables, write, out, quiet, note=ERRORS, narrow=True)


def windows(
    model: Model,
    mass: Annotated[float, typer.Option(help="Share of the information inside a window.")] = 0.8,
    data: Data = None,
    generate: Generate = None,
    partition: Partitions = None,
    prompt: Prompts = None,
    images: Images = None,
    levels: Levels = None,
    paths: Annotated[int, typer.Option(min=1, help="Noise paths of each image.")] = 1,
    run: Run = None,
    max_batch: Batch = 1024,
    max_classes: MaxClasses = 32,
    force: Annotated[
        bool, typer.Option("--force", help="Give windows of curves that cannot be trusted, too.")
    ] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the JSON here as well.")
    ] = None,
) -> None:
    """The noise windows in which a model decides, and a guidance interval for diffusers, as JSON.

    Exits with 3 where a window means nothing: its curve cannot be trusted, or its levels end inside.
    """
    if not 0 < mass < 1:
        raise ValueError(f"`--mass` must lie inside (0, 1); got {mass}.")
    request = Request(
        model,
        data,
        generate,
        tuple(partition or ()),
        tuple(prompt or ()),
        images,
        levels,
        paths,
        run,
        None,
        max_batch,
        seed,
        max_classes,
    )
    result, rank, _ = _measure(request, "tracking", quiet, theory=False)
    if rank > 0:
        return
    from gmm_speciation.reporting.records import to_json
    from model_bridges.entropy.report import windows_record

    record = windows_record(result, mass, force)
    text = json.dumps(to_json(record), indent=1, ensure_ascii=False)
    terminal.show(text)  # the result itself; `--quiet` silences what is said beside it
    if out is not None:
        write_text(out, text + "\n")
    nothing = {n: window["reason"] for n, window in record["windows"].items() if "reason" in window}
    for name, reason in nothing.items():
        print(f"error: the window of {name} means nothing: {reason}", file=sys.stderr)
    if nothing and not force:
        raise typer.Exit(3)


def _measure(
    request: Request, estimators: str, quiet: bool, theory: bool = True
) -> tuple[Any, int, bool]:
    """The measurement, the rank of this process, and whether classes were sampled."""
    terminal.use_float64()
    import numpy as np
    import torch

    from model_bridges.cli import inputs
    from model_bridges.cli.inputs import restrict_subject
    from model_bridges.entropy.curve import ESTIMATORS, NEED_UNCONDITIONAL
    from model_bridges.entropy.measure import measure
    from model_bridges.entropy.own_samples import SamplingJob
    from model_bridges.entropy.presets import PRESETS
    from model_bridges.entropy.problem import problem
    from model_bridges.entropy.trust import TrustWarning
    from model_bridges.runs.folder import process_place, take_own_device

    rank, world = process_place()
    take_own_device()
    if world > 1 and request.run is None:
        raise ValueError(
            "Several processes share a run through its folder; give `--folder DIR`, one that all can reach."
        )
    preset = pick(request.preset, PRESETS, "preset") if request.preset else None
    if request.levels is not None and request.levels < 9:
        raise ValueError(f"A curve needs at least 9 noise levels; got {request.levels}.")
    with terminal.progress(quiet=quiet, shown=rank == 0) as bar:
        bar.step("loading the model")
        chosen = inputs.subject(request.model, request.prompts or None, bar.say)
        sampled = False
        if chosen.digits is None and not request.prompts and request.partitions:
            chosen, partitions, selection = restrict_subject(
                chosen,
                request.partitions,
                request.max_classes,
                seed=request.seed,
                sample=request.sample,
                say=bar.say,
            )
            sampled = selection.is_sample
        else:
            partitions = inputs.chosen_partitions(chosen, request.partitions)
        denoiser = chosen.denoiser
        names = _estimators(estimators, denoiser.has_unconditional, ESTIMATORS)
        generate, sigmas, trajectories, clone_steps = request.generate, None, False, 64
        if preset is not None:
            names, trajectories = preset.estimators, preset.trajectories
            if not denoiser.has_unconditional and set(names) & set(NEED_UNCONDITIONAL):
                left = [name for name in names if name in NEED_UNCONDITIONAL]
                names = tuple(name for name in names if name not in NEED_UNCONDITIONAL)
                bar.say(f"no unconditional model of these classes: without {', '.join(left)}")
            clone_steps = preset.clone_steps
            if request.data is None and generate is None:
                generate = preset.num_samples
            if preset.levels is not None:
                sigmas = preset.levels(denoiser)
        if request.levels is not None:
            sigmas = np.geomspace(*denoiser.sigma_range, request.levels)
        if trajectories and generate is not None:
            # The trajectories are the samples: nothing is drawn beforehand.
            bar.step("trajectories")
            labels = SamplingJob(denoiser, generate, seed=request.seed).labels()
            states = torch.zeros(1, *denoiser.event_shape).expand(generate, *denoiser.event_shape)
            law = f"{generate} trajectories of the model, classes in turn"
        else:
            trajectories = False
            bar.step("images")
            found = inputs.gather(
                chosen,
                request.data,
                generate,
                limit=request.images,
                seed=request.seed,
                run=request.run,
                progress=bar,
            )
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
        closed = None
        if theory and chosen.digits is not None:
            bar.step("fitting the theory's mixture")
            closed = inputs.digits_theory(chosen, request.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrustWarning)  # printed in full
            result = measure(
                given,
                names,
                run=request.run,
                trajectories=trajectories,
                num_paths=request.paths,
                clone_steps=clone_steps,
                theory=closed,
                progress=bar,
            )
    return result, rank, sampled


def _estimators(text: str, unconditional: bool, known: tuple[str, ...]) -> tuple[str, ...]:
    """The estimators asked for; "all" leaves out those that the model cannot serve."""
    if text == "all":
        from model_bridges.entropy.curve import NEED_UNCONDITIONAL

        return tuple(n for n in known if unconditional or n not in NEED_UNCONDITIONAL)
    names = [word.strip() for word in text.split(",") if word.strip()]
    for name in names:
        pick(name, dict.fromkeys(known), "estimator")
    return tuple(dict.fromkeys(names))
