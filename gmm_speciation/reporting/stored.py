"""Results read back: the content of a `result.json`, and curves with their checks.

Nothing is taken on faith: what is missing or of another kind than `records.to_json` writes is named.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reading import read_json
from gmm_speciation.reporting.records import FORMAT, RESULT
from gmm_speciation.reporting.trust import Trust

LONGEST = 1_000_000  # characters of a text in a result


def load_result(path: str | Path) -> dict[str, Any]:
    """The content of a `result.json`, or of the one in a report's folder.

    Its entry `format` is the version that it is written in. Files from before there was one have the
    entries of format 1 and are read as such.

    Raises:
        ValueError: If it is missing, is not such a file, or is written in another format.
    """
    path = Path(path)
    path = path / RESULT if path.is_dir() else path
    if not path.exists():
        raise ValueError(f"No result at {str(path)!r}: there is no such file.")
    try:
        content = read_json(path, longest=LONGEST)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not a result: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} is not a result: it must hold an object.")
    version = content.get("format", FORMAT)
    if type(version) is not int or version != FORMAT:
        raise ValueError(
            f"{str(path)!r} is written in format {str(version)[:20]!r} of a result; this version of "
            f"gmm-speciation reads format {FORMAT}. Read it with the version under `provenance`, or run the "
            "command there again."
        )
    return content


def load_curve(path: str | Path, name: str | None = None) -> EntropyCurve:
    """Read an entropy curve back from the `curves` of a result, with the checks of a model's.

    Args:
        path: A `result.json`, or a report's folder.
        name: Which curve; not needed where there is one.

    Raises:
        ValueError: If there is no such curve, or it is not complete.
    """
    result = load_result(path)
    curves = result.get("curves") or {}
    if not isinstance(curves, dict):
        raise ValueError(
            f"The `curves` in {str(path)!r} must be an object; got a list or a number."
        )
    if name is None and len(curves) == 1:
        name = next(iter(curves))
    if name not in curves:
        raise ValueError(
            f"{str(path)!r} has the curves {', '.join(curves) or '(none)'}; got `name={name!r}`."
        )
    content = curves[name]
    try:
        batches, method = content["batches"], content["method"]
        if not isinstance(method, str):
            raise TypeError(f"`method` must be a name; got {type(method).__name__}")
        return EntropyCurve(
            _array(content["log_snr"]),
            _estimate(content["entropy"]),
            _estimate(content["rate"]),
            float(content["prior_entropy"]),
            method,
            None
            if batches is None
            else Batches(_array(batches["entropy"]), _array(batches["rate"])),
            None if (trust := _trust(result, str(name))) is None else Trust.read(trust),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"The curve {name!r} in {str(path)!r} is not complete: {error}."
        ) from error


def _trust(result: dict[str, Any], name: str) -> Any:
    """The checks of a curve: its own, or those that older results have beside their curves.

    There those of "class: tracking" are under "class, tracking", and of a cross-check those of
    "class: tracked" under "class".
    """
    own, beside = result["curves"][name].get("trust"), result.get("trust")
    if own is not None or beside is None:
        return own
    older = (", ".join(name.rsplit(": ", 1)), name.removesuffix(": tracked"))
    return next((beside[one] for one in older if one in beside), None)


def _array(values: Any) -> np.ndarray:
    """Numbers as `to_json` wrote them: null is NaN, "inf" infinite."""
    if isinstance(values, list):
        return np.array([_array(value) for value in values], float)
    return np.array(math.nan if values is None else float(values))


def _estimate(content: Any) -> Estimate:
    return Estimate(_array(content["value"]), _array(content["stderr"]), float(content["dof"]))
