"""What the commands share: the app they join, and options that name a mixture.

JAX loads inside a command, so `--help` is fast; commands compute in double precision.
"""

from typing import TYPE_CHECKING, Annotated, Any

# First: it says what to install where typer is missing.
from gmm_speciation.reporting import terminal

# isort: split
import typer

import gmm_speciation

if TYPE_CHECKING:
    from gmm_speciation.cli.mixtures import NamedMixture

app = terminal.application(
    "gmm-speciation",
    gmm_speciation.__version__,  # type: ignore[attr-defined]
    "Speciation of diffusion models, exactly, on Gaussian mixtures.",
)

MixtureSpec = Annotated[
    str,
    typer.Argument(
        metavar="MIXTURE",
        help="symmetric-pair, equidistant, equal-means, hierarchy, paper-toy, or a .npz or .json "
        "file with means, one of covariances, variances, variance, and optionally weights, labels.",
    ),
]
CLOCKS = "ou, ve, ddpm, sd, cosine, flow"
Dim = Annotated[int | None, typer.Option(help="Dimension of the data.")]
Separation = Annotated[float | None, typer.Option(help="symmetric-pair: means +-S (1, ..., 1).")]
Variance = Annotated[float | None, typer.Option(help="Variance of every component.")]
NumClasses = Annotated[int | None, typer.Option(help="equidistant: how many classes.")]
Distance = Annotated[float | None, typer.Option(help="equidistant: between any two means.")]
Variances = Annotated[str | None, typer.Option(help="equal-means: one a class, as 0.5,1.5.")]
Branching = Annotated[str | None, typer.Option(help="hierarchy: children a node, as 2,3.")]
Distances = Annotated[str | None, typer.Option(help="hierarchy: one a level, as 8,2.")]
NumSamples = Annotated[int, typer.Option(help="Draws of X where the entropy is sampled.")]


def named_mixture(spec: str, **options: Any) -> "NamedMixture":
    from gmm_speciation.cli.mixtures import mixture_from_spec

    for name, kind in (("variances", float), ("distances", float), ("branching", int)):
        if options[name] is not None:
            options[name] = terminal.numbers(options[name], f"--{name}", kind)
    return mixture_from_spec(spec, options)


def describe(named: "NamedMixture") -> str:
    values = ", ".join(f"{name} = {value}" for name, value in named.parameters.items())
    mixture = named.mixture
    return (
        f"A mixture of {mixture.num_components} components in {mixture.dim} dimensions: {values}."
    )
