"""One of several by name, or the user's own as `module:name`; errors say what there is, or whose they are."""

import difflib
import importlib
import os
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_NOT_THE_USERS = (
    "<frozen",
    f"gmm_speciation{os.sep}",
    f"model_bridges{os.sep}",
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def pick(name: str, table: Mapping[str, T], what: str) -> T:
    """The entry called `name`.

    Raises:
        ValueError: If there is none; names the nearest one and all that exist.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    there = (repr(one) if "," in one else one for one in table)
    raise ValueError(f"Unknown {what} {name!r}.{hint} Choose from: {', '.join(there)}.")


def import_named(spec: str, expected: str) -> Any:
    """What `module:name` names, a module on the Python path with a name in it.

    Args:
        spec: The name.
        expected: What a name must be, in words, for errors.

    Raises:
        ValueError: If there is no such module or name, or the module cannot be run.
    """
    module, _, name = spec.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ValueError(f"{expected}; got {spec!r}.")
    try:
        with users_code(spec):
            found = importlib.import_module(module)
    except ValueError as error:
        missing = error.__cause__
        # The module itself or a package that it is in; what it imports in turn is its own affair.
        if isinstance(missing, ModuleNotFoundError) and f"{module}.".startswith(f"{missing.name}."):
            raise ValueError(
                f"{spec!r} could not be found: {missing}; the module must be in the current folder or on "
                f"the Python path. {expected}."
            ) from None
        raise
    for part in name.split("."):
        with users_code(spec):
            there = hasattr(found, part)
        if not there:
            where = getattr(found, "__file__", None) or "which is part of Python"
            raise ValueError(
                f"{spec!r} could not be found: {module!r}, {where}, has no {part!r}. {expected}."
            )
        found = getattr(found, part)
    return found


@contextmanager
def users_code(spec: str, what: str = "") -> Iterator[None]:
    """Whatever the code that `spec` names raises, as one line that says whose failure it is, and where.

    Args:
        spec: The name.
        what: A word before it.

    Raises:
        ValueError: If it raises, or would end the interpreter.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        reason = " ".join(str(error).split())[:500] or "no message"
        raise ValueError(f"{what}{spec!r}: {kind}{reason}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """The last line of the user's own that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(part in f.filename for part in _NOT_THE_USERS)]
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
