"""Speed and accuracy of the theory, against the bare matrix product and against other libraries.

Results go to `speed-<device>.json` in the output folder, and from there into `speed.md`. Run it on an
idle machine: `make bench`.
"""

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import jax

jax.config.update("jax_enable_x64", True)

import accuracy  # noqa: E402
import others  # noqa: E402
import products  # noqa: E402
import sweeps  # noqa: E402
import tables  # noqa: E402
import typer  # noqa: E402
from cases import Row, Sizes  # noqa: E402

from gmm_speciation.reporting import records, terminal  # noqa: E402

HERE = Path(__file__).parent
app = typer.Typer(name="speed", add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = HERE / "results",
    quick: Annotated[
        bool, typer.Option("--quick", help="Small arrays: a test of the code.")
    ] = False,
    rows: Annotated[
        str, typer.Option(help="Only rows whose name contains one of these texts (commas between).")
    ] = "",
    repeats: Annotated[int | None, typer.Option(min=1, help="Pairs a row, at most.")] = None,
    render: Annotated[bool, typer.Option("--render", help="Only make the tables again.")] = False,
) -> None:
    """Measure, store after every row, and show. Other stored rows of this machine are kept."""
    out.mkdir(parents=True, exist_ok=True)
    if not render:
        measure(out, Sizes.quick() if quick else Sizes(), rows, repeats)
    tables.write(out)


def measure(out: Path, sizes: Sizes, only: str, repeats: int | None) -> None:
    """Measure the chosen rows and store them."""
    if repeats is not None:
        effort = asdict(sizes.effort) | {"num_pairs": repeats}
        sizes = Sizes(**{**vars(sizes), "effort": type(sizes.effort)(**effort)})
    words = [word.strip() for word in only.split(",")]
    wanted = lambda name: any(word in name for word in words)  # noqa: E731
    subjects = (products, sweeps, others)
    existing = [row for subject in subjects for row in subject.rows(sizes)]
    chosen = [row for row in existing if wanted(row.name)]
    with_accuracy = wanted("accuracy")
    if not chosen and not with_accuracy:
        raise ValueError(f"No row's name contains {only!r}.")
    mark = stamp(sizes)
    if mark["load"] > mark["cores"] / 2:
        print(
            f"The machine is busy (load {mark['load']:.1f}): timings will be off.", file=sys.stderr
        )
    device = jax.devices()[0].device_kind.lower().replace(" ", "-")
    path = out / f"speed-{device}.json"
    content: dict[str, Any] = {"stamp": mark, "rows": [], "accuracy": []}

    def keep() -> None:  # after every row: what is killed loses one
        text = json.dumps(merged(path, content, existing), indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")

    for index, row in enumerate(chosen):
        content["rows"].append(found := record(row, mark))
        line = f"[{index + 1}/{len(chosen)}] {row.name}"
        print(f"{line}: {tables.number(found)} {found['failure']}", file=sys.stderr)
        keep()
    if with_accuracy:
        print("accuracy", file=sys.stderr)
        for error in accuracy.errors(sizes.accuracy_samples, sizes.accuracy_dims):
            content["accuracy"].append(records.to_json(asdict(error)))
        keep()
    show(content)


def record(row: Row, mark: dict[str, Any]) -> dict[str, Any]:
    """What is stored of a row: its measurement, or why there is none."""
    start = time.perf_counter()
    fields: dict[str, Any] = {
        "section": row.section,
        "work": row.work,
        "case": row.case,
        "against": row.against,
        "target": row.target,
        "unit": row.unit,
        "at_least": row.at_least,
        "reason": row.reason,
        "date": mark["date"],
        "commit": mark["commit"],
        "value": None,
        "failure": "",
    }
    try:
        fields |= asdict(row.measure())
    except others.Unavailable as reason:
        fields["failure"] = str(reason)
    except Exception as error:  # a failing row is a result; the others go on
        fields["failure"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return records.to_json(fields | {"total_seconds": time.perf_counter() - start})


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["section"], row["work"], row["case"], row["against"]


def merged(path: Path, content: dict[str, Any], existing: list[Row]) -> dict[str, Any]:
    """The stored rows of the same machine, versions and sizes, with the new ones in their place."""
    if not path.exists():
        return content
    old = json.loads(path.read_text(encoding="utf-8"))
    if any(
        old["stamp"][key] != content["stamp"][key] for key in ("versions", "processor", "sizes")
    ):
        return content
    stored = {_key(row): row for row in [*old["rows"], *content["rows"]]}
    keys = [(row.section, row.work, row.case, row.against) for row in existing]
    rows = [stored[key] for key in keys if key in stored]
    return {
        "stamp": content["stamp"],
        "rows": rows,
        "accuracy": content["accuracy"] or old["accuracy"],
    }


def stamp(sizes: Sizes) -> dict[str, Any]:
    """Machine, versions, sizes, date and commit."""
    shared = records.provenance(
        command="speed", packages=("scikit-learn", "torch", "numpyro", "gmmx")
    )
    git = lambda *words: subprocess.run(  # noqa: E731
        ["git", *words], capture_output=True, text=True, cwd=HERE
    ).stdout.strip()
    changed = "+" if git("status", "--porcelain", "--", "../gmm_speciation", ".") else ""
    return {
        "date": shared["date"],
        "commit": (git("rev-parse", "--short", "HEAD") or "unknown") + changed,
        "device": jax.devices()[0].device_kind,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "platform": shared["platform"],
        "precision": "jax.lax.Precision.HIGHEST",
        "versions": shared["versions"],
        "n": sizes.num_samples,
        "sizes": records.to_json(asdict(sizes)),
    }


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def show(content: dict[str, Any]) -> None:
    """The results as tables on the terminal."""
    rows = content["rows"]
    own = [row for row in rows if row["section"] != tables.SIDE_BY_SIDE]
    lines, work = [], None
    for row in own:
        if row["work"] != work:  # a line of its own, over its cases
            lines.append([work := row["work"], "", "", "", ""])
        against = f" / {row['against']}" if row["against"] else ""
        call = f"{row['seconds'] * 1e3:.3g} ms" if row.get("seconds") else ""
        figures = [tables.number(row), tables.target(row), tables.verdict(row), call]
        lines.append([f"  {row['case']}{against}", *figures])
    headers = ["work", "measured", "target", "held", "one call"]
    if own:
        terminal.show(terminal.table(headers, lines, "against the products"))
    for title, corner, (columns, cells) in (
        (
            "time of a posterior over the product",
            "work",
            tables.side_by_side(row for row in rows if row["section"] == tables.SIDE_BY_SIDE),
        ),
        ("largest error of float32 posteriors", "d, offset", tables.accuracy(content["accuracy"])),
    ):
        if cells:
            terminal.show(terminal.table([corner, *columns], cells, title))


if __name__ == "__main__":
    sys.exit(terminal.run(app))
