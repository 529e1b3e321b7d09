"""Averages over many draws: chunk by chunk, on every device, the same on any number of them.

n draws are cut into chunks whose size depends on the problem alone, and the random numbers of chunk i on
`(key, i)` alone (`jax.random.fold_in`). Every device of a mesh takes one chunk at a time through the
same program, and hands back moments of its m values s at every noise level,

    m,    mean = sum s / m,    M = sum (s - mean)^2,    sums over every R-th value.

The host merges them in the order of the chunks, in float64 (Chan, Golub & LeVeque 1983): with
`delta = mean_B - mean_A`,

    mean = mean_A + delta m_B / (m_A + m_B),    M = M_A + M_B + delta^2 m_A m_B / (m_A + m_B).

So neither the number of devices nor that of hosts enters the result, and memory is that of one chunk a
device, O(chunk (d + K)), whatever n is.

Axes: T levels, R batches.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from gmm_speciation.posteriors import LevelStatistics, PosteriorStatistics
from gmm_speciation.programs import program
from gmm_speciation.progress import Parts, Progress, listening
from gmm_speciation.sampling.devices import (
    EACH,
    SAME,
    everywhere,
    flat_mesh,
    on_devices,
    on_host,
    own_places,
    place,
)

NUM_BATCHES = 16
_CHUNK_NUMBERS = 2**20
_MOST_ROWS = 2**14


class Source(eqx.Module):
    """Where the values come from: what a chunk draws once, and its statistics at a noise level."""

    @abc.abstractmethod
    def draw(self, index: Int[Array, ""], rows: Any) -> Any:
        """What chunk `index` uses at all levels; `rows` are the given data of the chunk, if any."""

    @abc.abstractmethod
    def statistics(self, log_snr: Float[Array, ""], drawn: Any) -> PosteriorStatistics:
        """Statistics of every draw of the chunk."""


@dataclasses.dataclass(frozen=True)
class Chunks:
    """`num_rows` draws in pieces of `size`, the last one shorter."""

    num_rows: int
    size: int

    @classmethod
    def of(
        cls, num_rows: int, width: int, least: int = 64, *, numbers: int = _CHUNK_NUMBERS
    ) -> "Chunks":
        """Pieces of about `numbers` numbers at `width` a row, of at least `least` rows.

        One piece where they fit into it; else a multiple of 64 rows, so of the number of batches.
        """
        size = max(numbers // width, least, 64)
        return cls(num_rows, min(-(-size // 64) * 64, _MOST_ROWS, num_rows))

    def __len__(self) -> int:
        return -(-self.num_rows // self.size)

    def count(self, index: int) -> int:
        """Draws of chunk `index`; 0 after the last."""
        return max(min(self.size, self.num_rows - index * self.size), 0)

    def rows(self, data: Array | np.ndarray, index: int, dtype) -> Array | np.ndarray:
        """Rows of chunk `index` of given data, filled up with zeros."""
        count = self.count(index)
        if count == self.num_rows:
            return data.astype(dtype)
        part = data[index * self.size : index * self.size + count].astype(dtype)
        missing = self.size - count
        if not missing:
            return part
        numpy: Any = jnp if isinstance(part, jax.Array) else np
        return numpy.pad(part, ((0, missing), (0, 0)))


class Moments(eqx.Module):
    """Moments of the values of a chunk at every level."""

    mean: PosteriorStatistics  # (T,)
    squares: PosteriorStatistics  # (T,): sum of squared deviations from the mean
    sums: PosteriorStatistics  # (T, R): of every R-th value, the remainder of n / R left out


def _moments(statistics: PosteriorStatistics, count: Int[Array, ""]) -> Moments:
    def masked(values, limit):
        return jnp.where(jnp.arange(values.shape[0]) < limit, values, 0.0)

    def mean(values):
        return masked(values, count).sum() / jnp.maximum(count, 1).astype(values.dtype)

    def squares(values, centre):
        return masked((values - centre) ** 2, count).sum()

    def sums(values):
        whole = masked(values, count // NUM_BATCHES * NUM_BATCHES)
        padded = jnp.pad(whole, (0, -values.shape[0] % NUM_BATCHES))
        return padded.reshape(-1, NUM_BATCHES).sum(0)

    means = jax.tree.map(mean, statistics)
    return Moments(means, jax.tree.map(squares, statistics, means), jax.tree.map(sums, statistics))


@program
def _round(source: Source, log_snr, index, count, rows, mesh: Mesh) -> Moments:
    """Moments of one chunk a device, with a leading axis over the devices."""

    def chunk(source, log_snr, index, count, rows):
        drawn = source.draw(index[0], rows)
        found = jax.lax.map(lambda at: _moments(source.statistics(at, drawn), count[0]), log_snr)
        return jax.tree.map(lambda values: values[None], found)

    specs = (SAME, SAME, EACH, EACH, EACH)
    return on_devices(chunk, mesh, specs)(source, log_snr, index, count, rows)


def chunk_moments(
    source: Source,
    log_snr: Float[Array, " T"],
    chunks: Chunks,
    mesh: Mesh | None = None,
    rows: Callable[[int], Any] | None = None,
) -> Iterator[Moments]:
    """Moments of every chunk, in order, as numpy arrays; one round of devices works ahead.

    Args:
        source: Of the values.
        log_snr: Noise levels.
        chunks: How many draws in how many pieces.
        mesh: Devices to use; all of the default backend by default.
        rows: The given data of a chunk, `chunks.size` rows, by its number.
    """
    mesh = flat_mesh(mesh)
    source, log_snr = everywhere((source, log_snr), mesh)

    def piece(index: int) -> Any:
        # Behind the last chunk a device repeats it, and counts nothing.
        given = None if rows is None else rows(min(index, len(chunks) - 1))
        return np.array([index], np.int32), np.array([chunks.count(index)], np.int32), given

    def launch(first: int) -> Moments:
        index, count, given = place([piece(first + i) for i in own_places(mesh)], mesh, EACH)
        return _round(source, log_snr, index, count, given, mesh)

    def arrived(first: int, moments: Moments) -> Iterator[Moments]:
        whole = on_host(moments)
        for at in range(min(mesh.size, len(chunks) - first)):
            yield jax.tree.map(lambda values, at=at: values[at], whole)

    before = None
    for first in range(0, len(chunks), mesh.size):
        launched = first, launch(first)
        if before is not None:
            yield from arrived(*before)
        before = launched
    assert before is not None  # there is at least one chunk
    yield from arrived(*before)


def level_averages(
    source: Source,
    log_snr: Float[Array, " T"],
    chunks: Chunks,
    *,
    mesh: Mesh | None = None,
    rows: Callable[[int], Any] | None = None,
    progress: Progress | Parts | None = None,
) -> LevelStatistics:
    """Mean, standard error and batch means of all draws at every level. Arguments as `chunk_moments`.

    Args:
        progress: Told of the draws that are done after every chunk.

    Raises:
        ValueError: If a chunk of given data has a value that is not finite.
    """
    done, merged, told = 0, None, listening(progress)
    for index, one in enumerate(chunk_moments(source, log_snr, chunks, mesh, rows)):
        if rows is not None and not np.isfinite(one.mean.entropy).all():
            start = index * chunks.size
            raise ValueError(
                f"`samples` must be finite; rows {start} to {start + chunks.count(index) - 1} have "
                "a NaN or an infinity. Drop or impute such entries."
            )
        dtype = one.mean.entropy.dtype
        one = jax.tree.map(lambda values: np.asarray(values, float), one)
        merged = one if merged is None else _merged(merged, done, one, chunks.count(index))
        done += chunks.count(index)
        told.part(done, chunks.num_rows)
    assert merged is not None  # there is at least one chunk
    over = lambda function, tree: jax.tree.map(  # noqa: E731
        lambda values: jnp.asarray(function(values), dtype), tree
    )
    return LevelStatistics(
        over(lambda mean: mean, merged.mean),
        over(lambda squares: np.sqrt(squares / (done - 1) / done), merged.squares),
        over(lambda sums: sums / (done // NUM_BATCHES), merged.sums),
        float(done - 1),
    )


def _merged(one: Moments, num_one: int, other: Moments, num_other: int) -> Moments:
    total = num_one + num_other
    delta = jax.tree.map(np.subtract, other.mean, one.mean)
    return Moments(
        jax.tree.map(lambda mean, step: mean + step * (num_other / total), one.mean, delta),
        jax.tree.map(
            lambda a, b, step: a + b + step**2 * (num_one * (num_other / total)),
            one.squares,
            other.squares,
            delta,
        ),
        jax.tree.map(np.add, one.sums, other.sums),
    )
