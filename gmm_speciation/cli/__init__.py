"""The command line `gmm-speciation`: one module a command.

Commands say what to compute, the library computes it. A command's module adds it to `app` with
`@app.command()`, and `commands` imports it.
"""

from collections.abc import Sequence

from gmm_speciation.reporting.start import start


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return start("gmm_speciation.cli.commands", arguments)
