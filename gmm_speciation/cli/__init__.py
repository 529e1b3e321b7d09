"""The command line `gmm-speciation`: one module a command.

Commands say what to compute, the library computes it. A command's module adds it to `app` with
`@app.command()`; importing the module here is all that the command needs to exist.
"""

from collections.abc import Sequence

from gmm_speciation.reporting import terminal

# isort: split
from gmm_speciation.cli import benchmark, curve, hopfield, times, verify
from gmm_speciation.cli.options import app

__all__ = ["app", "benchmark", "curve", "hopfield", "main", "times", "verify"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return terminal.run(app, arguments)
