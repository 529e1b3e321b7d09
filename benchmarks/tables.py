"""Tables of stored results: Markdown from the JSON files.

One JSON file a device; the Markdown is rendered from the files alone, so it can be made again at any
time without measuring.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

SIDE_BY_SIDE = "side by side"
Content = Mapping[str, Any]


def held(row: Content) -> bool | None:
    """Whether the row's target is met; None where there is none or nothing was measured."""
    if row["target"] is None or row["value"] is None:
        return None
    if row["at_least"]:
        return row["value"] >= row["target"]
    return row["value"] <= row["target"]


def number(row: Content, quartiles: bool = True) -> str:
    """`1.04× (1.02–1.07)`, or `failed`."""
    if row["value"] is None:
        return "failed"
    text = _figure(row["value"]) + _unit(row)
    low, high = row["quartiles"]
    return f"{text} ({_figure(low)}–{_figure(high)})" if quartiles else text


def target(row: Content) -> str:
    """`≤ 1.15×`."""
    if row["target"] is None:
        return ""
    return f"{'≥' if row['at_least'] else '≤'} {row['target']:g}{_unit(row)}"


def verdict(row: Content) -> str:
    """`yes`, `no`, `failed`, or nothing without a target."""
    if row["value"] is None:
        return "failed"
    return {True: "yes", False: "no", None: ""}[held(row)]


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 1 else (f"{value:.2f}" if value < 10 else f"{value:.0f}")


def _unit(row: Content) -> str:
    return "×" if row["unit"] == "×" else f" {row['unit']}"


def markdown(contents: Iterable[Content]) -> str:
    """All tables of all devices."""
    return "\n".join(line for content in contents for line in _device(content))


def _device(content: Content) -> list[str]:
    stamp, rows = content["stamp"], content["rows"]
    versions = ", ".join(f"{name} {version}" for name, version in stamp["versions"].items())
    load = f"load {stamp['load']:.1f} before"
    title = f"**{stamp['device']}**, {stamp['processor']}, {stamp['cores']} cores, {load}"
    lines = [
        f"{title}; n = {stamp['n']}; {stamp['date']}, commit {stamp['commit']}; {versions}.",
        "",
    ]
    own = [row for row in rows if row["section"] != SIDE_BY_SIDE]
    others = [row for row in rows if row["section"] == SIDE_BY_SIDE]
    if own:
        lines += _own_table(own)
    if others:
        lines += [
            "Side by side, each library in its natural form: time of the posterior over that of the "
            f"bare product ({others[0]['against']}; full covariances: K (n,d)@(d,d)).",
            "",
            *_lines("work", side_by_side(others)),
        ]
    if content["accuracy"]:
        lines += [
            "Largest error of a float32 posterior, K = 10, with `offset` added to every coordinate:",
            "",
            *_lines("d, offset", accuracy(content["accuracy"])),
        ]
    return lines + _missed(own) + _failed(rows, content["accuracy"])


def _cell(row: Content) -> str:
    detail = row.get("detail")
    return f"{number(row)}; {detail}" if detail else number(row)


def _own_table(rows: list[Content]) -> list[str]:
    lines = ["| work | against | measured | target | held |", "|---|---|---|---|---|"]
    for _, group in groupby(rows, lambda r: (r["work"], r["against"], r["unit"])):
        same = list(group)
        cells = "<br>".join(f"{row['case']}: {_cell(row)}" for row in same)
        verdicts = [verdict(row) for row in same]
        shown = verdicts[0] if len(set(verdicts)) == 1 else "<br>".join(verdicts)
        first = same[0]
        lines.append(
            f"| {first['work']} | {first['against']} | {cells} | {target(first)} | {shown} |"
        )
    return [*lines, ""]


def pivot(
    cells: Iterable[Content], row_key: str, column_key: str, show: Callable[[Content], str]
) -> tuple[list[str], list[list[str]]]:
    """Column names, and rows that begin with their own name; empty where there is no cell."""
    cells = list(cells)
    columns = list(dict.fromkeys(cell[column_key] for cell in cells))
    rows = []
    for name in dict.fromkeys(cell[row_key] for cell in cells):
        by_column = {cell[column_key]: show(cell) for cell in cells if cell[row_key] == name}
        rows.append([name, *(by_column.get(column, "") for column in columns)])
    return columns, rows


def side_by_side(rows: Iterable[Content]) -> tuple[list[str], list[list[str]]]:
    """Libraries across, cases down."""
    show = lambda row: "–" if row["value"] is None else number(row, False)  # noqa: E731
    return pivot(rows, "work", "case", show)


def accuracy(errors: Iterable[Content]) -> tuple[list[str], list[list[str]]]:
    """Libraries across, dimension and offset down."""
    cells = [{**e, "point": f"{e['dim']}, {e['offset']:g}"} for e in errors]
    show = lambda e: "–" if e["error"] is None else f"{e['error']:.0e}"  # noqa: E731
    return pivot(cells, "point", "library", show)


def _lines(corner: str, table: tuple[list[str], list[list[str]]]) -> list[str]:
    columns, rows = table
    lines = [f"| {' | '.join([corner, *columns])} |", "|---" * (len(columns) + 1) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _missed(rows: list[Content]) -> list[str]:
    lines = []
    missed = (row for row in rows if held(row) is False)
    for (work, reason), group in groupby(missed, lambda r: (r["work"], r["reason"])):
        same = list(group)
        cases = "; ".join(f"{row['case']}: {number(row, False)}" for row in same)
        because = f" ({reason})" if reason else ""
        lines.append(f"- {work}, target {target(same[0])}: {cases}{because}")
    return ["Targets missed:", "", *lines, ""] if lines else []


def _failed(rows: list[Content], accuracy: list[Content]) -> list[str]:
    lines = [f"- {r['work']}, {r['case']}: {r['failure']}" for r in rows if r["failure"]]
    lines += [
        f"- accuracy, d = {e['dim']}, offset {e['offset']:g}, {e['library']}: {e['failure']}"
        for e in accuracy
        if e["failure"]
    ]
    return ["Not measured:", "", *lines, ""] if lines else []


def write(folder: Path) -> str:
    """Render every `speed-*.json` of a folder to `speed.md` there, and return the text."""
    files = sorted(folder.glob("speed-*.json"))
    text = markdown(json.loads(path.read_text(encoding="utf-8")) for path in files)
    (folder / "speed.md").write_text(text, encoding="utf-8")
    return text
