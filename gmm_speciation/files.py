"""Files that appear whole or not at all: the one way in which results are written.

The content goes to a temporary name beside its place, is flushed to the disk and moved there; then the
folder's entry is flushed, too. So whoever reads sees the old file or the new one, also after a loss of power.
A process that is killed leaves its temporary file,

    .NAME.HOST-PID-TOKEN.tmp

and the next write into that folder removes it: where its process is gone, or, of another host, after a day.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LEFTOVER = re.compile(r"\..*\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp")
_OLD_SECONDS = 24 * 3600.0


class DiskFullError(OSError):
    """Nothing more can be written; what is finished stays."""


@contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """A disk that is full while the block writes `path` is a `DiskFullError` with the folder's name."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full or isinstance(error, DiskFullError):
            raise
        message = f"the disk is full: {path.name} could not be written"
        raise DiskFullError(error.errno, message, str(path.parent)) from error


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A temporary name for what will be `path`, a file or a folder; what is left under it is removed.

    Raises:
        DiskFullError: If there is no room.
        OSError: If the folder around `path` cannot be made or written.
    """
    with naming_a_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        writer = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
        temporary = path.with_name(f".{path.name}.{writer}.tmp")
        try:
            yield temporary
        finally:
            _remove(temporary)


def write_whole(path: Path, write: Callable[[Path], object], *, replace: bool = True) -> None:
    """Write a file so that it appears complete or not at all.

    Args:
        path: Where it goes; its folder is made if missing.
        write: Writes the content to the file name that it is given.
        replace: Without it a file that is there already stays, also one written at this moment.

    Raises:
        ValueError: If a folder is there.
        DiskFullError: If there is no room.
        OSError: If it cannot be written.
    """
    with beside(path) as temporary:
        write(temporary)
        flush(temporary)
        _place(temporary, path, replace)
    flush(path.parent)


def write_bytes(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write bytes. Errors as `write_whole`."""
    write_whole(path, lambda temporary: temporary.write_bytes(content), replace=replace)


def write_text(path: Path, text: str, *, replace: bool = True) -> None:
    """Write text in UTF-8, its line ends as they are. Errors as `write_whole`."""
    write_bytes(path, text.encode("utf-8"), replace=replace)


def flush(path: Path) -> None:
    """See to it that a file's content, or a folder's entries, have reached the disk."""
    folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    except OSError:
        if folder:  # a system without folder handles
            return
        raise
    try:
        os.fsync(handle)
    except OSError:
        if not folder:
            raise
    finally:
        os.close(handle)


def refuse_folder(path: Path) -> None:
    """ValueError if a folder is where a file must be: nothing that is written there could replace it."""
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder where a file must be: move it away.")


def _place(temporary: Path, path: Path, replace: bool) -> None:
    refuse_folder(path)
    if not replace:
        try:
            os.link(temporary, path)  # fails where the file exists, whoever wrote it
            return
        except FileExistsError:
            return
        except OSError:
            if path.exists():  # a file system without links
                return
    os.replace(temporary, path)


def _host() -> str:
    """What tells apart the hosts, and the containers of one, that may share a folder."""
    try:
        processes = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux
        processes = 0
    return hashlib.sha256(f"{socket.gethostname()} {processes}".encode()).hexdigest()[:8]


def _remove_leftovers(folder: Path) -> None:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(".tmp")]
    for name in names:
        found = _LEFTOVER.fullmatch(name)
        if found is not None and _is_dead(folder / name, found[1], int(found[2])):
            _remove(folder / name)


def _is_dead(leftover: Path, host: str, process: int) -> bool:
    """Whether its writer is gone, as far as that can be known from here."""
    # Asking after a process by signal 0 ends it outside of POSIX.
    if host == _host() and os.name == "posix":
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass
    try:
        return time.time() - leftover.stat().st_mtime > _OLD_SECONDS
    except OSError:  # moved into place in this moment
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
