"""Tables of coverage and of the log law: from the folders of two commands into their page.

    gmm-speciation benchmark coverage --out out/benchmark-coverage
    gmm-speciation benchmark log-law --out out/log-law
    python benchmarks/estimators.py

What the folders say is stored in `results/`; the tables are rendered from there alone, so they can be
made again at any time without measuring: `make bench-estimators`.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gmm_speciation.reporting import terminal

HERE = Path(__file__).parent
STORED = {
    "benchmark-coverage": "coverage-cpu.json",
    "log-law": "log-law-cpu.json",
}
Content = Mapping[str, Any]
app = typer.Typer(name="estimators", add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder of the two commands' folders.")] = Path("out"),
    results: Annotated[Path, typer.Option(help="Where results are stored.")] = HERE / "results",
    page: Annotated[Path, typer.Option(help="Gets the tables.")] = HERE / "README.md",
) -> None:
    """Store what there is, and render what is stored."""
    results.mkdir(parents=True, exist_ok=True)
    for folder, name in STORED.items():
        if (out / folder / "result.json").exists():
            store(out / folder / "result.json", results / name)
    stored = {
        folder: json.loads((results / name).read_text(encoding="utf-8"))
        for folder, name in STORED.items()
        if (results / name).exists()
    }
    if "benchmark-coverage" in stored:
        place(page, "coverage", coverage(stored["benchmark-coverage"]))
    if "log-law" in stored:
        place(page, "log-law", log_law(stored["log-law"]))


def store(source: Path, target: Path) -> None:
    """A result without the place where it was made."""
    content = json.loads(source.read_text(encoding="utf-8"))
    origin = content["provenance"]
    origin["command"] = re.sub(r" --out \S+", "", origin["command"] or "")
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def place(file: Path, name: str, text: str) -> None:
    """Put a table between the marks of its name.

    Raises:
        ValueError: If the marks are not there, once each and in order.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, *rest = file.read_text(encoding="utf-8").split(begin)
    parts = rest[0].split(end) if len(rest) == 1 else []
    if len(parts) != 2:
        raise ValueError(
            f"{str(file)!r} must hold the lines {begin!r} and {end!r}, once each, where the table belongs; "
            "add them."
        )
    file.write_text(f"{before}{begin}\n{text.strip()}\n{end}{parts[1]}", encoding="utf-8")


def coverage(content: Content) -> str:
    """Hits and biases of every estimator that claims an interval."""
    lines = content["coverage"]
    tasks = list(lines[0]["runs"])
    rows = []
    for line in lines:
        cells = [
            f"{line['hits'][t]}/{line['runs'][t]}, {signed(line['bias'][t], 4)}"
            if t in line["runs"]
            else "—"
            for t in tasks
        ]
        p = f"{line['p_value']:.1g}" if line["p_value"] > 1e-99 else "< 1e-99"
        rows.append([f"`{line['estimator']}`", *cells, share(line["share"], 1), p, line["verdict"]])
    headers = ["estimator", *tasks, "all", "p", "95 %"]
    return f"{made(content)}\n\n{markdown(headers, rows, text=1)}"


def log_law(content: Content) -> str:
    """Slopes with their intervals, and times by dimension."""
    laws = content["laws"]
    rows = [
        [
            name,
            f"{law['law']:g}",
            f"{law['predicted_slope']:.4f}",
            f"{law['slope']:.4f}",
            f"{law['interval'][0]:.4f} to {law['interval'][1]:.4f}",
        ]
        for name, law in laws.items()
    ]
    headers = ["slope of t over log d", "law", "exact at these d", "networks", "95 %"]
    slopes = markdown(headers, rows, text=1)
    dims = next(iter(laws.values()))["dims"]
    shifts = [
        markdown(
            [f"{what} of networks − exact", *(f"d = {dim:g}" for dim in dims)],
            [
                [name, *map(partial(late, of), law["measured"], law["predicted"])]
                for name, law in laws.items()
            ],
            text=1,
        )
        for what, of in (("t", float), ("log-SNR", log_snr))
    ]
    return "\n\n".join([made(content), slopes, *shifts])


def late(of: Callable[[float], float], seeds: Sequence[float | None], exact: float) -> str:
    """A function of the time, mean over the seeds minus exact; a dash where a network has no such point."""
    known = [of(value) for value in seeds if value is not None]
    if len(known) < len(seeds):
        return "—"
    return signed(sum(known) / len(known) - of(exact))


def log_snr(time: float) -> float:
    """Of a time of the Ornstein-Uhlenbeck process."""
    return -math.log(math.expm1(2 * time))


def made(content: Content) -> str:
    """Where it comes from, in a line."""
    origin = content["provenance"]
    arguments = ", ".join(f"{key}: {value}" for key, value in origin["arguments"].items())
    versions = ", ".join(f"{name} {version}" for name, version in origin["versions"].items())
    parts = [*content.get("devices", []), arguments, origin["date"], versions]
    return f"{'; '.join(parts)}."


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], text: int) -> str:
    """A table whose first `text` columns are words."""
    rules = ["---"] * text + ["---:"] * (len(headers) - text)
    return "\n".join(f"| {' | '.join(line)} |" for line in (headers, rules, *rows))


def digits(value: float | None, number: int = 3) -> str:
    return "—" if value is None else f"{value:.{number}g}"


def signed(value: float, number: int = 3) -> str:
    return f"{value:+.{number}f}".replace("-", "−")


def share(value: float | None, number: int = 0) -> str:
    return "—" if value is None else f"{100 * value:.{number}f} %"


if __name__ == "__main__":
    sys.exit(terminal.run(app))
