"""A denoiser that counts its forward passes and survives a lack of memory.

The unit of cost is one *evaluation*: one noisy state through the network once. Before the first large batch
two small ones say how many states there is memory for (`memory`). Where a batch does not fit all the same
it is halved until it does, and later batches start from the size that fitted; chunks of a run and their
random numbers do not change.
"""

import math
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.progress import SILENT
from model_bridges.denoisers.base import (
    Denoiser,
    Label,
    NotFiniteError,
    Sigma,
    States,
    Wrapped,
    own_raw,
)
from model_bridges.denoisers.devices import home
from model_bridges.denoisers.memory import fitting_batch

_LARGE = 1 << 18  # numbers of a batch of states, from which on memory is looked at


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a forward pass failed for want of memory, on any device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in text or "can't allocate memory" in text)
    )


@final
class CountingDenoiser(Wrapped):
    """A `Denoiser` around another one: the same numbers, counted, in batches that fit.

    Args:
        denoiser: The model.
        say: Called with one line when a batch was split.
        note: A line to say before the first forward pass.
    """

    def __init__(
        self, denoiser: Denoiser, say: Callable[[str], object] = SILENT.say, note: str = ""
    ):
        self.denoiser, self.say, self.note = denoiser, say, note
        self.evaluations = 0
        self.max_batch: int | None = None  # the size that fits, once that is known

    def raw(self, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]:
        """The raw output; the batch is split where memory is short.

        Raises:
            MemoryError: If not even one state fits.
        """
        self.evaluations += len(x)
        if self.note:
            self.say(self.note)
            self.note = ""
        if self.max_batch is None and len(x) > 2 and math.prod(x.shape) > _LARGE:
            self.max_batch = self._fitting(x, sigma, label)
        if self.max_batch is None or len(x) <= self.max_batch:
            try:
                return own_raw(self.denoiser, x, sigma, label)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(x) == 1:
                    raise MemoryError(
                        f"one state of shape {tuple(x.shape[1:])} does not fit into memory; use a "
                        "device with more, or a smaller data type."
                    ) from error
            self.max_batch = (len(x) + 1) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.say(f"out of memory at a batch of {len(x)}: now at most {self.max_batch} at once")
        size, results = self.max_batch, []
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            self.evaluations -= len(x[part])  # counted once, above
            try:
                results.append(self.raw(x[part], _part(sigma, part), _part(label, part)))
            except NotFiniteError as error:
                raise error.at(first + error.image) from None
        return torch.cat(results)

    def _fitting(self, x: States, sigma: Sigma, label: Label) -> int | None:
        """How many of these states there is memory for at once, if that can be known."""

        def first(batch: int) -> object:
            own = slice(batch)
            return self.denoiser.raw(x[own], _part(sigma, own), _part(label, own))

        try:
            found = fitting_batch(first, home(self.denoiser))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            found = 1
        if found is not None and found < len(x):
            self.say(f"there is memory for {found} states at once")
        return found


def _part(values: Any, part: slice) -> Any:
    """Rows of a level or a label, where there is one a state."""
    if not isinstance(values, Tensor | np.ndarray) or values.ndim == 0:
        return values
    return values[part]
