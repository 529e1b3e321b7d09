"""`gmm-speciation doctor`: what is installed, on what it runs, what is missing and how to get it."""

import importlib
import importlib.metadata
import os
import platform
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gmm_speciation.cli.options import app
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.tables import NONE, Table
from gmm_speciation.reporting.terminal import Quiet

DISTRIBUTION = "gmm-speciation"
# What a user asks for; the rest is for those who work on the packages.
EXTRAS = {
    "": "the theory",
    "plots": "pictures",
    "cli": "commands, reports",
    "bridge": "trained models",
    "benchmark": "ranking estimators",
    "learned": "networks of the benchmark",
    "cluster": "runs on a Dask cluster",
}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)")


@app.command(examples="gmm-speciation doctor")
def doctor(quiet: Quiet = False) -> None:
    """Versions, devices, extras and caches; what is missing, and the line that installs it."""
    rows, missing = [], []
    packages: dict[str, dict[str, str | None]] = {}
    for extra, use in EXTRAS.items():
        needed = _needed(extra)
        packages[extra or "base"] = found = {name: _version(name) for name in needed}
        lacking = [name for name, version in found.items() if version is None]
        state = "complete" if not lacking else f"missing: {', '.join(lacking)}"
        line = f'pip install "{DISTRIBUTION}[{extra}]"' if extra else f"pip install {DISTRIBUTION}"
        rows.append([extra or "base", use, state])
        missing += [line] if lacking else []
    versions = {name: version for found in packages.values() for name, version in found.items()}
    devices, caches = _devices(), _caches()
    tables = {
        f"{DISTRIBUTION} {_version(DISTRIBUTION) or 'not installed, run from its source'}": Table(
            ["extra", "for", "state"], rows
        ),
        "versions": Table(
            ["package", "version"],
            [["python", platform.python_version()]]
            + [[name, version] for name, version in sorted(versions.items()) if version],
        ),
        "devices": Table(["library", "computes on"], [[*row] for row in devices.items()]),
        "caches": Table(["of", "where"], [[*row] for row in caches.items()]),
    }
    note = "\n".join(["To complete it:", *missing]) if missing else "Nothing is missing."
    record = {
        "version": _version(DISTRIBUTION),
        "python": platform.python_version(),
        "packages": packages,
        "devices": devices,
        "caches": caches,
        "install": missing,
    }
    terminal.finish(tables, lambda: (None, record), None, quiet, note=note)


def _needed(extra: str) -> list[str]:
    """Distributions that an extra asks for, those of extras inside it included."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = []
    for line in lines:
        name = _REQUIREMENT.match(line)
        asked = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name is None or (asked[1] if asked else "") != extra:
            continue
        if name[1].replace("_", "-") == DISTRIBUTION:
            inner = re.search(r"\[([^]]*)\]", line)
            for one in inner[1].split(",") if inner else []:
                names += _needed(one.strip())
        else:
            names.append(name[1])
    return list(dict.fromkeys(names))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    """What each library would compute on; a library that cannot start says why."""
    found = {}
    if find_spec("jax") is not None:
        try:
            import jax

            found["jax"] = ", ".join(f"{one.platform}: {one.device_kind}" for one in jax.devices())
        except RuntimeError as error:
            found["jax"] = f"none: {' '.join(str(error).split())[:200]}"
    if find_spec("torch") is not None:
        found["torch"] = _torch_devices()
    return found or {NONE: NONE}


def _torch_devices() -> str:
    try:
        torch: Any = importlib.import_module("torch")
    except (ImportError, OSError) as error:  # a build for another machine
        return f"none: {' '.join(str(error).split())[:200]}"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = [f"cuda: {torch.cuda.get_device_name(index)}" for index in range(count)]
    mps = getattr(torch.backends, "mps", None)
    names += ["mps"] if mps is not None and mps.is_available() else []
    return ", ".join([*names, f"cpu: {torch.get_num_threads()} threads"])


def _caches() -> dict[str, str]:
    """Where programs that JAX compiled and files of the hub are kept, and how much of them."""
    compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    hub = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return {
        "programs of JAX": _size(Path(compiled))
        if compiled
        else "none kept; set JAX_COMPILATION_CACHE_DIR",
        "files of the hub": _size(hub),
    }


def _size(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}, empty"
    size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    return f"{folder}, {size / 2**20:,.0f} MiB"
