"""`gmm-speciation benchmark`: estimators of the class entropy against each other and the truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmm_speciation.cli.options import app
from gmm_speciation.lookup import pick
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.tables import Table
from gmm_speciation.reporting.terminal import Quiet, Seed

if TYPE_CHECKING:
    from typer import Context

if not TYPE_CHECKING:
    Context = typer.Context.__base__  # what typer hands over, though it asks for its subclass

benchmark = terminal.Application(rich_markup_mode=None)
app.add_typer(benchmark, name="benchmark", help="Rank estimators of H(C|X) where truth is known.")

OutDir = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Rows, report and CSV; resumed where it is.")
]


@benchmark.callback(
    invoke_without_command=True,
    examples="""
gmm-speciation benchmark  # two minutes on two cores
gmm-speciation benchmark --estimator mine:Mine --estimator qmc --task pair-d16
gmm-speciation benchmark --profile full --shard 1/4 --out out/full
""",
)
def sweep(
    context: Context,
    profile: Annotated[
        str, typer.Option(help="demo (2 minutes), small (half an hour) or full (days).")
    ] = "demo",
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only this task; or your own, added, as module:function. Repeatable."),
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(help="Only this estimator; or your own, added, as module:Class. Repeatable."),
    ] = None,
    access: Annotated[
        list[str] | None,
        typer.Option(help="Only this board: noisy, clean, scores or mixture. Repeatable."),
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
        float | None,
        typer.Option(
            min=1.0,
            help="Processor seconds of a run of 256 samples, in proportion above; not the profile's.",
        ),
    ] = None,
    memory_limit: Annotated[float, typer.Option(min=500.0, help="MiB of a run.")] = 6000.0,
    kept: Annotated[bool, typer.Option("--kept", help="Rank the runs that are there.")] = False,
    beside: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Rank them among those of another sweep: its folder or cells.csv."
        ),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: OutDir = Path("out/benchmark"),
) -> None:
    """Run tasks x estimators x n x seed, a row each, and rank them on boards of one access and kind.

    Goes on where it stopped.

    Exits with 1 where an estimator has no result because its code failed.
    """
    if context.invoked_subcommand is not None:
        return
    terminal.use_float64()
    from gmm_speciation.benchmark.cells import task_of
    from gmm_speciation.benchmark.isolation import Limits
    from gmm_speciation.benchmark.profiles import PROFILES
    from gmm_speciation.benchmark.rows import cell_of
    from gmm_speciation.benchmark.selection import select
    from gmm_speciation.benchmark.stored import others
    from gmm_speciation.benchmark.summary import FAILURE_HEADERS, broken, failures, summarise
    from gmm_speciation.benchmark.sweep import sweep as run
    from gmm_speciation.benchmark.truth import truth
    from gmm_speciation.cli.boards import finish

    terminal.check_place(out)
    chosen = pick(profile, PROFILES, "profile")
    sizes = None if num_samples is None else terminal.numbers(num_samples, "--num-samples", int)
    wanted = select(chosen, task or [], estimator or [], sizes, seeds, seed, access or [])
    for id in {cell.task for cell in wanted if ":" in cell.task}:
        truth(task_of(id), out / "truths")  # what cannot be judged is found before the work
    limits = Limits(time_limit or chosen.seconds, memory_limit)
    draws = {(cell.task, cell.access, cell.num_samples, cell.seed) for cell in wanted}
    theirs = [] if beside is None else others(beside, draws)
    with terminal.progress(quiet=quiet) as bar:
        bar.step("estimators")
        rows = run(
            wanted,
            out,
            shard=_shard(shard),
            limits=limits,
            jobs=jobs,
            cluster=cluster,
            kept=kept,
            progress=bar,
        )
    lost, number = broken(rows), len(rows)
    own = set(map(cell_of, rows))
    rows += [row for row in theirs if cell_of(row) not in own]
    failed = {"Failed": Table(FAILURE_HEADERS, failures(lost))}
    if lost and all(row["status"] != "ok" for row in rows):
        terminal.finish(failed, None, None, quiet)
        raise typer.Exit(1)
    arguments = {"profile": profile, "runs": number, "seconds of 256 samples": limits.seconds}
    title = f"Entropy estimators, {number} of {len(wanted)} runs"
    if beside is not None:
        title += f", and {len(rows) - number} of {beside.name}"
        arguments["beside"] = str(beside)
    finish(summarise(rows, out), title, terminal.stamp(seed, arguments), out, quiet, failed)
    if lost:
        raise typer.Exit(1)


@benchmark.command("list", examples="gmm-speciation benchmark list --json")
def list_all(quiet: Quiet = False) -> None:
    """The tasks and the estimators, with their sources and what they are told."""
    from gmm_speciation.benchmark.catalogue import TASKS
    from gmm_speciation.estimators.registry import ESTIMATORS, LEFT_OUT

    tasks = Table(["task", "what"], [[id, task.what] for id, task in TASKS.items()])
    headers = ["estimator", "what", "kind", "knows", "source"]
    rows = [
        [id, one.title, str(one.kind), str(one.access), one.reference]
        for id, one in ESTIMATORS.items()
    ]
    estimators = Table(headers, rows)
    record = {
        name: [dict(zip(table.headers, row, strict=True)) for row in table.rows]
        for name, table in (("tasks", tasks), ("estimators", estimators))
    }
    tables = {"Tasks": tasks, "Estimators": estimators}
    terminal.finish(tables, lambda: (None, record), None, quiet, note=LEFT_OUT)


@benchmark.command(
    "coverage", examples="gmm-speciation benchmark coverage --estimator qmc --seeds 50"
)
def coverage(
    estimator: Annotated[
        list[str] | None, typer.Option(help="Only these; all that claim an interval by default.")
    ] = None,
    num_samples: Annotated[int, typer.Option(min=8, help="Samples of a run.")] = 256,
    seeds: Annotated[int, typer.Option(min=2, help="Runs a task.")] = 100,
    jobs: Annotated[int | None, typer.Option(help="Processes; one a core by default.")] = None,
    learned: Annotated[bool, typer.Option(help="Those that train a network, too.")] = True,
    quiet: Quiet = False,
    out: OutDir = Path("out/benchmark-coverage"),
) -> None:
    """How often 95 % intervals hold the truth: four tasks, many seeds, a joint binomial test."""
    terminal.use_float64()
    from gmm_speciation.benchmark.cells import cells, task_of
    from gmm_speciation.benchmark.coverage import HEADERS, TASKS, long_table, table
    from gmm_speciation.benchmark.coverage import coverage as measured
    from gmm_speciation.benchmark.sweep import sweep as run
    from gmm_speciation.benchmark.truth import truth
    from gmm_speciation.estimators.registry import CLAIMING, LEARNED
    from gmm_speciation.reporting.report import Report

    terminal.check_place(out)
    names = estimator or [name for name in CLAIMING if learned or name not in LEARNED]
    wanted = list(
        {
            (one.task, one.estimator, one.seed): one  # the board with the most that it may know
            for one in cells(TASKS, names, [num_samples], range(seeds))
        }.values()
    )
    with terminal.progress(quiet=quiet) as bar:
        bar.step("estimators")
        rows = run(wanted, out, jobs=jobs, progress=bar)
    found = measured(rows, {id: truth(task_of(id)) for id in TASKS})
    judged = {one.task for one in wanted}
    late = "".join(
        f"; {id} begins at {task_of(id).min_samples} samples" for id in TASKS if id not in judged
    )
    title = f"Coverage of 95 % intervals: hits of {seeds} on {', '.join(TASKS)}{late}"
    report = Report("Coverage of 95 % intervals").text(
        f"Hits and mean error in nats with its 95 % interval; n = {num_samples}, {seeds} seeds a task, at "
        "the level where half of H(C) is left. p: joint two-sided binomial test of 95 % over all runs, "
        "rejected below 1 %. *Biased*: the mean error of a task is more than four standard errors "
        "from zero. Estimators that train a network need not pass."
    )
    result = {
        "provenance": terminal.stamp(0, {"num_samples": num_samples, "seeds": seeds}),
        "coverage": [one._asdict() for one in found],
    }
    report.table(*long_table(found))
    terminal.finish({title: Table(HEADERS, table(found))}, lambda: (report, result), out, quiet)


@benchmark.command(
    "log-law", examples="gmm-speciation benchmark log-law --dims 16,64 --seeds 3 --steps 500"
)
def log_law(
    dims: Annotated[str, typer.Option(metavar="D,…", help="Dimensions.")] = "8,16,64,256,1024,4096",
    seeds: Annotated[int, typer.Option(min=2, help="Networks a dimension.")] = 5,
    steps: Annotated[int, typer.Option(min=50, help="Training steps of a network.")] = 2000,
    paths: Annotated[int, typer.Option(min=64, help="Paths that it is measured on.")] = 512,
    family: Annotated[
        str | None, typer.Option(help="separated-means or equal-means; both by default.")
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: OutDir = Path("out/log-law"),
) -> None:
    """Speciation times of trained networks against log d; weights are kept, training resumes."""
    import numpy as np

    terminal.use_float64()
    from gmm_speciation.benchmark.log_law import FAMILIES, Settings, measure_log_law, predictions
    from gmm_speciation.reporting.claims import verdict

    terminal.check_place(out)
    numbers = terminal.numbers(dims, "--dims", int)
    names = {name.replace(" ", "-"): name for name in FAMILIES}
    chosen = list(FAMILIES) if family is None else [pick(family, names, "family")]
    for name in chosen:
        predictions(name, numbers)  # what has no speciation time is found before the work
    found = {}
    with terminal.progress(len(chosen) * len(numbers) * seeds, quiet) as bar:
        for name in chosen:
            laws = measure_log_law(
                name,
                numbers,
                range(seed, seed + seeds),
                settings=Settings(steps, paths=paths),
                cache=out / "trained",
                progress=bar,
            )
            found.update({f"{law.family}, {law.point}": law for law in laws})
    headers = ["", "d", "predicted t", "measured t", "± 95 %, seeds"]
    rows = [
        [
            name if i == 0 else "",
            f"{dim:g}",
            *(f"{x:.4f}" if np.isfinite(x) else "—" for x in (p, m, e)),
        ]
        for name, law in found.items()
        for i, (dim, p, m, e) in enumerate(
            zip(law.dims, law.predicted, law.means.value, law.means.half_width(), strict=True)
        )
    ]
    slopes = [
        [
            name,
            f"{law.law:g}",
            f"{law.predicted_slope:.4f}",
            f"{law.slope:.4f}",
            f"{law.interval[0]:.4f} … {law.interval[1]:.4f}",
            verdict(law.interval, (law.law - 0.05, law.law + 0.05)),
        ]
        for name, law in found.items()
    ]
    titles = ["slope of t over log d", "law", "predicted", "measured", "95 %", "within 0.05"]
    tables = {"Speciation of trained networks": Table(headers, rows), "": Table(titles, slopes)}
    arguments = {"dims": numbers, "seeds": seeds, "steps": steps, "paths": paths}
    result = {
        "provenance": terminal.stamp(seed, arguments),
        "laws": {name: law._asdict() for name, law in found.items()},
    }
    terminal.finish(tables, lambda: (_log_law_report(found, *tables.values()), result), out, quiet)


def _log_law_report(found: Any, times: Any, slopes: Any) -> Any:
    from gmm_speciation import plotting
    from gmm_speciation.reporting.report import Report

    report = Report("The logarithmic law from trained networks").text(
        "Peak of dH/dt on the Ornstein-Uhlenbeck clock. Measured: class-conditional denoisers, trained on "
        "labelled draws and told nothing of the mixture, tracked on draws held out. Predicted: the exact "
        "curve at the same d. Slopes by least squares over all networks; intervals are Student's, of the "
        "seeds of each dimension. A dash: the rate of a network is largest at the end of its window, where "
        "it is error, so there is no peak, or the network never tells half of H(C); the slope leaves that "
        "dimension out."
    )
    report.table(*slopes).table(*times)
    return report.figure(
        plotting.plot_log_law(list(found.values())),
        "log-law",
        "Speciation times of trained networks and of the exact distribution; below, their difference.",
    )


def _shard(text: str) -> tuple[int, int]:
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"`--shard` takes I/N, such as 1/4; got {text!r}.")
    return int(parts[0]), int(parts[1])
