"""Commands on a Dask cluster, each a process of its own beside a worker.

A task starts the command as a child and waits for it, so that nothing of what the command imports runs in a
thread of the worker. Two things end a child before it is through:

    the sign    a file that the driver holds up (`sign`); a task whose sign is gone, or was not renewed for
                `PATIENCE` seconds, kills its child
    its stdin   a pipe from the worker, which closes when the worker is gone, however it went

Only the sign's content counts, against the clock of who reads it: clocks of machines differ.
"""

import itertools
import os
import runpy
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 120.0  # longer than a network file system keeps what it knows of a file
_POLL = 0.5
_TAIL = 4000  # bytes of stderr


class Ended(NamedTuple):
    """How a child ended: its exit code, negative for a signal, None if it was stopped; its last words."""

    code: int | None
    words: str


def connect(address: str) -> "Client":
    """A client of the Dask scheduler at an address.

    Raises:
        ModuleNotFoundError: Without the extra `cluster`.
        ValueError: If no scheduler answers.
    """
    from distributed import Client

    try:
        return Client(address, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(f"No Dask scheduler answers at {address!r}: {error}.") from error


@contextmanager
def sign(folder: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    """A sign in a folder, and what renews it; taken down when the block ends.

    Raises:
        OSError: If the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, count = folder / f"driver-{secrets.token_hex(8)}", itertools.count()

    def renew() -> None:
        path.write_text(str(next(count)))

    renew()
    try:
        yield path, renew
    finally:
        path.unlink(missing_ok=True)


def run_child(
    module: str, words: Sequence[str], place: str, environment: Mapping[str, str], sign: str
) -> Ended:
    """Run `python -m module words` in the folder `place` for as long as there is a sign.

    Raises:
        FileNotFoundError: If the sign or the folder is not there from the first.
    """
    seen, since = _content(sign), time.monotonic()
    if seen is None or not os.path.isdir(place):
        missing = os.path.dirname(sign) if seen is None else place
        raise FileNotFoundError(f"what the driver calls {missing} is not there")
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            # -P: as for the installed command, nothing in the folder takes the place of a library.
            [sys.executable, "-P", "-m", "gmm_speciation.clusters", module, *words],
            cwd=place,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        ) as child:
            try:
                while child.poll() is None:
                    time.sleep(_POLL)
                    now = _content(sign)
                    if now != seen:
                        seen, since = now, time.monotonic()
                    if now is None or time.monotonic() - since > PATIENCE:
                        return Ended(None, "stopped")
            finally:
                child.kill()
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _TAIL))
        return Ended(child.returncode, errors.read().decode(errors="replace"))


def _content(path: str) -> bytes | None:
    """What the sign says; None where it cannot be read, which stops the child as if it were gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
