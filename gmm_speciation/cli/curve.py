"""`gmm-speciation curve`: class entropy and its rate against the noise."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmm_speciation.cli.options import CLOCKS, MixtureRequest, app, describe
from gmm_speciation.lookup import pick
from gmm_speciation.reporting import terminal

if TYPE_CHECKING:
    from gmm_speciation.cli.mixtures import NamedMixture
    from gmm_speciation.curves import EntropyCurve
    from gmm_speciation.processes import DiffusionProcess


@app.command(
    examples="""
gmm-speciation curve symmetric-pair --dim 256 --process ou
gmm-speciation curve equidistant --num-classes 10 --dim 64 --distance 6 --out out/equidistant
gmm-speciation curve mixture.npz --log-snr=-6,4 --json  # one of your own; see MIXTURE
"""
)
@terminal.with_options(MixtureRequest)
def curve(
    request: MixtureRequest,
    *,
    log_snr: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Noise levels; found from the entropy by default."),
    ] = None,
    points: Annotated[int, typer.Option(help="How many noise levels.")] = 96,
    process: Annotated[str | None, typer.Option(help=f"Also on the clock of: {CLOCKS}.")] = None,
    method: Annotated[
        str, typer.Option(help="auto, exact, quasi-monte-carlo or monte-carlo.")
    ] = "auto",
    unit: Annotated[str, typer.Option(help="Of the pictures: nats or bits.")] = "nats",
) -> None:
    """Class entropy H(C|X) and its rate against the noise; one curve a level of classes."""
    terminal.use_float64()
    import jax

    from gmm_speciation.cli import tables
    from gmm_speciation.cli.mixtures import process_from_name
    from gmm_speciation.entropy import entropy_curve
    from gmm_speciation.reporting.tables import PLUS_MINUS

    terminal.check_place(request.out)
    pick(unit, {"nats": 0, "bits": 0}, "unit")
    clock = None if process is None else process_from_name(process)
    named = request.named(reduced=method != "monte-carlo")  # which draws in d dimensions
    key = jax.random.key(request.seed)
    with terminal.progress(1 + len(named.levels), request.quiet) as steps:
        steps.step("noise levels")
        grid = _grid(named, log_snr, points, key)
        curves: dict[str, EntropyCurve] = {}
        for level, partition in named.levels.items():
            steps.step(f"entropy, {level}", "draws")
            curves[level] = entropy_curve(
                named.mixture,
                grid,
                partition=partition,
                method=method,
                num_samples=request.num_samples,
                key=key,
                progress=steps,
            )
    numbers = {level: tables.read_off(one, clock) for level, one in curves.items()}
    table = tables.curve_table(numbers, [one.method for one in curves.values()])
    title = f"Class entropy of {request.mixture}"

    def write() -> tuple[Any, dict[str, Any]]:
        result = {"provenance": request.stamp(named), "curves": curves, "summary": numbers}
        if clock is not None:
            clocked = {level: tables.reachable(one, clock) for level, one in curves.items()}
            result["clock"] = {
                level: one and {"process": process, "times": one.times, "rate": one.rate}
                for level, one in clocked.items()
            }
        return _curve_report(title, named, curves, table, clock, unit), result

    terminal.finish({title: table}, write, request.out, request.quiet, note=PLUS_MINUS)


def _curve_report(
    title: str,
    named: "NamedMixture",
    curves: dict[str, "EntropyCurve"],
    table: tuple[list[str], list[list[str]]],
    clock: "DiffusionProcess | None",
    unit: str,
) -> Any:
    from gmm_speciation import plotting, speciation
    from gmm_speciation.cli import tables
    from gmm_speciation.reporting.report import Report
    from gmm_speciation.reporting.tables import PLUS_MINUS

    marks = {}
    if len(curves) == 1:
        ((level, only),) = curves.items()
        eigenvalue = speciation.between_class_eigenvalue(named.mixture, named.levels[level])
        marks = {
            "between-class spectral": speciation.spectral_point(eigenvalue),
            "half entropy": speciation.half_entropy_point(only),
        }
    report = Report(title).text(describe(named))
    report.figure(
        plotting.plot_curve(curves, clock, marks, unit),
        "curve",
        "Entropy of the class given the noisy state, and its rate per unit log-SNR, with 95 % bands. "
        "Noise grows to the right.",
    )
    report.explore(curves)
    report.text("## Summary").table(*table).text(PLUS_MINUS)
    clocked = (
        {level: tables.reachable(one, clock) for level, one in curves.items()} if clock else {}
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


def _grid(named: "NamedMixture", log_snr: str | None, points: int, key: Any) -> Any:
    import numpy as np

    from gmm_speciation.cli.mixtures import covering_grid

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
