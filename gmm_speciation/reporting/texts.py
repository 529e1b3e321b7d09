"""Texts of a command line: an empty one, as of an unset variable of the shell, stands for nothing.

As a path it would be the current folder, elsewhere the same as an option that was left out.
"""

from inspect import Parameter
from pathlib import Path
from typing import get_args

import typer


def path(given: str | Path) -> Path:
    """The path of an option or an argument.

    Raises:
        BadParameter: If it is empty.
    """
    if not str(given):
        raise typer.BadParameter("a path must not be empty; for the current folder give '.'")
    return Path(given)


def text(given: str) -> str:
    """The text of an option or an argument.

    Raises:
        BadParameter: If it is empty.
    """
    if not given:
        raise typer.BadParameter("it must not be empty; leave it out where nothing is meant")
    return given


def without_empty(parameter: Parameter) -> Parameter:
    """The parameter of a command; if it takes texts or paths, it refuses empty ones."""
    kind, *notes = get_args(parameter.annotation) or (parameter.annotation,)
    for note in notes:
        for type, parser in ((Path, path), (str, text)):
            if type in (kind, *get_args(kind)):
                note.parser = parser
    return parameter
