"""How the installed commands begin: with what they need, and with the user's own modules in reach."""

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

_NEEDED = ("typer", "click", "rich", "markdown_it")


def start(commands: str, arguments: Sequence[str] | None = None) -> int:
    """Run the command line whose `app` is in the module `commands`; returns the exit code.

    Modules in the current folder are found, as by `python -m`, but after all that is installed: no file there
    takes the place of a library. Signs that stdout cannot encode are written out, such as `\\u03c3`.
    """
    if arguments is None and sys.stdout is None:
        print(
            "error: stdout is closed, and results go there; send it to /dev/null to do without",
            file=sys.stderr,
        )
        return 2
    # Unless the user asked for another way.
    if arguments is None and getattr(sys.stdout, "errors", None) in ("strict", "surrogateescape"):
        with contextlib.suppress(AttributeError):  # of a notebook
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if os.path.exists(os.curdir) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        app = importlib.import_module(commands).app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _NEEDED:
            raise
        # The commands are an extra of the library.
        print(
            f"error: the commands need {missing.name}; install it with: "
            'pip install "gmm-speciation[cli]"',
            file=sys.stderr,
        )
        return 2
    from gmm_speciation.reporting.terminal import run

    return run(app, arguments)
