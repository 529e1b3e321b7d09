"""What the commands share: the app they join, and options that name a mixture.

JAX loads inside a command, so `--help` is fast; commands compute in double precision.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

import gmm_speciation
from gmm_speciation.reporting import terminal

if TYPE_CHECKING:
    from gmm_speciation.cli.mixtures import NamedMixture

app = terminal.application(
    "gmm-speciation",
    gmm_speciation.__version__,  # type: ignore[attr-defined]
    "Speciation of diffusion models, exactly, on Gaussian mixtures.",
)

CLOCKS = "ou, ve, ddpm, sd, cosine, flow"
_OF_FAMILIES = ("dim", "separation", "variance", "num_classes", "distance")
_LISTS = {"variances": float, "branching": int, "distances": float}


@dataclass(frozen=True, kw_only=True)
class MixtureRequest:
    """The mixture of a command, how closely it looks, and where the report goes."""

    mixture: Annotated[
        str,
        Argument(
            metavar="MIXTURE",
            help="symmetric-pair, equidistant, equal-means, hierarchy, paper-toy, or a .npz or .json "
            "file with means, one of covariances, variances, variance, and optionally weights, labels.",
        ),
    ]
    dim: Annotated[int | None, Option(help="Dimension of the data.")] = None
    separation: Annotated[float | None, Option(help="symmetric-pair: means +-S (1, ..., 1).")] = (
        None
    )
    variance: Annotated[float | None, Option(help="Variance of every component.")] = None
    num_classes: Annotated[int | None, Option(help="equidistant: how many classes.")] = None
    distance: Annotated[float | None, Option(help="equidistant: between any two means.")] = None
    variances: Annotated[str | None, Option(help="equal-means: one a class, as 0.5,1.5.")] = None
    branching: Annotated[str | None, Option(help="hierarchy: children a node, as 2,3.")] = None
    distances: Annotated[str | None, Option(help="hierarchy: one a level, as 8,2.")] = None
    num_samples: Annotated[int, Option(min=32, help="Draws of X where the entropy is sampled.")] = (
        8192
    )
    seed: terminal.Seed = 0
    quiet: terminal.Quiet = False
    out: terminal.Out = None

    def stamp(self, named: "NamedMixture") -> dict[str, Any]:
        """Where the result comes from."""
        return terminal.stamp(self.seed, {**named.parameters, "num_samples": self.num_samples})

    def named(self, reduced: bool = True) -> "NamedMixture":
        """The mixture with its levels of classes. Arguments and errors as `mixture_from_spec`."""
        from gmm_speciation.cli.mixtures import mixture_from_spec

        options = {name: getattr(self, name) for name in (*_OF_FAMILIES, *_LISTS)}
        for name, kind in _LISTS.items():
            if options[name] is not None:
                options[name] = terminal.numbers(options[name], f"--{name}", kind)
        return mixture_from_spec(self.mixture, options, reduced)


def describe(named: "NamedMixture") -> str:
    values = ", ".join(f"{name} = {value}" for name, value in named.parameters.items())
    mixture = named.mixture
    return (
        f"A mixture of {mixture.num_components} components in {mixture.dim} dimensions: {values}."
    )
