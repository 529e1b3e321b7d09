"""The command line `model-bridges`: `app` lists the commands, and their modules stand beside it."""

from model_bridges.cli.app import main

__all__ = ["main"]
