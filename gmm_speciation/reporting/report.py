"""The report of a command: one folder that can be read, shown and read back.

    report.md     the text, with pictures beside it
    report.html   the same in one file, pictures inside, nothing loaded from elsewhere
    result.json   every number with its error, and where it came from
    *.png         the pictures

A report appears complete or not at all: it is written beside its place and moved there (`files`). Where an
older report is replaced, each file is swapped whole and `result.json` comes last.
"""

import base64
import html
import json
import os
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmm_speciation.estimate import Estimate
from gmm_speciation.files import beside, flush
from gmm_speciation.reading import read_json
from gmm_speciation.reporting import explorer
from gmm_speciation.reporting.records import (
    FORMAT,
    RESULT,
    UNITS,
    format_estimate,
    provenance,
    to_json,
)
from gmm_speciation.reporting.stored import LONGEST
from gmm_speciation.reporting.tables import numeric, plain

if TYPE_CHECKING:
    from gmm_speciation.curves import EntropyCurve
    from gmm_speciation.plotting import Figure
    from gmm_speciation.reporting.explorer import Frames

# Stands in the Markdown where the page has the explorer; a letter of no alphabet, so that no text has it.
_EXPLORER = "\ue000"
_FILES = ("report.md", "report.html", RESULT)  # of every report
_VERDICT = re.compile(r"<td[^>]*>(yes|no|open)\b[^<]*</td>\n</tr>", re.I)


class Report:
    """Text, tables and pictures in the order in which they are added; `write` makes the folder."""

    def __init__(self, title: str):
        self.title = title
        self._markdown: list[str] = [f"# {title}"]
        self._pictures: dict[str, Figure] = {}
        self._explorer: tuple[Mapping[str, EntropyCurve], Frames | None] | None = None

    def text(self, markdown: str) -> "Report":
        """Add CommonMark text; HTML and images in it stay plain text in the page."""
        self._markdown.append(markdown.strip())
        return self

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[object]], caption: str | None = None
    ) -> "Report":
        """Add a table; columns mostly of numbers are aligned to the right.

        Raises:
            ValueError: If a row has not one cell a header.
        """
        cells = [[_cell(value) for value in row] for row in rows]
        for row in cells:
            if len(row) != len(headers):
                raise ValueError(f"A row needs {len(headers)} cells, one a header; got {len(row)}.")
        rules = ["---:" if numeric(column) else "---" for column in zip(*cells, strict=True)]
        rules = rules or ["---"] * len(headers)
        lines = [[_cell(header) for header in headers], rules, *cells]
        if caption:
            self._markdown.append(f"*{caption}*")
        self._markdown.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return self

    def figure(self, figure: "Figure", name: str, caption: str) -> "Report":
        """Add a picture; it is written as `name`.png.

        Raises:
            ValueError: If the name is taken or is not a plain file name.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or f"{name}.png" in self._pictures:
            raise ValueError(
                f"A picture needs a new name of letters, digits, - and _; got {name!r}."
            )
        self._pictures[f"{name}.png"] = figure
        # Brackets would end the alternative text.
        self._markdown.append(f"![{re.sub(r'[][]', '', caption)}]({name}.png)\n\n*{caption}*")
        return self

    def explore(
        self, curves: Mapping[str, "EntropyCurve"], frames: "Frames | None" = None
    ) -> "Report":
        """Add curves whose values the page shows under the pointer, with images at the same noise; once.

        Raises:
            ValueError: If there is one already.
        """
        if self._explorer is not None:
            raise ValueError("A report has one explorer; put all curves into it.")
        self._explorer = curves, frames
        self._markdown.append(_EXPLORER)
        return self

    def write(self, directory: str | Path, result: Mapping[str, Any]) -> Path:
        """Write the report and `result` into `directory`, replacing an older report there.

        Args:
            directory: Made when missing; other files in it stay, one under the name of a picture as `NAME~`.
            result: Becomes `result.json` by `to_json`. An entry "provenance" (see `provenance`)
                is also shown at the foot of the page.

        Raises:
            ValueError: If the place is taken by a file, or by files of these names that are no report's.
            DiskFullError: If there is no room.
            OSError: If it cannot be written.
        """
        directory = check_report(directory)
        with beside(directory) as partial:
            partial.mkdir()
            self._write_files(partial, result)
            for path in (*partial.iterdir(), partial):
                flush(path)
            _move(partial, directory)
        flush(directory.parent)
        return directory

    def _write_files(self, folder: Path, result: Mapping[str, Any]) -> None:
        if self._pictures:
            # Only a report with pictures needs matplotlib.
            from gmm_speciation import plotting

            for name, figure in self._pictures.items():
                plotting.save(figure, folder / name)
        files = [*_FILES, *self._pictures]
        stamp = {"provenance": provenance(), "units": UNITS, **result}
        content = to_json({"title": self.title, **stamp, "files": files, "format": FORMAT})
        footer = _footer(content["provenance"])
        markdown = "\n\n".join([*self._markdown, "---", footer])
        pictures = {name: (folder / name).read_bytes() for name in self._pictures}
        inner = "" if self._explorer is None else explorer.explorer(*self._explorer)
        page = _page(self.title, "\n\n".join(self._markdown), footer, pictures, inner)
        markdown = markdown.replace(_EXPLORER, "*Values under the pointer: in report.html.*")
        (folder / "report.md").write_text(plain(markdown) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(plain(page), encoding="utf-8")
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        (folder / RESULT).write_text(text + "\n", encoding="utf-8")


def check_directory(directory: str | Path) -> Path:
    """The absolute path of a folder that can be written into.

    Raises:
        ValueError: If it has no name, something there is not a folder, or nothing can be written there.
    """
    if not str(directory):
        raise ValueError("A folder must have a name; got ''. For the current one give '.'.")
    path = Path(directory).expanduser().absolute()
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise ValueError(f"{str(path)!r} must be a folder; {str(place)!r} is a file.")
            try:  # rights alone do not tell: not all file systems take files
                tempfile.TemporaryFile(dir=place).close()
            except OSError as error:
                raise ValueError(
                    f"The folder {str(place)!r} cannot be written to: {error.strerror}."
                ) from error
            break
    return path


def check_report(directory: str | Path) -> Path:
    """The absolute path of a folder for a report: as `check_directory`, or with an older report.

    Raises:
        ValueError: Also if it has a file of these names that is of no report.
    """
    path = check_directory(directory)
    taken = next((name for name in _FILES if (path / name).exists()), None)
    if taken and "provenance" not in _old(path):
        raise ValueError(
            f"The folder {str(path)!r} has a {taken!r} that belongs to no report, and would be "
            "overwritten. Move it, or choose another folder."
        )
    return path


def check_command(directory: Path, line: Any, program: Any) -> None:
    """Refuse the report of another command there; that of the same, with whatever options, is replaced.

    Args:
        directory: A folder for a report.
        line: The command line whose report it will be; nothing is refused without one.
        program: Its parser, with its `commands` and theirs.

    Raises:
        ValueError: If a report there is of another command, which is named.
    """
    old = _old(directory).get("provenance")
    there = old.get("command") if isinstance(old, Mapping) else None
    if not (isinstance(line, str) and isinstance(there, str)):
        return
    own, other = (_command(shown, program) for shown in (line, there))
    if own != other:
        raise ValueError(
            f"The folder {str(directory)!r} has the report of {other!r}, which that of {own!r} would "
            "replace. Choose another folder."
        )


def _command(line: str, program: Any) -> str:
    """Program and command of a line, without what it is about: "gmm-speciation benchmark score"."""
    name, *words = line.split() or [""]
    if name != program.name:
        return " ".join([name, *words[:1]])
    for word in words:
        if word in (commands := getattr(program, "commands", {})):
            name, program = f"{name} {word}", commands[word]
    return name


def _old(directory: Path) -> dict[str, Any]:
    """The result of the report that is there, in whatever format; nothing where there is none."""
    file = directory / RESULT
    try:
        content = read_json(file, longest=LONGEST) if file.exists() else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _move(partial: Path, directory: Path) -> None:
    """Put the finished files in place: the whole folder at once, or file by file over an older one."""
    if not directory.exists():
        os.rename(partial, directory)
        return
    listed = _old(directory).get("files")
    own = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
    fresh = [path.name for path in partial.iterdir()]
    for name in sorted(fresh, key=lambda name: name == RESULT):  # the numbers last
        place = directory / name
        if name not in own.union(_FILES) and place.exists():
            kept = place.with_name(f"{name}~")
            os.replace(place, kept)
            warnings.warn(f"{place} was of no report; it is {kept.name} now.", stacklevel=3)
        os.replace(partial / name, place)
    for name in own - set(fresh):
        if Path(name).name == name:
            (directory / name).unlink(missing_ok=True)


def _page(title: str, markdown: str, footer: str, pictures: Mapping[str, bytes], inner: str) -> str:
    """One HTML file: pictures become data URIs, tables of verdicts fold."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(tokens, index, options, env):
        token = tokens[index]
        data = pictures.get(str(token.attrs["src"]))
        if data is None:  # nothing is loaded from elsewhere
            return html.escape(token.content)
        source = base64.b64encode(data).decode("ascii")
        return f'<img alt="{html.escape(token.content)}" src="data:image/png;base64,{source}">'

    parser.renderer.rules["image"] = image  # type: ignore[attr-defined]
    body = parser.render(markdown).replace(f"<p>{_EXPLORER}</p>\n", inner)
    body = re.sub(r"<table>.*?</table>\n", _folded, body, flags=re.S)
    css = (files("gmm_speciation.reporting") / "page.css").read_text(encoding="utf-8")
    answers = f"<script>{explorer.script()}</script>\n" if inner else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        f"{body}<footer>{parser.render(footer)}</footer>\n{answers}</body>\n</html>\n"
    )


def _folded(table: re.Match[str]) -> str:
    """A table of verdicts behind their numbers; open where one is no plain yes."""
    if not re.search(r">holds</th>\n</tr>", table[0]):
        return table[0]
    found = [verdict.lower() for verdict in _VERDICT.findall(table[0])]
    counts = ", ".join(f"{found.count(v)} {v}" for v in ("yes", "no", "open") if v in found)
    state = " open" if {"no", "open"} & set(found) else ""
    return f"<details{state}><summary>{counts or 'verdicts'}</summary>\n{table[0]}</details>\n"


def _footer(stamp: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in stamp["versions"].items())
    command = f" by `{stamp['command']}`," if stamp.get("command") else ""
    return f"Made {stamp['date']}{command} with {versions} on {stamp['platform']}."


def _cell(value: object) -> str:
    text = format_estimate(value) if isinstance(value, Estimate) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
