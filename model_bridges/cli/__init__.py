"""The command line `model-bridges`: `app` lists the commands, and their modules stand beside it."""

from collections.abc import Sequence

from gmm_speciation.reporting.start import start


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return start("model_bridges.cli.app", arguments)
