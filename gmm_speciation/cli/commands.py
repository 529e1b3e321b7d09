"""All commands of `gmm-speciation`; importing a module here is all that its command needs to exist."""

from gmm_speciation.cli import (  # noqa: F401  each adds its commands
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
from gmm_speciation.cli.options import app as app
