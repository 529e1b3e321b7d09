"""`gmm-speciation benchmark`: estimators of the class entropy against each other and the truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gmm_speciation import terminal

# isort: split
import typer

from gmm_speciation.cli.options import app, check_place, stamp
from gmm_speciation.terminal import Quiet, Seed

if TYPE_CHECKING:
    from gmm_speciation.benchmark.summary import Summary

benchmark = typer.Typer(add_completion=False, rich_markup_mode=None)
app.add_typer(benchmark, name="benchmark", help="Rank estimators of H(C|X) where truth is known.")

OutDir = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Rows, report and CSV; resumed where it is.")
]


@benchmark.callback(invoke_without_command=True)
def sweep(
    context: typer.Context,
    profile: Annotated[str, typer.Option(help="demo (2 minutes) or full (hours).")] = "demo",
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only this task; or your own, added, as module:function. Repeatable."),
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(help="Only this estimator; or your own, added, as module:Class. Repeatable."),
    ] = None,
    num_samples: Annotated[
        str | None, typer.Option(metavar="N,…", help="Sample sizes instead of the profile's.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds, instead of the profile's.")
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Only the I-th of N parts of the sweep.")
    ] = "1/1",
    jobs: Annotated[int | None, typer.Option(help="Processes; one a core by default.")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler to run on instead.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=1.0, help="Seconds of a run, instead of the profile's.")
    ] = None,
    memory_limit: Annotated[float, typer.Option(min=500.0, help="MiB of a run.")] = 6000.0,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: OutDir = Path("out/benchmark"),
) -> None:
    """Run tasks x estimators x n x seed, a row each, and rank them; goes on where it stopped."""
    if context.invoked_subcommand is not None:
        return
    terminal.use_float64()
    from gmm_speciation.benchmark.isolation import Limits
    from gmm_speciation.benchmark.profiles import PROFILES
    from gmm_speciation.benchmark.selection import select
    from gmm_speciation.benchmark.summary import HEADERS, board, summarise
    from gmm_speciation.benchmark.sweep import sweep as run

    check_place(out)
    chosen = terminal.pick(profile, PROFILES, "profile")
    sizes = None if num_samples is None else terminal.numbers(num_samples, "--num-samples", int)
    wanted = select(chosen, task or [], estimator or [], sizes, seeds, seed)
    limits = Limits(time_limit or chosen.seconds, memory_limit)
    with terminal.progress(max(len(wanted), 1), quiet) as steps:
        steps.next("start")

        def report(done: int, total: int, row: dict[str, Any]) -> None:
            steps.next(f"{done} of {total}: {row['estimator']} on {row['task']}")

        rows = run(
            wanted,
            out,
            shard=_shard(shard),
            limits=limits,
            jobs=jobs,
            cluster=cluster,
            report=report,
        )
    summary = summarise(rows, out)
    title = f"Entropy estimators, {len(rows)} of {len(wanted)} runs"
    terminal.show(terminal.table(HEADERS, board(summary.standings), title=title), quiet)
    result = {"provenance": stamp(seed, {"profile": profile, "runs": len(rows)})}
    terminal.show(f"Report: {_write(summary, title, out, result)}", quiet)


@benchmark.command("list")
def list_all(quiet: Quiet = False) -> None:
    """The tasks and the estimators, with their sources and what they are told."""
    from gmm_speciation.benchmark.catalogue import TASKS
    from gmm_speciation.estimators.registry import ESTIMATORS

    rows = [[id, task.what] for id, task in TASKS.items()]
    terminal.show(terminal.table(["task", "what"], rows), quiet)
    rows = [
        [id, one.title, str(one.kind), str(one.access), one.reference]
        for id, one in ESTIMATORS.items()
    ]
    headers = ["estimator", "what", "kind", "knows", "source"]
    terminal.show(terminal.table(headers, rows), quiet)


def _shard(text: str) -> tuple[int, int]:
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"`--shard` takes I/N, such as 1/4; got {text!r}.")
    return int(parts[0]), int(parts[1])


def _write(summary: "Summary", title: str, out: Path, result: dict[str, Any]) -> Path:
    from gmm_speciation import plotting
    from gmm_speciation.benchmark.summary import LONG_HEADERS, failures, long_board, write_csv
    from gmm_speciation.reports import Report

    report = Report(title).text(
        "Errors are root mean squares over noise levels, seeds and tasks of H(C|X) against the truth, in "
        "nats or over H(C) of the task. *place* is the mean rank over tasks, where no result counts as "
        "last; compare estimators that know the same. A bound is not meant to have no error: its "
        "*violation* is the most by which it was on the wrong side."
    )
    report.table(LONG_HEADERS, long_board(summary.standings))
    report.figure(
        plotting.plot_heat_map(summary.errors, summary.standings, list(summary.tasks)),
        "heatmap",
        "Root mean square error over H(C); tasks across, estimators down, best on top.",
    )
    report.figure(
        plotting.plot_front(summary.standings),
        "front",
        "Cost against accuracy. Lines join the estimators that no other with the same knowledge beats in "
        "both.",
    )
    label = "RMSE of H  [nats]"
    if any(len(of) > 1 for of in summary.against_dimension.values()):
        report.figure(
            plotting.plot_against(
                summary.against_dimension,
                summary.standings,
                "dimension d, two equal classes",
                label,
            ),
            "dimension",
            "Error against the dimension, two equal classes.",
        )
    if any(len(of) > 1 for of in summary.against_size.values()):
        report.figure(
            plotting.plot_against(
                summary.against_size,
                summary.standings,
                "number of samples n",
                "RMSE of H over H(C)",
            ),
            "samples",
            "Error against the number of samples, over the tasks run at every size.",
        )
    missing = failures(summary.rows)
    if missing:
        report.text("## Without a result")
        report.table(["estimator", "status", "runs", "tasks", "first message"], missing)
    write_csv(summary, out)
    result |= {"leaderboard": [line._asdict() for line in summary.standings]}
    return report.write(out, result)
