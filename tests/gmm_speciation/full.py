"""A stdout that takes nothing, as on a full disk."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def full_stdout() -> Iterator[None]:
    """What is printed in the block fails for want of space."""
    with open("/dev/full", "wb", buffering=0) as nowhere:
        stream = io.TextIOWrapper(nowhere, encoding="utf-8", write_through=True)
        with redirect_stdout(stream):
            yield
