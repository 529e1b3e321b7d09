"""Results as data that last: to JSON, and where they come from. `stored` reads them back.

An `Estimate` keeps its standard error, its degrees of freedom and, for the reader, its 95 % interval.
JSON has no infinity and no NaN: they are written as "inf", "-inf" and null. What is written keeps the rules
of `reading`, so that it can be read back: a whole number beyond 64 bits, as a dimension may be, is its digits
in quotes, keys are different, and half a surrogate pair, as in the name of a file, is written out.
"""

import dataclasses
import datetime
import importlib.metadata
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

import gmm_speciation
from gmm_speciation.estimate import Estimate
from gmm_speciation.shares import Share

RESULT = "result.json"
FORMAT = 1  # of a result; raised when an entry that `stored` reads changes
UNITS = {  # of what bears these names in a result, whatever its pictures and tables are in
    "entropy": "nats",
    "rate": "nats per unit log-SNR",
    "log_snr": "log(alpha^2 / sigma^2) of x_t = alpha x_0 + sigma eps",
}
_PACKAGES = ("jax", "jaxlib", "equinox", "numpy", "scipy")


def provenance(
    command: str | None = None,
    seed: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    packages: Sequence[str] = (),
) -> dict[str, Any]:
    """Where a result comes from: versions, platform, date (UTC), command, arguments and seed.

    Args:
        command: The command line, as it can be typed again.
        seed: Seed of everything random.
        arguments: What the command computed with, defaults included.
        packages: Distributions to name besides the numerical base.
    """
    own = gmm_speciation.__version__  # type: ignore[attr-defined]
    versions = {"gmm-speciation": own, "python": platform.python_version()}
    for name in (*_PACKAGES, *packages):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    jax = sys.modules.get("jax")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "command": command,
        "arguments": dict(arguments or {}),
        "seed": seed,
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "float64": None if jax is None else bool(jax.config.jax_enable_x64),
    }


def format_estimate(estimate: Estimate | float, digits: int = 4) -> str:
    """`0.3563 ± 0.0012`: value and 95 % half-width, as an `Estimate` prints itself.

    An exact number, or a plain one, is given to `digits` significant digits; NaN is "not defined".
    """
    if not isinstance(estimate, Estimate):
        estimate = Estimate.exact(np.asarray(estimate, float))
    return format(estimate, "" if float(estimate.stderr) > 0 else f".{digits}g")


def percent(share: Estimate, digits: int = 1) -> str:
    """A share, or a difference of two, with its 95 % interval, times 100."""
    return f"{share:.{digits}%}".replace("%", "")


def to_json(obj: Any) -> Any:
    """Plain JSON data of a result.

    An `Estimate` gives value, stderr, dof and its 95 % interval, a `Share` its trials besides; a dataclass
    or module its fields and type; an array nested lists; infinity the string "inf" or "-inf"; NaN null;
    a whole number beyond 64 bits the string of its digits.

    Raises:
        ValueError: If something in it has no such form.
    """
    if obj is None or isinstance(obj, bool):
        return obj
    if isinstance(obj, str):
        return obj.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(obj, int):
        return obj if -(2**63) <= obj < 2**64 else str(obj)
    if isinstance(obj, float):
        return None if math.isnan(obj) else (obj if math.isfinite(obj) else str(obj))
    if isinstance(obj, Estimate):
        fields = {"value": obj.value, "stderr": obj.stderr, "dof": obj.dof}
        if isinstance(obj, Share):
            fields["trials"] = obj.trials
        return {**to_json(fields), "interval_95": to_json(obj.interval())}
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        fields = {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
        return {"type": type(obj).__name__, **to_json(fields)}
    if isinstance(obj, Mapping):
        found = {to_json(str(key)): to_json(value) for key, value in obj.items()}
        if len(found) < len(obj):
            raise ValueError(
                f"Keys of a result must differ as text; got {', '.join(map(repr, obj))}."
            )
        return found
    if isinstance(obj, list | tuple | set | frozenset):
        return [to_json(value) for value in obj]
    if isinstance(obj, Enum | Path):
        return to_json(str(obj))
    if hasattr(obj, "__array__"):
        array = np.asarray(obj)
        if array.dtype.kind in "biuf":
            return to_json(array.tolist())
    raise ValueError(
        f"A result holds numbers, arrays, text, mappings and dataclasses; got {type(obj).__name__}."
    )
