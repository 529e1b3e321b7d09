"""`gmm-speciation show`: a report again, from its `result.json` alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmm_speciation.cli.options import app
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.terminal import Out, Quiet

if TYPE_CHECKING:
    from gmm_speciation.curves import EntropyCurve
    from gmm_speciation.reporting.tables import Table

File = Annotated[Path, typer.Argument(metavar="FILE", help="A result.json, or a report's folder.")]


@app.command(
    examples="""
gmm-speciation show out/pair
gmm-speciation show out/pair/result.json --out out/again  # page and pictures, drawn again
"""
)
def show(file: File, quiet: Quiet = False, out: Out = None) -> None:
    """A stored report: its tables, and with --out its page with the curves drawn again."""
    import numpy as np

    from gmm_speciation.reporting.stored import load_curve, load_result
    from gmm_speciation.reporting.tables import ERRORS

    result = load_result(file)
    if "provenance" not in result:
        raise ValueError(f"{str(file)!r} is not a report's: it does not say where it comes from.")
    title = str(result.get("title", file))
    for name in ("curves", "provenance"):
        if not isinstance(result.get(name) or {}, dict):
            raise ValueError(f"`{name}` in {str(file)!r} must be an object.")
    curves = {name: load_curve(file, name) for name in result.get("curves") or {}}
    tables = _printed(result, file) if "tables" in result else _derived(result, curves, file)
    origin = result.get("provenance") or {}
    terminal.check_place(out, line=origin.get("command"))  # it draws the report of that one
    note = f"{title}: {origin.get('command') or 'no command'}, {origin.get('date', 'no date')}."

    def write() -> tuple[Any, dict[str, Any]]:
        from gmm_speciation import plotting
        from gmm_speciation.reporting.report import Report

        report = Report(title).text(f"Drawn again from the numbers of: {note}")
        if curves:
            levels = next(iter(curves.values())).log_snr
            same = {n: c for n, c in curves.items() if np.array_equal(c.log_snr, levels)}
            report.explore(same)
            picture = plotting.plot_curve(curves)
            report.figure(picture, "curves", "Class entropy and its rate, with 95 % bands.")
        for name, table in tables.items():
            report.text(f"## {name}").table(*table).text(f"{ERRORS}.")
        return report, {name: result[name] for name in result if name not in ("files", "format")}

    terminal.finish(tables, write, out, quiet, note=note)


@contextmanager
def _part(name: str, file: Path, what: str) -> Iterator[None]:
    """Whatever a part that does not fit ends in is a ValueError that names it and says `what` it must be."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"`{name}` in {str(file)!r} must {what}: {error}.") from error


def _printed(result: dict[str, Any], file: Path) -> "dict[str, Table]":
    """The tables that the command printed."""
    from gmm_speciation.reporting.tables import Table

    with _part("tables", file, "hold `headers` and `rows` by title"):
        tables = {title: Table(**one) for title, one in result["tables"].items()}
        for one in tables.values():
            lines = [one.headers, *one.rows]
            if any(len(line) != len(one.headers) for line in lines):
                raise ValueError("a row is not as long as the headers")
            if not all(isinstance(cell, str) for line in lines for cell in line):
                raise ValueError("a cell is no text")
    return tables


def _derived(
    result: dict[str, Any], curves: "dict[str, EntropyCurve]", file: Path
) -> "dict[str, Table]":
    """Tables of curves, claims, checks and trust: of reports that do not hold what was printed."""
    from gmm_speciation.cli.tables import curve_table, read_off
    from gmm_speciation.reporting.trust import Trust, trust_rows

    tables: dict[str, Table] = {}
    for name, curve in curves.items():
        tables[name] = curve_table({"": read_off(curve)}, [curve.method])
    for kind in ("claims", "checks"):
        with _part(kind, file, "be a list of claims and what was measured"):
            rows = _judged(result.get(kind) or [])
        if rows.rows:
            tables[kind] = rows
    with _part("trust", file, "hold the `checks` of each curve"):
        trust = {name: Trust.read(block) for name, block in (result.get("trust") or {}).items()}
    if trust:
        tables["trust"] = trust_rows(trust)
    return tables


def _judged(rows: list[dict[str, Any]]) -> Any:
    """Claims of a verification, checks of a model: what was claimed, measured, and the verdict."""
    from gmm_speciation.reporting.tables import NONE, Table
    from gmm_speciation.shares import error_words

    def predicted(row: dict[str, Any]) -> str:
        value = row.get("predicted", row.get("expected", NONE))
        if not isinstance(value, float):
            return str(value)
        sign = {"at most": "≤ ", "at least": "≥ "}.get(str(row.get("relation")), "")
        return f"{sign}{value:.6g}"

    def measured(row: dict[str, Any]) -> str:
        value, half, ends = (row.get(name) for name in ("measured", "half_width", "interval_95"))
        if isinstance(value, dict):  # an estimate
            value, ends = value["value"], value["interval_95"]
        if value is None:
            return NONE
        if ends is None:  # written before claims had them
            ends = value - (half or 0.0), value + (half or 0.0)
        low, high = map(float, ends)
        return f"{value:.5g}" + (f" {error_words(value, low, high, '.2g')}" if high > low else "")

    headers = ["claim", "expected", "measured", "holds"]
    return Table(
        headers,
        [
            [
                str(row.get("claim", "")),
                predicted(row),
                measured(row),
                str(row.get("verdict", NONE)),
            ]
            for row in rows
        ],
    )
