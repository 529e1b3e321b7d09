"""What every command line here has in common: errors, options, progress, tables.

A user's mistake ends in one line on stderr and exit code 2; an interruption ends in 130. The library
underneath raises `ValueError` with what was expected, what came and what to do, and `run` prints it.
Importing this module loads no JAX: `--help` stays fast.
"""

import inspect
import os
import shlex
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from gmm_speciation.reporting.bars import progress as progress
from gmm_speciation.reporting.tables import Table, json_text, numeric, plain
from gmm_speciation.reporting.texts import without_empty

if TYPE_CHECKING:
    from gmm_speciation.reporting.report import Report

_command_line: ContextVar[str | None] = ContextVar("command_line", default=None)
_program: ContextVar[Any] = ContextVar("program", default=None)  # the parser of that line
_as_json: ContextVar[bool] = ContextVar("as_json", default=False)

EXTRAS = {
    "matplotlib": "plots",
    "markdown_it": "cli",
    "torch": "bridge",
    "safetensors": "bridge",
    "sklearn": "bridge",
    "filelock": "benchmark",
    "distributed": "cluster",
    "joblib": "benchmark",
    "psutil": "benchmark",
    "diffusers": "all",
    "transformers": "all",
}

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Write report.md, report.html, result.json, pictures."
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of everything random.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and no tables.")]


class Application(typer.Typer):
    """A group of commands; each has `--json` besides its own options, and examples under its help."""

    def command(self, name: str | None = None, *, examples: str = "", **settings: Any) -> Any:
        """As typer's; `examples` are command lines, one a line, with a word about them after `#`."""
        return _adding(super().command(name, epilog=_example_lines(examples), **settings))

    def callback(self, *, examples: str = "", **settings: Any) -> Any:
        """As typer's; `examples` as of `command`."""
        return _adding(super().callback(epilog=_example_lines(examples), **settings))


def _adding(register: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decorator that registers a function with `--json` and leaves the function as it is."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        register(_with_json(function))
        return function

    return decorate


def _example_lines(examples: str) -> str | None:
    # Typer joins the lines of a paragraph; paragraphs stay apart.
    return "\n\n".join(["Examples:", *examples.strip().splitlines()]) if examples else None


def _with_json(function: Callable[..., None]) -> Callable[..., None]:
    def run(*, as_json: bool, **values: Any) -> None:
        _as_json.set(as_json or _as_json.get())
        function(**values)

    option = inspect.Parameter(
        "as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json
    )
    return _posing(run, function, [*inspect.signature(function).parameters.values(), option])


def with_options(
    kind: type, prepare: Callable[..., Any] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a command whose first parameter is of a dataclass of options: they become its own.

    Args:
        kind: The dataclass; its fields have typer's annotations.
        prepare: Called with the command's arguments, the options first; gives the options it gets.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            options = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            command(options if prepare is None else prepare(options, **values), **values)

        # The argument first, what is the command's own, then what commands share.
        first, *rest = inspect.signature(kind).parameters.values()
        own = list(inspect.signature(command).parameters.values())[1:]
        return _posing(run, command, [first, *own, *rest])

    return decorate


def _posing(
    run: Callable[..., None], command: Callable[..., None], parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    """`run` under the name of a command, with these parameters by keyword."""
    listed = [without_empty(p).replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in listed}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def application(name: str, version: str, summary: str) -> Application:
    """An app with `--version`, completion and plain tracebacks, to which commands are added."""
    app = Application(name=name, help=summary, no_args_is_help=True, pretty_exceptions_enable=False)

    def show_version(asked: bool) -> bool:
        if asked:
            print(f"{name} {version}")
            raise typer.Exit
        return asked

    @typer.Typer.callback(app)
    def options(
        version: Annotated[
            bool,
            typer.Option("--version", callback=show_version, is_eager=True, help="Show and exit."),
        ] = False,
    ) -> None:
        pass

    return app


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 for a user's mistake, 130 for Ctrl-C.

    Args:
        app: What `application` made, with its commands.
        arguments: Words after the program's name; those of the process by default.
    """
    if arguments is None:
        sys.unraisablehook = _raise_again
        warnings.formatwarning = lambda message, *where, **line: f"warning: {plain(str(message))}\n"
    code = _run(app, sys.argv[1:] if arguments is None else list(arguments))
    if arguments is None and code == 130:
        # JAX may still compute in its threads; taking the interpreter down under them crashes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _raise_again(lost: Any) -> None:  # `sys.UnraisableHookArgs`, a name for type checkers only
    """A Ctrl-C that fell into a callback of the interpreter, where it is swallowed, comes once more."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # A moment later: raised at once, it would fall into this function and be swallowed again. A signal,
        # and to the main thread: whatever it waits in then ends.
        main = threading.main_thread().ident
        again = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _run(app: typer.Typer, words: list[str]) -> int:
    _command_line.set(shlex.join([app.info.name or "", *words]))
    _as_json.set(False)
    try:
        _program.set(program := typer.main.get_command(app))
        code = program.main(words, prog_name=app.info.name, standalone_mode=False)
        # The parser turns Ctrl-C into this code without a word.
        return _fail("interrupted", 130) if code == 130 else int(code or 0)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _fail(
            f'{error.name} is missing; install it with: pip install "gmm-speciation[{extra}]"'
        )
    except (ValueError, OSError) as error:
        return _fail(str(error))
    except OverflowError as error:
        return _fail(f"a number is too large to compute with ({error}); give a smaller one")
    except MemoryError as error:
        return _fail(f"memory is short ({error or 'nothing more to be had'}); ask for less at once")
    except Exception as error:
        # XLA tells of a Ctrl-C inside one of its callbacks as of an error of its own.
        if "KeyboardInterrupt" in str(error):
            return _fail("interrupted", 130)
        if "RESOURCE_EXHAUSTED" in str(error):  # and of a lack of memory
            return _fail(f"memory is short ({error}); ask for less at once")
        # Usage errors of the parser, whatever package it keeps them in.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        # Typer raises this one after it has printed the help of a command without arguments.
        return _fail(message) if type(error).__name__ != "NoArgsIsHelpError" else 2


def command_line() -> str | None:
    """The command line that is running, as it can be typed again."""
    return _command_line.get()


def _fail(message: str, code: int = 2) -> int:
    print(f"error: {plain(' '.join(message.split()))}", file=sys.stderr)
    return code


def use_float64() -> None:
    """Let JAX compute in double precision; for commands, which own the process."""
    # An interruption inside the import of its C extension takes the process down: it waits until the end.
    blocking = hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocking else None
    try:
        import jax
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    jax.config.update("jax_enable_x64", True)


def numbers(text: str, option: str, kind: type = float) -> tuple[Any, ...]:
    """The comma-separated numbers of an option, such as `0.5,1.5`.

    Raises:
        ValueError: If one is not a number of this kind.
    """
    try:
        return tuple(kind(word) for word in text.split(","))
    except ValueError:
        article = "whole numbers" if kind is int else "numbers"
        raise ValueError(
            f"`{option}` takes {article} with commas between them, such as 2,3; got {text!r}."
        ) from None


def stamp(seed: int, arguments: Mapping[str, Any], packages: Sequence[str] = ()) -> dict[str, Any]:
    """Where the result of the running command comes from. Arguments as `records.provenance`."""
    from gmm_speciation.reporting.records import provenance

    return provenance(command_line(), seed, arguments, packages)


def check_place(report: Path | None, *folders: Path | None, line: str | None = None) -> None:
    """A report that cannot be written is an error before the work, not after it; so is another folder.

    So is one that would replace that of another command than this one, or than that of `line`.
    """
    from gmm_speciation.reporting.report import check_command, check_directory, check_report

    if report is not None:
        check_command(check_report(report), line or command_line(), _program.get())
    for folder in folders:
        if folder is not None:
            check_directory(folder)


def finish(
    tables: Mapping[str, Table],
    write: Callable[[], tuple["Report | None", Mapping[str, Any]]] | None,
    out: Path | None,
    quiet: bool,
    *,
    note: str = "",
    narrow: bool = False,
) -> None:
    """End a command: where that was asked for its report is written, with its tables, and these are shown.

    With `--json` the content of `result.json` but for them is printed in place of the tables, also where
    `quiet`.

    Args:
        tables: By title; those without rows are left out.
        write: Makes the report and the content of its `result.json`; called with `out` only. None where
            there is none to make.
        out: Folder of the report.
        quiet: Say nothing.
        note: Said under the tables.
        narrow: Leave no room around ± and –, say the note under each table that has a ±, and name the
            page of the report in place of its folder.
    """
    if narrow:
        tables = {title: one.tight() for title, one in tables.items()}
    result, written = None, ""
    try:  # the report first: a terminal or a pipe that takes no more must not cost what was computed
        if write is not None and (out is not None or _as_json.get()):
            report, result = write()
            if out is not None and report is not None:
                shown = {title: one._asdict() for title, one in tables.items()}
                folder = report.write(out, {**result, "tables": shown})
                written = f"Report: {out / 'report.html' if narrow else folder}"
    finally:
        for title, one in tables.items():
            if not one.rows:
                continue
            show(table(*one, title=title), quiet)
            if narrow and "±" in str(one):
                show(f"{note}.\n", quiet)
        if note and not narrow:
            show(note, quiet)
        if result is not None and _as_json.get():
            print_json(result)
    if written:
        show(written, quiet)


def print_json(result: Mapping[str, Any]) -> None:
    """A result on stdout, as `records.to_json` has it, with the version of its format."""
    from gmm_speciation.reporting.records import FORMAT, UNITS, to_json

    units = {"units": UNITS} if "provenance" in result else {}
    print(json_text({"format": FORMAT, **units, **to_json(result)}), flush=True)


def show(what: RichTable | str, quiet: bool = False) -> None:
    """Print a table or a line on stdout, unless quiet or `--json`; text is not read as markup."""
    console = Console(quiet=quiet or _as_json.get(), highlight=False, emoji=False)
    if isinstance(what, str):
        console.print(plain(what), markup=False, soft_wrap=True)
    else:
        if _needed(what) > console.width:
            # The frame gives way before words do, and lines are broken before cells are lost.
            what.pad_edge = what.show_edge = False
            console.width = max(console.width, _needed(what))
        console.print(what)


def _needed(table: RichTable) -> int:
    # Of a narrow console it would be no more than its width.
    return Console(width=1000, emoji=False).measure(table).minimum


_NUMBER_WIDTH = 20
_NAME_WIDTH, _WORD_WIDTH = 16, 8


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None
) -> RichTable:
    """A summary table for the terminal: text to the left, columns mostly of numbers to the right."""
    # What a title, a header or a cell quotes is no control sequence, and its brackets are no markup.
    title, headers = title and plain(title), [plain(header) for header in headers]
    rows = [tuple(map(plain, row)) for row in rows]
    shown = RichTable(
        title=title and escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    for index, header in enumerate(headers):
        # A broken number cannot be read; where the terminal is narrow, words give way.
        widest = max((len(row[index]) for row in rows), default=0)
        right = index > 0 and numeric([row[index] for row in rows])
        short = right and widest <= _NUMBER_WIDTH
        words = [word for row in [headers, *rows] for word in row[index].split()]
        least = min(max(map(len, words), default=0), _WORD_WIDTH if index else _NAME_WIDTH)
        if short:  # no wider than what stands under it, as far as its words allow
            header = textwrap.fill(header, max(widest, *map(len, header.split()), 1))
        shown.add_column(
            escape(header),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=short,
            min_width=None if short else least,
        )
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    return shown
