"""`gmm-speciation times`: every criterion of speciation, one table a level of classes."""

from typing import Annotated, Any

import typer

from gmm_speciation.cli.options import CLOCKS, MixtureRequest, app, describe
from gmm_speciation.reporting import terminal


@app.command(
    examples="""
gmm-speciation times symmetric-pair --dim 256
gmm-speciation times hierarchy --branching 2,3 --distances 12,3 --dim 32
gmm-speciation times equidistant --num-classes 100 --process sd  # times of Stable Diffusion's steps
"""
)
@terminal.with_options(MixtureRequest)
def times(
    request: MixtureRequest,
    *,
    process: Annotated[str, typer.Option(help=f"Whose times: {CLOCKS}.")] = "ou",
) -> None:
    """Speciation by every criterion: log-SNR, noise scale and time; one table a level of classes."""
    terminal.use_float64()
    import jax

    from gmm_speciation.cli import tables
    from gmm_speciation.cli.mixtures import process_from_name
    from gmm_speciation.reporting.tables import ERRORS, PLUS_MINUS
    from gmm_speciation.speciation import speciation_times

    terminal.check_place(request.out)
    clock = process_from_name(process)
    named = request.named()
    criteria = {}
    above = None
    with terminal.progress(len(named.levels), request.quiet) as steps:
        for level, partition in named.levels.items():
            steps.step(f"criteria, {level}")
            criteria[level] = speciation_times(
                named.mixture,
                partition=partition,
                parents=above,
                num_samples=request.num_samples,
                key=jax.random.key(request.seed),
            )
            above = partition
    shown = tables.times_tables(criteria, clock)

    def write() -> tuple[Any, dict[str, Any]]:
        from gmm_speciation import plotting
        from gmm_speciation.reporting.report import Report

        report = Report(f"Speciation of {request.mixture}").text(describe(named))
        for number, (level, table) in enumerate(shown.items(), start=1):
            picture = plotting.plot_curve(criteria[level].curve, clock, criteria[level])
            report.text(f"## {level}").table(*table).text(PLUS_MINUS)
            report.figure(picture, f"level-{number}", f"Criteria on the entropy curve, {level}.")
        result = {
            "provenance": request.stamp(named),
            "process": process,
            "criteria": tables.times_result(criteria, clock),
            "curves": {level: one.curve for level, one in criteria.items()},
        }
        return report, result

    titled = {f"{request.mixture}, {level}": table for level, table in shown.items()}
    terminal.finish(titled, write, request.out, request.quiet, note=ERRORS, narrow=True)
