"""`gmm-speciation benchmark estimate`, `export` and `score`: one's own samples, and answers from outside."""

from pathlib import Path
from typing import Annotated

import typer

from gmm_speciation.cli.benchmark import OutDir, benchmark
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.terminal import Quiet, Seed


@benchmark.command("estimate")
def estimate(
    data: Annotated[Path, typer.Argument(metavar="DATA.npz", help="Arrays x, labels and sigma.")],
    method: Annotated[list[str] | None, typer.Option(help="Estimators; repeatable.")] = None,
    clean: Annotated[bool, typer.Option(help="x is clean; its noise is added here.")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """H(C|X) of samples of your own, by estimators of the registry.

    The file holds x (n, d), or (T, n, d) of T noise levels, labels (n,) or (T, n), and sigma or log_snr
    (T,). An .npz of `benchmark export` will do.
    """
    import numpy as np

    terminal.use_float64()
    from gmm_speciation.curves import EntropyCurve
    from gmm_speciation.estimators.neighbours import entropy_of_prior
    from gmm_speciation.estimators.own_samples import estimate_class_entropy, trust_note
    from gmm_speciation.reading import read_arrays

    arrays = read_arrays(data, kinds="biufU")
    missing = [name for name in ("x", "labels") if name not in arrays]
    if missing:
        raise ValueError(f"{data.name} lacks {' and '.join(missing)}; it has {', '.join(arrays)}.")
    x, exported = arrays["x"], "format" in arrays
    known = ("x", "labels", "log_snr", "sigma", "prior")
    allowed = (*known, *(("format", "task", "access", "n", "seed", "alpha") if exported else ()))
    if unknown := [name for name in arrays if name not in allowed]:
        raise ValueError(
            f"{data.name} may hold {', '.join(allowed)}; it has {', '.join(unknown)}, too. Rename or drop it."
        )
    options = {name: arrays[name] for name in known[2:] if name in arrays}
    if exported:  # in units of unit total variance, which only its log-SNR is in
        options.pop("sigma")
        if clean and str(arrays["access"]) != "clean":
            raise ValueError(f"{data.name} holds noisy samples; leave --clean out.")
        clean = str(arrays["access"]) == "clean"
    rows: list[list[str]] = []
    for name in method or ["ross", "qda", "logistic"]:
        found = estimate_class_entropy(
            x, arrays["labels"], method=name, clean=clean, seed=seed, **options
        )
        shares = np.bincount(arrays["labels"].ravel()) / arrays["labels"].size
        prior_entropy = entropy_of_prior(np.asarray(options.get("prior", shares), float))
        if isinstance(found, EntropyCurve):
            entropy, levels = found.entropy, np.asarray(found.log_snr)
        else:
            sigma = np.asarray(options.get("sigma", np.nan))
            entropy, levels = found, options.get("log_snr", -2 * np.log(sigma))
        values, half = (np.atleast_1d(part) for part in (entropy.value, entropy.half_width()))
        note = trust_note(name, values, prior_entropy)
        rows += [
            [
                name if i == 0 else "",
                "—" if np.isnan(level) else f"{level + 0.0:.3f}",
                f"{value:.4f}",
                f"{min(max(value, 0.0), prior_entropy):.4f}",
                "—" if np.isnan(width) else f"± {width:.4f}",
                note if i == 0 else "",
            ]
            for i, (level, value, width) in enumerate(
                zip(np.atleast_1d(levels), values, half, strict=True)
            )
        ]
    headers = ["estimator", "log-SNR", "raw H(C|X), nats", "clipped", "95 %", "note"]
    terminal.show(terminal.table(headers, rows), quiet)


@benchmark.command("export")
def export_samples(
    task: Annotated[list[str], typer.Option(help="A task, or module:function. Repeatable.")],
    num_samples: Annotated[str, typer.Option("--num-samples", "--n", metavar="N,…")] = "256",
    access: Annotated[
        str,
        typer.Option(
            help="What an estimator is given: noisy (one draw at each noise level) or clean (samples of "
            "the data; it adds the known noise itself)."
        ),
    ] = "noisy",
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of each.")] = 1,
    form: Annotated[str, typer.Option("--format", help="npz, csv or parquet.")] = "npz",
    seed: Seed = 0,
    quiet: Quiet = False,
    out: OutDir = Path("out/samples"),
) -> None:
    """The samples that estimators are judged on, for one that is not in Python; format 1."""
    terminal.use_float64()
    from gmm_speciation.benchmark.exchange import export

    terminal.check_place(None, out)
    written = []
    for id in task:
        for number in terminal.numbers(num_samples, "--num-samples", int):
            for one in range(seed, seed + seeds):
                name = f"{id.replace(':', '-')}-{access}-n{number}-seed{one}.{form}"
                export(out / name, id, access, number, one)
                written.append(str(out / name))
    terminal.show("\n".join(written), quiet)


@benchmark.command("score")
def score_answers(
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS.csv …")],
    beside: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Folder of a sweep, or its cells.csv, to be ranked among."
        ),
    ] = None,
    quiet: Quiet = False,
    out: OutDir = Path("out/scores"),
) -> None:
    """Rank answers to exported samples, alone or among the estimators of a sweep.

    A line a level: task, access, n, seed, estimator, kind, level, entropy; and stderr, rate, seconds where
    known.
    """
    terminal.use_float64()
    from gmm_speciation.benchmark.exchange import read_answers
    from gmm_speciation.benchmark.rows import cell_of
    from gmm_speciation.benchmark.stored import draw_of, others
    from gmm_speciation.benchmark.summary import summarise
    from gmm_speciation.cli.boards import finish

    terminal.check_place(out)
    rows = [row for path in answers for row in read_answers(path)]
    own = set(map(cell_of, rows))
    if len(own) < len(rows):
        raise ValueError("An estimator answers a task, access, n and seed once, as one kind.")
    if beside is not None:
        theirs = others(beside, set(map(draw_of, rows)))
        rows += [row for row in theirs if cell_of(row) not in own]
    stamp = terminal.stamp(0, {"answers": [path.name for path in answers], "runs": len(rows)})
    finish(summarise(rows, out), "Entropy estimators on exported samples", stamp, out, quiet)
