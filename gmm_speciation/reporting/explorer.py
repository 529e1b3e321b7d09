"""The part of a page that answers: curves with values under the pointer, and a slider through the noise.

Data goes into the page as JSON, pictures as bytes in base64; `explorer.js` draws both. Nothing is loaded from
elsewhere. The slider moves all that has a noise level: values, noisy and denoised images, class posteriors.
"""

import base64
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.records import to_json


class Frames(NamedTuple):
    """Images along their noise paths, at the levels of the curves beside them: from signal to noise.

    Pixels are grey or red, green and blue (C is 1 or 3), 0 to 255.
    """

    names: list[str]
    classes: list[str]
    noisy: UInt8[np.ndarray, "N L C H W"]
    denoised: UInt8[np.ndarray, "N L C H W"]
    posterior: Float[np.ndarray, "N L K"]


def explorer(curves: Mapping[str, EntropyCurve], frames: Frames | None = None) -> str:
    """HTML of curves on one grid of noise levels, and of images at the same levels.

    Raises:
        ValueError: If there is no curve, the curves have different levels, or the images others.
    """
    from gmm_speciation import plotting

    levels = [np.asarray(curve.log_snr, float) for curve in curves.values()]
    if not levels or any(not np.array_equal(levels[0], other) for other in levels):
        raise ValueError("An explorer needs curves on one grid of noise levels.")
    if frames is not None and frames.noisy.shape[1] != len(levels[0]):
        raise ValueError(
            f"Images must be at the {len(levels[0])} levels of the curves; got {frames.noisy.shape[1]}."
        )
    first = next(iter(curves.values()))
    shown: list[dict[str, Any]] = []
    for index, (name, curve) in enumerate(curves.items()):
        dash = plotting.DASHES[index % len(plotting.DASHES)]
        shown.append(
            {
                "name": name,
                "colour": plotting.COLOURS[index % len(plotting.COLOURS)],
                "dash": "none" if dash == "-" else " ".join(str(2 * part) for part in dash[1]),
                "entropy": _numbers(curve.entropy),
                "rate": _numbers(curve.rate),
            }
        )
    data = {
        "log_snr": levels[0],
        "start": int(np.argmax(np.nan_to_num(np.asarray(first.rate.value)))),
        "curves": shown,
        "images": [],
    }
    if frames is not None:
        data |= {
            "classes": frames.classes,
            "channels": frames.noisy.shape[2],
            "size": frames.noisy.shape[3:],
            "images": [
                {
                    "name": name,
                    "noisy": base64.b64encode(noisy.tobytes()).decode(),
                    "denoised": base64.b64encode(denoised.tobytes()).decode(),
                    "posterior": np.round(posterior, 4),
                }
                for name, noisy, denoised, posterior in zip(
                    frames.names, frames.noisy, frames.denoised, frames.posterior, strict=True
                )
            ],
        }
    # A name that holds "</script>" must not end the block.
    text = html.escape(json.dumps(to_json(data), allow_nan=False), quote=False)
    text = text.replace("&amp;", "\\u0026").replace("&lt;", "\\u003c").replace("&gt;", "\\u003e")
    return (
        '<section class="explorer" aria-label="Curves against noise">\n'
        f'<script type="application/json">{text}</script>\n</section>\n'
        "<noscript>The values under the pointer need JavaScript; all of them are in result.json.</noscript>\n"
    )


def script() -> str:
    """What makes the explorers of a page answer."""
    return (files("gmm_speciation.reporting") / "explorer.js").read_text(encoding="utf-8")


def _numbers(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "half": estimate.half_width()}
