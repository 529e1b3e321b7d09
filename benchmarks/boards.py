"""Pages of the boards of entropy estimators: from a folder of `gmm-speciation benchmark` into Markdown.

    gmm-speciation benchmark --profile full --out out/benchmark
    python benchmarks/boards.py

What the folder says is stored in `results/` (`boards.json`, and every cell in `cells.csv.xz`); the boards and
the findings of README.md, `methods.md` with a section an estimator and `tasks.md` with a section a task are
rendered from there alone, and can be made again at any time without measuring.
"""

import csv
import io
import json
import lzma
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from estimators import digits, made, markdown, place, share, store
from findings import Errors, Side, findings

from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.benchmark.summary import ACCESSES, letter
from gmm_speciation.benchmark.truth import truth
from gmm_speciation.estimators.registry import ESTIMATORS, LEARNED, LEFT_OUT
from gmm_speciation.reporting import terminal

HERE = Path(__file__).parent
_BARS = "▁▂▃▄▅▆▇█"
Lines = Sequence[Mapping[str, Any]]
app = typer.Typer(name="boards", add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder of the sweep.")] = Path("out/benchmark"),
    results: Annotated[Path, typer.Option(help="Where results are stored.")] = HERE / "results",
    page: Annotated[Path, typer.Option(help="Gets the boards.")] = HERE / "README.md",
) -> None:
    """Store what there is, and render what is stored."""
    if (out / "result.json").exists():
        results.mkdir(parents=True, exist_ok=True)
        store(out / "result.json", results / "boards.json")
        (results / "cells.csv.xz").write_bytes(lzma.compress((out / "cells.csv").read_bytes()))
    stored = json.loads((results / "boards.json").read_text(encoding="utf-8"))
    with lzma.open(results / "cells.csv.xz", "rt", encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    runs = errors_by_run(cells)
    errors = {
        side: {
            task: float(np.sqrt(np.mean(np.square(list(of.values()))))) for task, of in own.items()
        }
        for side, own in runs.items()
    }
    place(page, "extent", extent(cells))
    place(page, "findings", findings(runs))
    place(page, "boards", boards(stored))
    split = json.loads((results / "minde.json").read_text(encoding="utf-8"))
    methods = estimator_pages(stored, errors, {"minde": minde(split)})
    page.with_name("methods.md").write_text(methods, encoding="utf-8")
    page.with_name("tasks.md").write_text(task_pages(stored, errors), encoding="utf-8")


def boards(content: Mapping[str, Any]) -> str:
    """Every access and kind, a column a number of samples; a letter is a group."""
    text = io.StringIO()
    text.write(f"{made(content)} {content['processor seconds']:,} processor seconds in all.\n")
    lines: Lines = content["boards"]
    for access, kind in dict.fromkeys((line["access"], line["kind"]) for line in lines):
        own = [line for line in lines if (line["access"], line["kind"]) == (access, kind)]
        sizes = sorted({line["n"] for line in own})
        names = [line["estimator"] for line in own if line["n"] == sizes[-1]]
        names += sorted({line["estimator"] for line in own} - set(names))
        at = {(line["estimator"], line["n"]): line for line in own}
        rows = [
            [f"`{name}`", *(cell(at.get((name, n))) for n in sizes), *last(at, name, sizes)]
            for name in names
        ]
        headers = ["estimator", *(f"n = {n:,}" for n in sizes), "s", "tasks", "no result"]
        text.write(f"\n**{ACCESSES[access]}, {kind}s**\n\n{markdown(headers, rows, 1)}\n")
    return text.getvalue()


def cell(line: Mapping[str, Any] | None) -> str:
    """`a 0.012 (0.008 to 0.02)`."""
    if line is None:
        return "—"
    if float(line["error"]) == np.inf:
        return f"{letter(line['group'])} no result"
    shown = f"{letter(line['group'])} {digits(line['error'], 2)}"
    if line["low"] is None:
        return shown
    ends = ["∞" if float(line[end]) == np.inf else digits(line[end], 2) for end in ("low", "high")]
    return f"{shown} ({ends[0]} to {ends[1]})"


def last(at: Mapping[tuple[str, int], Mapping[str, Any]], name: str, sizes: list[int]) -> list[str]:
    """Seconds, tasks, and runs without a result, where it ran with the most samples."""
    line = next(at[name, n] for n in reversed(sizes) if (name, n) in at)
    lost = f"{line['timed_out']} timed out, {line['failed']} failed"
    return [digits(line["seconds"], 2), str(line["tasks"]), lost]


def extent(cells: Iterable[Mapping[str, str]]) -> str:
    """What was run, a row a number of samples, those that train a network apart."""
    first = [one for one in cells if one["level"] in ("", "0")]
    rows = []
    for n in sorted({int(one["n"]) for one in first}):
        for learned, label in ((False, "no network"), (True, "networks")):
            own = [
                one
                for one in first
                if int(one["n"]) == n and (one["estimator"] in LEARNED) == learned
            ]
            if not own:
                continue
            seeds = Counter((one["task"], one["estimator"], one["access"]) for one in own)
            few, many = min(seeds.values()), max(seeds.values())
            hours = sum(float(one["seconds"] or 0) for one in own) / 3600
            rows.append(
                [
                    f"{n:,}, {label}",
                    str(len({one["estimator"] for one in own})),
                    str(len({one["task"] for one in own})),
                    str(many) if few == many else f"{few} to {many}",
                    f"{len(own):,}",
                    str(sum(one["status"] not in ("ok", "not-applicable") for one in own)),
                    f"{hours:.2f}",
                ]
            )
    headers = ["n", "estimators", "tasks", "seeds", "runs", "without a result", "processor hours"]
    return markdown(headers, rows, 1)


def errors_by_run(cells: Iterable[Mapping[str, str]]) -> Errors:
    """Relative errors by (estimator, access, n), task and seed; infinite where a run has no result."""
    squares: dict[Side, dict[str, dict[int, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for one in cells:
        if one["status"] == "not-applicable":
            continue
        off = np.inf
        if one["status"] == "ok":
            said = one.get("counted") or one["clipped"]  # the same in files without violations
            off = (float(said) - float(one["truth"])) / float(one["prior_entropy"])
        side = Side(one["estimator"], one["access"], int(one["n"]))
        squares[side][one["task"]][int(one["seed"])].append(off**2)
    return {
        side: {
            task: {seed: float(np.sqrt(np.mean(values))) for seed, values in of.items()}
            for task, of in own.items()
        }
        for side, own in squares.items()
    }


def estimator_pages(
    content: Mapping[str, Any],
    errors: Mapping[tuple[str, str, int], Mapping[str, float]],
    more: Mapping[str, str],
) -> str:
    """A section an estimator: what it is told, what it costs, where it wins and where it fails.

    `more` is what else is known of some.
    """
    parts = [
        "# Every estimator\n\nMade by `benchmarks/boards.py` from `results/`; errors are over H(C).\n"
    ]
    lines: Lines = content["boards"]
    for name, one in ESTIMATORS.items():
        told = ", ".join(ACCESSES[str(access)] for access in one.boards())
        article = "an" if str(one.kind)[0] in "eu" else "a"
        parts.append(
            f"## {name}\n\n{one.title}: {article} {one.kind}. Told: {told}. {one.reference}.\n"
        )
        own = [line for line in lines if line["estimator"] == name]
        if not own:
            parts.append("Not in the stored run.\n")
            continue
        rows = [
            [
                line["access"],
                f"{line['n']:,}",
                cell(line),
                share(line["inside"]),
                digits(line["violation"], 2),
                digits(line["seconds"], 2),
                *ends(errors.get((name, line["access"], line["n"]), {})),
            ]
            for line in own
        ]
        headers = ["access", "n", "error", "inside 95 %", "violation", "s", "best on", "worst on"]
        parts.append(markdown(headers, rows, 1) + "\n")
        parts += [more[name]] if name in more else []
    return "\n".join([*parts, f"## Not here\n\n{LEFT_OUT}\n"])


def minde(content: Mapping[str, Any]) -> str:
    """What MINDE integrates, in parts, a row a task (see `minde.py`)."""
    names = list(next(iter(content["parts"].values())))
    rows = [
        [task, *(f"{part:.2f}".replace("-", "−") for part in (*of.values(), sum(of.values())))]
        for task, of in content["parts"].items()
    ]
    return (
        "What it integrates up to the cleanest level, in parts, over H(C): the true gap g, the squared "
        "errors of its output with the label and without it, minus twice their product, and twice that of "
        "g with their difference; the sum is what it says. n = "
        f"{content['provenance']['arguments']['num_samples']}, the networks of the benchmark.\n\n"
        f"{markdown(['task', *names, 'sum'], rows, 1)}\n"
    )


def ends(of: Mapping[str, float]) -> list[str]:
    """The task with the least error, and the one with the most."""
    if not of:
        return ["—", "—"]
    named = [
        (task, f"{task} {error:.2g}" if np.isfinite(error) else task) for task, error in of.items()
    ]
    best, worst = min(named, key=lambda x: of[x[0]])[1], max(named, key=lambda x: of[x[0]])[1]
    return [best, worst if np.isfinite(max(of.values())) else f"{worst}: no result"]


def task_pages(
    content: Mapping[str, Any], errors: Mapping[tuple[str, str, int], Mapping[str, float]]
) -> str:
    """A section a task: its curve, how its truth is known, and who is nearest."""
    estimates = {line["estimator"] for line in content["boards"] if line["kind"] == "estimate"}
    parts = [
        "# Every task\n\nMade by `benchmarks/boards.py` from the shipped truths and `results/`. A bar is "
        "H(C|X) at one of 16 noise levels, from signal to noise, a full one H(C).\n"
    ]
    for id, task in TASKS.items():
        curve = truth(task)
        shares = np.asarray(curve.entropy.value) / curve.prior_entropy
        bars = "".join(_BARS[int(np.clip(share * 8, 0, 7))] for share in shares)
        known = float(np.max(curve.entropy.half_width()))
        how = (
            "an exact integral" if known == 0 else f"{curve.method}, within {known:.1g} nats (95 %)"
        )
        parts.append(
            f"## {id}\n\n{task.what[0].upper()}{task.what[1:]}. Family: {task.family}; from "
            f"{task.min_samples:,} samples; H(C) = {curve.prior_entropy:.4g} nats. Truth: {how}.\n\n"
            f"`{bars}` log-SNR {curve.log_snr[0]:.3g} to {curve.log_snr[-1]:.3g}\n"
        )
        rows = []
        for access, label in ACCESSES.items():
            sizes = [n for (_, a, n), of in errors.items() if a == access and id in of]
            if not sizes:
                continue
            n = max(sizes)
            ranked = sorted(
                (of[id], name)
                for (name, a, size), of in errors.items()
                if (a, size) == (access, n) and id in of and name in estimates
            )
            shown = ", ".join(
                f"`{name}` {error:.2g}" for error, name in ranked[:3] if np.isfinite(error)
            )
            rows.append([label, f"{n:,}", shown])
        if rows:
            parts.append(
                markdown(["access", "n", "nearest estimates, error over H(C)"], rows, 3) + "\n"
            )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(terminal.run(app))
