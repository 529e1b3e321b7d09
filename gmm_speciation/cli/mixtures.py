"""Mixtures, processes and noise grids by name, as a command line says them.

A mixture is a family with its parameters, or a `.npz` or `.json` file with

    means        (K, d)
    one of       covariances (K, d, d) or (d, d); variances (K, d) or (d,); variance, a number or (K,)
    factors      (K, d, r) or (d, r), with variance: covariances F F^T + v I; optional
    weights      (K,), optional: equal by default
    labels       (K,) class of each component, or (L, K) a hierarchy from coarse to fine; optional
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from gmm_speciation import families
from gmm_speciation.lookup import pick
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Hierarchy, Partition
from gmm_speciation.processes import (
    DDPM,
    Cosine,
    DiffusionProcess,
    LinearInterpolant,
    OrnsteinUhlenbeck,
    VarianceExploding,
)
from gmm_speciation.reading import read_arrays, read_json
from gmm_speciation.reduction import Law
from gmm_speciation.speciation import transition_grid

PROCESSES: dict[str, Callable[[], DiffusionProcess]] = {
    "ou": OrnsteinUhlenbeck,
    "ve": VarianceExploding,
    "ddpm": DDPM.linear,
    "sd": DDPM.scaled_linear,
    "cosine": Cosine,
    "flow": LinearInterpolant,
}


class Family(NamedTuple):
    """A constructor of `gmm_speciation.families` and the defaults of its parameters."""

    build: Callable[..., Any]
    defaults: dict[str, Any]
    reducible: bool = True  # it takes `reduced`, and then forms nothing in d dimensions


FAMILIES: dict[str, Family] = {
    "symmetric-pair": Family(
        families.symmetric_pair, {"dim": 64, "separation": 1.0, "variance": 1.0}
    ),
    "equidistant": Family(
        families.equidistant, {"num_classes": 10, "dim": 64, "distance": 8.0, "variance": 1.0}
    ),
    "equal-means": Family(families.equal_means, {"dim": 64, "variances": (0.5, 1.5)}),
    "hierarchy": Family(
        families.hierarchy,
        {"branching": (2, 2, 2), "distances": (64.0, 16.0, 6.0), "dim": 64, "variance": 1.0},
    ),
    "paper-toy": Family(families.paper_toy, {"variance": 1.0}, reducible=False),
}


class NamedMixture(NamedTuple):
    """A mixture, its partitions by name from coarse to fine, and what it was made from."""

    mixture: Law
    levels: dict[str, Partition]
    parameters: dict[str, Any]


def mixture_from_spec(spec: str, options: Mapping[str, Any], reduced: bool = True) -> NamedMixture:
    """The mixture that a command line names.

    Args:
        spec: A family's name, or a path ending in `.npz` or `.json`.
        options: Parameters by name; None where the command line says nothing.
        reduced: Of a family that has one, its reduction, in any dimension; a file's mixture is as it is.

    Raises:
        ValueError: If the family is unknown, an option is not one of its parameters, a value is not
            valid, or the file is not as this module says.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if Path(spec).suffix in (".npz", ".json"):
        _check_options(spec, given, ())
        mixture, made = _from_file(Path(spec))
        parameters = {"file": spec}
    else:
        family = pick(spec, FAMILIES, "family")
        _check_options(spec, given, tuple(family.defaults))
        parameters = {**family.defaults, **given}
        built = family.build(**parameters, **({"reduced": reduced} if family.reducible else {}))
        mixture, made = built if isinstance(built, tuple) else (built, None)
        parameters = {"family": spec, **parameters}
    return NamedMixture(mixture, _levels(mixture, made), parameters)


def _check_options(spec: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            takes = ", ".join(_option(one) for one in known) or "none of these options"
            raise ValueError(f"{spec!r} has no {_option(name)}; it takes {takes}.")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _levels(mixture: Law, made: Hierarchy | Partition | None) -> dict[str, Partition]:
    if isinstance(made, Hierarchy):
        named = {f"{partition.num_classes} classes": partition for partition in made}
        if len(named) == len(made):
            return named
        return {
            f"level {depth}, {partition.num_classes} classes": partition
            for depth, partition in enumerate(made, start=1)
        }
    partition = made or Partition.trivial(mixture.num_components)
    return {f"{partition.num_classes} classes": partition}


def process_from_name(name: str) -> DiffusionProcess:
    """The process called ou, ve, ddpm, sd, cosine or flow.

    Raises:
        ValueError: If there is none of this name.
    """
    return pick(name, PROCESSES, "process")()


def covering_grid(
    named: NamedMixture, num_points: int, key: PRNGKeyArray | None = None
) -> Float[np.ndarray, " T"]:
    """A log-SNR grid, from signal to noise, on which every level loses its entropy.

    Raises:
        ValueError: If noise takes nothing from any level.
    """
    grids, reasons = [], []
    for partition in named.levels.values():
        try:
            grids.append(transition_grid(named.mixture, partition=partition, key=key))
        except ValueError as error:
            reasons.append(str(error))
    if not grids:
        raise ValueError(f"{reasons[0]} Give the noise levels by --log-snr LOW,HIGH.")
    return np.linspace(max(grid[0] for grid in grids), min(grid[-1] for grid in grids), num_points)


_SHAPES: dict[str, Callable[..., GaussianMixture]] = {
    "covariances": GaussianMixture.full,
    "variances": GaussianMixture.diagonal,
    "variance": GaussianMixture.isotropic,
}
_ARRAYS = ("means", *_SHAPES, "factors", "weights", "labels")


def _from_file(path: Path) -> tuple[GaussianMixture, Hierarchy | Partition | None]:
    arrays = _read_arrays(path)
    for name in arrays:
        if name not in _ARRAYS:
            pick(name, dict.fromkeys(_ARRAYS, 0), "array")
    shape = [name for name in _SHAPES if name in arrays]
    if "means" not in arrays or len(shape) != 1:
        raise ValueError(
            f"{str(path)!r} must hold `means` and one of {', '.join(_SHAPES)}; "
            f"it holds {', '.join(arrays) or 'nothing'}."
        )
    means, weights = arrays["means"], arrays.get("weights")
    if "factors" not in arrays:
        mixture = _SHAPES[shape[0]](means, arrays[shape[0]], weights)
    elif shape == ["variance"]:
        mixture = GaussianMixture.low_rank(means, arrays["factors"], arrays["variance"], weights)
    else:
        raise ValueError(f"`factors` go with `variance`; {str(path)!r} holds `{shape[0]}`.")
    labels = arrays.get("labels")
    if labels is None:
        return mixture, None
    if labels.ndim not in (1, 2) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            "`labels` must be whole numbers, (K,) or (L, K) for a hierarchy; got "
            f"shape {labels.shape}, dtype {labels.dtype}."
        )
    rows = [Partition(row).check(mixture.num_components) for row in np.atleast_2d(labels)]
    return mixture, rows[0] if labels.ndim == 1 else Hierarchy(rows)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Named arrays of a file; nothing in it is executed."""
    if path.suffix == ".npz":
        return read_arrays(path)
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        return {name: _numbers(value, name) for name, value in content.items()}
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} is not a JSON object of numbers and nested lists: {error}"
        ) from error


def _numbers(value: Any, name: str) -> np.ndarray:
    """Numbers or nested lists of them, as JSON has them."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"`{name}` must be a number, or nested lists of numbers of one length.")
    return array
