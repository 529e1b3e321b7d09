"""One program on every device of a mesh, over hosts too, with nothing shared between them.

A mesh is taken as one row of devices. Arguments are either the *same* on all of them or *each* device's
own piece, along the leading axis; the program sees its piece only and sends no messages, so what
it computes does not depend on how many others run it.

Over hosts (`jax.distributed.initialize` called) every process makes the same calls: it places the pieces
of its own devices, and `on_host` hands the whole result to all.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "devices"
SAME, EACH = PartitionSpec(), PartitionSpec(_AXIS)


def flat_mesh(mesh: Mesh | None = None) -> Mesh:
    """All devices of a mesh in one row; by default those of the default backend, on all hosts.

    Raises:
        ValueError: If this process owns no device of the mesh.
    """
    if mesh is None:
        chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
        one = chosen is not None and not isinstance(chosen, str)
        devices = np.asarray([chosen] if one else jax.devices(chosen))
    else:
        devices = mesh.devices.reshape(-1)
    flat = Mesh(devices, (_AXIS,))
    if not own_places(flat):
        raise ValueError(
            f"`mesh` must have a device of every process that calls; process {jax.process_index()} "
            f"of {jax.process_count()} owns none of its {devices.size}."
        )
    return flat


def own_places(mesh: Mesh) -> list[int]:
    """Places in the row of the devices of this process."""
    process = jax.process_index()
    return [i for i, device in enumerate(mesh.devices) if device.process_index == process]


def place(pieces: list[Any], mesh: Mesh, spec: PartitionSpec) -> Any:
    """A pytree over the mesh from one a place that this process owns."""
    owned = [mesh.devices[i] for i in own_places(mesh)]
    sharding = NamedSharding(mesh, spec)

    def leaf(*parts):
        shape = parts[0].shape
        if spec == EACH:
            shape = (shape[0] * mesh.size, *shape[1:])
        on = [jax.device_put(part, device) for part, device in zip(parts, owned, strict=True)]
        return jax.make_array_from_single_device_arrays(shape, sharding, on)

    return jax.tree.map(leaf, *pieces)


def everywhere(tree: Any, mesh: Mesh) -> Any:
    """The arrays of a pytree on every device."""
    return place([tree] * len(own_places(mesh)), mesh, SAME)


def scattered(tree: Any, mesh: Mesh) -> Any:
    """Equal shares of the leading axis for each device; the last entry is repeated to fill up."""
    if mesh.size == 1:
        return place([tree], mesh, EACH)
    number = jax.tree.leaves(tree)[0].shape[0]
    share = -(-number // mesh.size)
    wanted = [np.minimum(i * share + np.arange(share), number - 1) for i in own_places(mesh)]
    pieces = [jax.tree.map(lambda v, w=which: jnp.asarray(v)[w], tree) for which in wanted]
    return place(pieces, mesh, EACH)


def on_devices(
    function: Callable, mesh: Mesh, specs: tuple[PartitionSpec, ...], axis: int = 0
) -> Callable:
    """`function` on every device; its results are put side by side along `axis`. Call it under jit."""
    out = PartitionSpec(*[None] * axis, _AXIS)
    # Loops inside start from constants, which the check of varying axes would refuse.
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)


def on_host(tree: Any) -> Any:
    """The whole values as numpy arrays, the same on every process."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
