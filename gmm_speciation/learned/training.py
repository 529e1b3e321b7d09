"""One training loop for every network: Adam with a cosine schedule, an average of the weights, a cache.

A loss is `loss(network, data, key)` and draws its own batch. Training runs in blocks of compiled steps;
after each the state may be written, and a run that was stopped goes on from there with the same numbers as
if it had not been. Finished weights are kept under a digest of everything they depend on, so nothing
is trained twice.

With data to validate on the weights are those of least validation loss, and training stops where that has not
fallen for a quarter of the steps (early stopping). Its draws are the same after every block.
"""

import hashlib
import importlib.metadata
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from gmm_speciation.files import write_bytes
from gmm_speciation.progress import Parts, Progress, listening
from gmm_speciation.reading import read_arrays

Loss = Callable[[Any, Any, jax.Array], jax.Array]
_BLOCK = 50  # steps in one compiled call
_AVERAGE = 0.98  # of the running average of the weights, a step
_VALIDATIONS = 8  # draws of the loss after every block
_PATIENCE = 0.25  # of the steps
_FEWEST, _MOST = 600, 4000  # steps


class Recipe(NamedTuple):
    """How to train."""

    steps: int = 600
    rate: float = 3e-3
    save_seconds: float = 30.0

    @classmethod
    def of_size(cls, states: int) -> "Recipe":
        """Steps in proportion to the number of states, within limits."""
        return cls(steps=int(np.clip(2 * states, _FEWEST, _MOST)))


class Trained(NamedTuple):
    """A network with averaged weights, and what it took."""

    network: Any
    seconds: float
    loss: float  # mean of the last block


def train(
    network: nnx.Module,
    loss: Loss,
    data: Any,
    *,
    seed: int,
    recipe: Recipe = Recipe(),  # noqa: B008  immutable
    validation: Any = None,
    cache: tuple[Path, str] | None = None,
    progress: Progress | Parts | None = None,
) -> Trained:
    """Train, or take what was trained before.

    Args:
        network: With its first weights.
        loss: Of the network, data and a key.
        data: What the loss draws from, arrays.
        seed: Of the batches.
        recipe: Steps and learning rate.
        validation: Data of the same form, to stop early by; nothing is cached then.
        cache: A folder and a text that says all that the weights depend on, besides the recipe and seed.
        progress: Told of the steps that are done, with the loss.

    Raises:
        ValueError: If the loss is not finite, or there is a cache and data to validate on.
    """
    if validation is not None and cache is not None:
        raise ValueError("Early stopping keeps no weights to go on from; give no `cache`.")
    graph, weights = nnx.split(network)
    schedule = optax.cosine_decay_schedule(recipe.rate, recipe.steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    key = jax.random.key(seed)

    @jax.jit
    def block(state, data, key, start):
        # The key is an argument: one compiled program serves all seeds.
        def step(state, index):
            weights, average, moments = state
            value, slope = jax.value_and_grad(
                lambda w: loss(nnx.merge(graph, w), data, jax.random.fold_in(key, index))
            )(weights)
            updates, moments = optimiser.update(slope, moments, weights)
            weights = optax.apply_updates(weights, updates)
            average = optax.incremental_update(weights, average, 1 - _AVERAGE)
            return (weights, average, moments), value

        return jax.lax.scan(step, state, start + jnp.arange(_BLOCK))

    @jax.jit
    def validated(weights, validation, key):
        keys = jax.random.split(key, _VALIDATIONS)
        return jnp.mean(jax.lax.map(lambda k: loss(nnx.merge(graph, weights), validation, k), keys))

    state, done, spent, last = (weights, weights, optimiser.init(weights)), 0, 0.0, float("nan")
    place = None if cache is None else _place(*cache, recipe, seed)
    if place is not None and place.exists():
        try:
            state, done, spent, last = _read(place, state)
        except (ValueError, KeyError) as error:
            listening(progress).say(
                f"weights kept of before cannot be read, {error}: trained again"
            )
    began = saved = time.perf_counter()
    best, least, best_at = state[1], np.inf, done
    while done < recipe.steps:
        state, values = block(state, data, key, done)
        done, last = done + _BLOCK, float(values.mean())
        if not np.isfinite(last):
            raise ValueError(f"The loss is {last} after {done} steps; lower the learning rate.")
        listening(progress).part(min(done, recipe.steps), recipe.steps, f"loss {last:.4f}")
        if validation is not None:
            found = float(validated(state[1], validation, jax.random.key(seed)))
            if found < least:
                best, least, best_at = state[1], found, done
            elif done - best_at >= _PATIENCE * recipe.steps:
                break
        now = time.perf_counter()
        if place is not None and (done >= recipe.steps or now - saved > recipe.save_seconds):
            _write(place, state, done, spent + now - began, last)
            saved = now
    kept = state[1] if validation is None else best
    return Trained(nnx.merge(graph, kept), spent + time.perf_counter() - began, last)


def _place(folder: Path, content: str, recipe: Recipe, seed: int) -> Path:
    version = importlib.metadata.version("gmm-speciation")
    text = f"{version}|{content}|{recipe.steps}|{recipe.rate}|{seed}|{_BLOCK}|{_AVERAGE}"
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"


def digest(*arrays: Any) -> str:
    """Of arrays, for the content of a cache."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


def _write(place: Path, state: Any, done: int, seconds: float, last: float) -> None:
    leaves: dict[str, Any] = {
        f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))
    }
    content = io.BytesIO()
    np.savez(content, done=done, seconds=seconds, last=last, **leaves)
    write_bytes(place, content.getvalue())


def _read(place: Path, like: Any) -> tuple[Any, int, float, float]:
    kept = read_arrays(place)
    leaves = [jnp.asarray(kept[f"leaf{i}"]) for i in range(len(jax.tree.leaves(like)))]
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return state, int(kept["done"]), float(kept["seconds"]), float(kept["last"])
