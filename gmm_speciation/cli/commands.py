"""All commands of `gmm-speciation`; importing a module here is all that its command needs to exist."""

from gmm_speciation.cli import (
    benchmark,
    curve,
    doctor,
    hopfield,
    paper,
    samples,
    show,
    times,
    verify,
)
from gmm_speciation.cli.options import app

__all__ = [
    "app",
    "benchmark",
    "curve",
    "doctor",
    "hopfield",
    "paper",
    "samples",
    "show",
    "times",
    "verify",
]
