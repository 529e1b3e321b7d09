"""`gmm-speciation curve | times`: entropy curves and speciation criteria from the shell.

Commands say what to compute, the library computes it. JAX loads inside a command, so `--help` is
fast; commands compute in double precision.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

# First: it says what to install where typer is missing.
from gmm_speciation import terminal

# isort: split
import typer

import gmm_speciation
from gmm_speciation.terminal import Out, Quiet, Seed

if TYPE_CHECKING:
    from gmm_speciation.curves import EntropyCurve
    from gmm_speciation.processes import DiffusionProcess
    from gmm_speciation.specs import NamedMixture

app = terminal.application(
    "gmm-speciation",
    gmm_speciation.__version__,  # type: ignore[attr-defined]
    "Speciation of diffusion models, exactly, on Gaussian mixtures.",
)

MixtureSpec = Annotated[
    str,
    typer.Argument(
        metavar="MIXTURE",
        help="symmetric-pair, equidistant, equal-means, hierarchy, paper-toy, or a .npz or .json "
        "file with means, one of covariances, variances, variance, and optionally weights, labels.",
    ),
]
CLOCKS = "ou, ve, ddpm, sd, cosine, flow"
Dim = Annotated[int | None, typer.Option(help="Dimension of the data.")]
Separation = Annotated[float | None, typer.Option(help="symmetric-pair: means +-S (1, ..., 1).")]
Variance = Annotated[float | None, typer.Option(help="Variance of every component.")]
NumClasses = Annotated[int | None, typer.Option(help="equidistant: how many classes.")]
Distance = Annotated[float | None, typer.Option(help="equidistant: between any two means.")]
Variances = Annotated[str | None, typer.Option(help="equal-means: one a class, as 0.5,1.5.")]
Branching = Annotated[str | None, typer.Option(help="hierarchy: children a node, as 2,3.")]
Distances = Annotated[str | None, typer.Option(help="hierarchy: one a level, as 8,2.")]
NumSamples = Annotated[int, typer.Option(help="Draws of X where the entropy is sampled.")]


def _mixture(spec: str, **options: Any) -> "NamedMixture":
    from gmm_speciation.specs import mixture_from_spec

    for name, kind in (("variances", float), ("distances", float), ("branching", int)):
        if options[name] is not None:
            options[name] = terminal.numbers(options[name], f"--{name}", kind)
    return mixture_from_spec(spec, options)


def _grid(named: "NamedMixture", log_snr: str | None, points: int, key: Any) -> Any:
    import numpy as np

    from gmm_speciation.specs import covering_grid

    if points < 4:
        raise ValueError(f"A curve needs at least 4 points; got --points {points}.")
    if log_snr is None:
        return covering_grid(named, points, key)
    ends = terminal.numbers(log_snr, "--log-snr")
    if len(ends) != 2 or not np.isfinite(ends).all() or not ends[0] < ends[1]:
        raise ValueError(
            f"`--log-snr` takes LOW,HIGH, two finite numbers with LOW < HIGH; got {log_snr!r}."
        )
    return np.linspace(ends[1], ends[0], points)


def _stamp(seed: int, arguments: dict[str, Any]) -> dict[str, Any]:
    from gmm_speciation.records import provenance

    return provenance(terminal.command_line(), seed, arguments)


def _check_place(out: Path | None) -> None:
    """A report that cannot be written is an error before the work, not after it."""
    if out is not None:
        from gmm_speciation.reports import check_directory

        check_directory(out)


def _describe(named: "NamedMixture") -> str:
    values = ", ".join(f"{name} = {value}" for name, value in named.parameters.items())
    mixture = named.mixture
    return (
        f"A mixture of {mixture.num_components} components in {mixture.dim} dimensions: {values}."
    )


@app.command()
def curve(
    mixture: MixtureSpec,
    dim: Dim = None,
    separation: Separation = None,
    variance: Variance = None,
    num_classes: NumClasses = None,
    distance: Distance = None,
    variances: Variances = None,
    branching: Branching = None,
    distances: Distances = None,
    log_snr: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Noise levels; found from the entropy by default."),
    ] = None,
    points: Annotated[int, typer.Option(help="How many noise levels.")] = 96,
    process: Annotated[str | None, typer.Option(help=f"Also on the clock of: {CLOCKS}.")] = None,
    method: Annotated[str, typer.Option(help="auto, exact or monte-carlo.")] = "auto",
    num_samples: NumSamples = 8192,
    unit: Annotated[str, typer.Option(help="Of the pictures: nats or bits.")] = "nats",
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Class entropy H(C|X) and its rate against the noise; one curve a level of classes."""
    terminal.use_float64()
    import jax

    from gmm_speciation import summaries
    from gmm_speciation.entropy import entropy_curve
    from gmm_speciation.specs import process_from_name

    _check_place(out)
    terminal.pick(unit, {"nats": 0, "bits": 0}, "unit")
    clock = None if process is None else process_from_name(process)
    named = _mixture(
        mixture, dim=dim, separation=separation, variance=variance, num_classes=num_classes,
        distance=distance, variances=variances, branching=branching, distances=distances,
    )  # fmt: skip
    key = jax.random.key(seed)
    with terminal.progress(1 + len(named.levels), quiet) as steps:
        steps.next("noise levels")
        grid = _grid(named, log_snr, points, key)
        curves: dict[str, EntropyCurve] = {}
        for level, partition in named.levels.items():
            steps.next(f"entropy, {level}")
            curves[level] = entropy_curve(
                named.mixture,
                grid,
                partition=partition,
                method=method,
                num_samples=num_samples,
                key=key,
            )
    numbers = {level: summaries.read_off(one, clock) for level, one in curves.items()}
    table = summaries.curve_table(numbers, [one.method for one in curves.values()])
    title = f"Class entropy of {mixture}"
    terminal.show(terminal.table(*table, title=title), quiet)
    if out is not None:
        stamp = _stamp(seed, {**named.parameters, "num_samples": num_samples})
        report = _curve_report(title, named, curves, table, clock, unit)
        result = {"provenance": stamp, "curves": curves, "summary": numbers}
        if clock is not None:
            clocked = {level: summaries.reachable(one, clock) for level, one in curves.items()}
            result["clock"] = {
                level: one and {"process": process, "times": one.times, "rate": one.rate}
                for level, one in clocked.items()
            }
        terminal.show(f"Report: {report.write(out, result)}", quiet)


def _curve_report(
    title: str,
    named: "NamedMixture",
    curves: dict[str, "EntropyCurve"],
    table: tuple[list[str], list[list[str]]],
    clock: "DiffusionProcess | None",
    unit: str,
) -> Any:
    from gmm_speciation import plotting, speciation, summaries
    from gmm_speciation.reports import Report

    marks = {}
    if len(curves) == 1:
        ((level, only),) = curves.items()
        eigenvalue = speciation.between_class_eigenvalue(named.mixture, named.levels[level])
        marks = {
            "between-class spectral": speciation.spectral_point(eigenvalue),
            "half entropy": speciation.half_entropy_point(only),
        }
    report = Report(title).text(_describe(named))
    report.figure(
        plotting.plot_curve(curves, clock, marks, unit),
        "curve",
        "Entropy of the class given the noisy state, and its rate per unit log-SNR, with 95 % bands. "
        "Noise grows to the right.",
    )
    report.text("## Summary").table(*table)
    clocked = (
        {level: summaries.reachable(one, clock) for level, one in curves.items()} if clock else {}
    )
    on_clock = {level: one for level, one in clocked.items() if one is not None}
    if on_clock:
        report.text("## On the clock of the process").figure(
            plotting.plot_clock(on_clock, unit),
            "clock",
            "The same entropies against time. The peak per unit time and the peak per unit log-SNR "
            "are different noise levels.",
        )
    return report


@app.command()
def times(
    mixture: MixtureSpec,
    dim: Dim = None,
    separation: Separation = None,
    variance: Variance = None,
    num_classes: NumClasses = None,
    distance: Distance = None,
    variances: Variances = None,
    branching: Branching = None,
    distances: Distances = None,
    process: Annotated[str, typer.Option(help=f"Whose times: {CLOCKS}.")] = "ou",
    num_samples: NumSamples = 8192,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Speciation by every criterion: log-SNR, noise scale and time; one table a level of classes."""
    terminal.use_float64()
    import jax

    from gmm_speciation import summaries
    from gmm_speciation.speciation import speciation_times
    from gmm_speciation.specs import process_from_name

    _check_place(out)
    clock = process_from_name(process)
    named = _mixture(
        mixture, dim=dim, separation=separation, variance=variance, num_classes=num_classes,
        distance=distance, variances=variances, branching=branching, distances=distances,
    )  # fmt: skip
    criteria = {}
    with terminal.progress(len(named.levels), quiet) as steps:
        for level, partition in named.levels.items():
            steps.next(f"criteria, {level}")
            criteria[level] = speciation_times(
                named.mixture,
                partition=partition,
                num_samples=num_samples,
                key=jax.random.key(seed),
            )
    tables = summaries.times_tables(criteria, clock)
    for level, table in tables.items():
        terminal.show(terminal.table(*table, title=f"{mixture}, {level}"), quiet)
    if out is not None:
        from gmm_speciation import plotting
        from gmm_speciation.reports import Report

        report = Report(f"Speciation of {mixture}").text(_describe(named))
        for number, (level, table) in enumerate(tables.items(), start=1):
            picture = plotting.plot_curve(criteria[level].curve, clock, criteria[level])
            report.text(f"## {level}").table(*table)
            report.figure(picture, f"level-{number}", f"Criteria on the entropy curve, {level}.")
        result = {
            "provenance": _stamp(seed, {**named.parameters, "num_samples": num_samples}),
            "process": process,
            "criteria": summaries.times_result(criteria, clock),
            "curves": {level: one.curve for level, one in criteria.items()},
        }
        terminal.show(f"Report: {report.write(out, result)}", quiet)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return terminal.run(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
