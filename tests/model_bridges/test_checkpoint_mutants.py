"""Thousands of damaged official files run nothing, take little memory and end in the one error."""

import pickle
import resource
import sys
import tracemalloc

import numpy as np
import official_files as files
from official_files import MEGABYTE, WEIGHT, evil, storage_bytes

from model_bridges.checkpoints import UnsafeCheckpointError, read_checkpoint

# --- fuzz ---

NUM_MUTANTS = 5_400
EVENTS: list[str] = []
WATCHING = False
QUIET = ("open", "mmap.__new__", "object.__getattr__", "sys._getframe", "array.__new__")


def watch(event, arguments):
    """Audit hook: what happens inside the interpreter while a file is read."""
    if WATCHING and event not in QUIET:
        EVENTS.append(event)


sys.addaudithook(watch)


def mutants(data: bytes, others: list[bytes], count: int, seed: int):
    """Valid files after a few changes: bits, bytes, cuts, copies, splices, other opcodes and names."""
    rng = np.random.default_rng(seed)
    opcodes = bytes(range(256))
    names = (b"posix\x94\x8c\x06system", b"builtins", b"os", b"exec", b"eval", b"subprocess")
    interesting = (
        b"\xff" * 4,
        b"\x00" * 4,
        b"\xff" * 8,
        b"\x80\x04",
        b"R",
        b"b",
        b"(",
        b"t",
        b"\x93",
    )
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(int(rng.integers(1, 5))):
            kind = int(rng.integers(9))
            at = int(rng.integers(len(mutant)))
            length = int(rng.integers(1, 40))
            other = int(rng.integers(len(mutant)))
            if kind == 0:
                mutant[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                mutant[at] = opcodes[int(rng.integers(256))]
            elif kind == 2:
                del mutant[at : at + length]
            elif kind == 3:
                mutant[at:at] = mutant[other : other + length]
            elif kind == 4:
                mutant[at : at + length] = mutant[other : other + length]
            elif kind == 5:
                piece = interesting[int(rng.integers(len(interesting)))]
                mutant[at : at + len(piece)] = piece
            elif kind == 6:
                source = others[int(rng.integers(len(others)))]
                start = int(rng.integers(len(source)))
                mutant[at : at + length] = source[start : start + length]
            elif kind == 7:
                name = names[int(rng.integers(len(names)))]
                mutant[at : at + len(name)] = name
            else:
                del mutant[at:]
            mutant = mutant or bytearray(b"\x80")
        yield bytes(mutant)


def test_no_mutant_runs_anything_takes_much_or_fails_in_another_way(tmp_path):
    """At least 5,000 damaged files: read, or the one error; nothing runs; memory stays bounded."""
    global WATCHING
    files.write(tmp_path / "net.pkl")
    small, whole = files.small_file(), (tmp_path / "net.pkl").read_bytes()
    payload = pickle.dumps(evil(tmp_path / "ran"))
    path = tmp_path / "mutant.pkl"
    path.write_bytes(small)
    read_checkpoint(path)  # what is imported on first use is imported
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"read": 0, "refused": 0}
    sources = (
        (small, NUM_MUTANTS - 400, 1),
        (whole, 400, 2),
    )
    index = 0
    for data, count, seed in sources:
        for mutant in mutants(data, [whole, payload, storage_bytes(WEIGHT)], count, seed):
            path.write_bytes(mutant)
            index += 1
            sampled = index % 25 == 0
            if sampled:
                tracemalloc.start()
            EVENTS.clear()
            WATCHING = True
            try:
                read_checkpoint(path)
                outcome = "read"
            except UnsafeCheckpointError:
                outcome = "refused"
            finally:
                WATCHING = False
            outcomes[outcome] += 1
            assert not EVENTS, (EVENTS, mutant)
            if sampled:
                _, peak = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert peak <= 2 * len(mutant) + 32 * MEGABYTE
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert index >= 5_000
    assert outcomes["read"] > 20  # changes inside weights are not noticed, and need not be
    assert outcomes["refused"] > 4_000
    assert grown * 1024 < 64 * MEGABYTE
    assert not (tmp_path / "ran").exists()
