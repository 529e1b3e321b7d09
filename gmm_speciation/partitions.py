"""Classes as groups of components.

A `Partition` maps the K components of a mixture to C classes; the class is the semantic variable,
the component only a piece of its distribution. A `Hierarchy` is a chain of partitions, coarse to fine, each
refining the one before, so that entropies obey the chain rule
`H(fine | X) = H(coarse | X) + H(fine | coarse, X)`.
"""

from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, as_numpy, check_labels


def _labels(labels: ArrayLike) -> tuple[int, ...]:
    array = as_numpy(labels, "labels")
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            "A partition is one integer class label per component; got "
            f"shape {array.shape}, dtype {array.dtype}."
        )
    return tuple(int(label) for label in array)


class Partition(eqx.Module):
    """Class label of each component, `0 .. C-1`; every class has a component."""

    labels: tuple[int, ...] = eqx.field(static=True)
    names: tuple[str, ...] | None = eqx.field(static=True)

    def __init__(self, labels: ArrayLike, names: Sequence[str] | None = None):
        self.labels = _labels(labels)
        self.names = None if names is None else tuple(names)

    def __check_init__(self):
        check_labels(np.asarray(self.labels), "Class labels must be 0..C-1 with no class empty.")
        if self.names is not None and len(self.names) != self.num_classes:
            raise ValueError(
                f"There must be one name a class ({self.num_classes}); got {len(self.names)}."
            )

    @classmethod
    def trivial(cls, num_components: int) -> "Partition":
        """Every component a class of its own."""
        return cls(np.arange(num_components))

    @property
    def num_components(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return max(self.labels) + 1

    @property
    def is_trivial(self) -> bool:
        """Whether class and component are the same thing."""
        return self.labels == tuple(range(len(self.labels)))

    def check(self, num_components: int) -> "Partition":
        """Itself, if it labels this many components.

        Raises:
            ValueError: If it labels another number.
        """
        if self.num_components != num_components:
            raise ValueError(
                f"A partition must label each of the {num_components} components or classes; got labels of "
                f"{self.num_components}."
            )
        return self

    def refines(self, coarse: "Partition | ArrayLike") -> bool:
        """Whether every class here lies inside one class of `coarse`, a partition or its labels."""
        coarse = wrapped(coarse)
        return self.num_components == coarse.num_components and len(
            set(zip(self.labels, coarse.labels, strict=True))
        ) == len(set(self.labels))

    def membership(self, dtype=float) -> Float[Array, "C K"]:
        """1 where component k belongs to class c."""
        classes = np.arange(self.num_classes)[:, None]
        return jnp.asarray(classes == np.asarray(self.labels)[None, :], dtype)

    def log_sum(self, log_values: Float[Array, "*batch K"]) -> Float[Array, "*batch C"]:
        """`log sum_{k in c} exp(l_k)`, exact in the tails; -inf where every member is -inf.

        Raises:
            ValueError: If the last axis is not that of the K components.
        """
        if log_values.shape[-1:] != (self.num_components,):
            raise ValueError(
                f"The last axis must be that of the {self.num_components} components; got shape "
                f"{log_values.shape}."
            )
        if self.is_trivial:
            return log_values
        labels = jnp.asarray(self.labels)
        columns = jnp.moveaxis(log_values, -1, 0)
        largest = jax.ops.segment_max(columns, labels, self.num_classes)
        largest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0.0))
        sums = jax.ops.segment_sum(jnp.exp(columns - largest[labels]), labels, self.num_classes)
        positive = sums > 0
        logs = jnp.where(positive, jnp.log(jnp.where(positive, sums, 1.0)), -jnp.inf)
        return jnp.moveaxis(largest + logs, 0, -1)


class Hierarchy(eqx.Module):
    """Partitions from coarse to fine, each refining the one before."""

    levels: tuple[Partition, ...] = eqx.field(static=True)

    def __init__(self, levels: Sequence[Partition | ArrayLike]):
        self.levels = tuple(wrapped(level) for level in levels)

    def __check_init__(self):
        if not self.levels:
            raise ValueError("A hierarchy needs at least one partition.")
        for depth, (coarse, fine) in enumerate(zip(self.levels, self.levels[1:], strict=False)):
            if not fine.refines(coarse):
                raise ValueError(
                    f"Level {depth + 1} must refine level {depth}: each of its classes must lie "
                    "inside one class of the level above, over the same components."
                )

    def __len__(self) -> int:
        return len(self.levels)

    def __iter__(self) -> Iterator[Partition]:
        return iter(self.levels)

    def __getitem__(self, depth: int) -> Partition:
        return self.levels[depth]


def wrapped(partition: Partition | ArrayLike) -> Partition:
    """A partition as it is; labels as one."""
    return partition if isinstance(partition, Partition) else Partition(partition)


def as_partition(partition: Partition | ArrayLike | None, num_components: int) -> Partition:
    """A partition of this many components: labels are wrapped, None means every component a class.

    Raises:
        ValueError: If the labels do not fit the components.
    """
    if partition is None:
        return Partition.trivial(num_components)
    return wrapped(partition).check(num_components)
