"""Whether an entropy curve can be trusted: claims, their verdicts, and the block of them on a curve.

A claim is a quantity theta_l at noise levels l with a range in which an exact model has it, widened by a
tolerance for networks that are merely good. With estimates of standard error s_l and nu degrees of freedom,

    no    at some level `theta_l -+ t(nu, 1 - 0.01 / 2L) s_l` lies wholly outside: at most one false alarm
          in a hundred for all L levels together, even of a model at the very end of the range
    yes   at every level the 95 % interval lies inside
    open  else: not resolved, or a matter of the levels alone

and a curve is trusted where no claim is "no". What is claimed of a trained model is
in `model_bridges.entropy.trust`.

What this does not see: a wrapper that is wrong and yet denoises about as well as a linear filter, such as
one that tells its network a noise scale wrong by a factor of two or three (calibration shows it only where
labels are known and images many); classes exchanged where no labels are given; a model of other data that
it happens to denoise as well. Few images resolve little: an "open" is no "yes".
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Verdict, verdict
from gmm_speciation.reporting.tables import Table

FALSE_ALARMS = 0.01  # of one claim, for all levels together
HOW_TRUST_IS_JUDGED = (
    "Each check stands at the level where it is worst. *no*: some level lies outside what is expected, at "
    "99 % for all levels together; *yes*: the 95 % interval of every level lies inside; *open*: not "
    "resolved, or a matter of the levels alone. A curve is trusted where no check is *no*. What no check "
    "sees: a noise scale that the network is told wrong by a factor of two or three."
)
End = float | Float[np.ndarray, " L"]


class TrustWarning(UserWarning):
    """A check of an entropy curve has failed; the message says which, by how much, and the remedy."""


@dataclass(frozen=True)
class Check:
    """What was checked, at the level where it is worst; `half_width` is that of the 95 % interval."""

    name: str
    expected: str
    measured: float
    verdict: Verdict
    remedy: str
    half_width: float | None = None
    sigma: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        expected: str,
        remedy: str,
        estimate: Estimate,
        sigmas: Float[np.ndarray, " L"],
        low: End = -np.inf,
        high: End = np.inf,
    ) -> "Check":
        """The verdict on estimates `(L,)` that should lie between `low` and `high`."""
        value, half_width = np.asarray(estimate.value, float), estimate.half_width()
        least, most = (np.broadcast_to(end, value.shape) for end in (low, high))

        def at(level: float) -> list[Verdict]:
            ends = zip(*estimate.interval(level), least, most, strict=True)
            return [verdict(end[:2], end[2:]) for end in ends]

        # What is not a number is outside.
        outside = np.isnan(value) | np.isnan(half_width)
        outside |= np.array([one == Verdict.NO for one in at(1 - FALSE_ALARMS / value.size)])
        beyond = np.where(np.isnan(value), np.inf, np.maximum(value - most, least - value))
        worst = int(np.argmax(np.where(outside, beyond, -np.inf) if outside.any() else beyond))
        inside = all(one == Verdict.YES for one in at(0.95))
        found = Verdict.NO if outside.any() else Verdict.YES if inside else Verdict.OPEN
        numbers = (float(part[worst]) for part in (half_width, sigmas))
        return cls(name, expected, float(value[worst]), found, remedy, *numbers)

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Check":
        """From what `records.to_json` makes of one.

        Raises:
            KeyError, TypeError, ValueError: If something is missing, or of another kind.
        """
        words = [content[name] for name in ("name", "expected", "remedy")]
        if not all(isinstance(text, str) for text in words):
            raise TypeError(f"`name`, `expected` and `remedy` of a check must be text; got {words}")
        name, expected, remedy = words
        measured, half_width, sigma = (content[key] for key in ("measured", "half_width", "sigma"))
        return cls(
            name,
            expected,
            np.nan if measured is None else float(measured),
            Verdict(content["verdict"]),
            remedy,
            None if half_width is None else float(half_width),
            None if sigma is None else float(sigma),
        )

    def __str__(self) -> str:
        error = "" if self.half_width is None else f" ± {self.half_width:.2g}"
        place = "" if self.sigma is None else f" at σ = {self.sigma:.3g}"
        return f"{self.name}: {self.measured:.3g}{error}{place}, expected {self.expected}"


@dataclass(frozen=True)
class Trust:
    """Every claim about one curve."""

    checks: tuple[Check, ...]

    @classmethod
    def read(cls, content: dict[str, Any]) -> "Trust":
        """From what `records.to_json` makes of it. Raises as `Check.read`."""
        return cls(tuple(Check.read(one) for one in content["checks"]))

    def __repr__(self) -> str:
        state = "trusted" if self.ok else "NOT to be trusted"
        lines = [f"  {check.verdict:4}  {check}" for check in self.checks]
        return "\n".join([f"Trust({state}", *lines, ")"])

    @property
    def ok(self) -> bool:
        """No check has failed."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """The checks that say "no"."""
        return [check for check in self.checks if check.verdict == "no"]

    @property
    def reasons(self) -> str:
        """What has failed, with its numbers, each remedy once below all that it is for."""
        remedies = dict.fromkeys(check.remedy for check in self.failed)
        return " ".join(
            " ".join(f"{check}." for check in self.failed if check.remedy == remedy) + f" {remedy}."
            for remedy in remedies
        )

    def warn(self, what: str, stacklevel: int = 3) -> None:
        """One `TrustWarning` with all that has failed, if anything has."""
        if self.failed:
            warnings.warn(f"{what} cannot be trusted: {self.reasons}", TrustWarning, stacklevel)


def trust_rows(blocks: Mapping[str, Trust], every: bool = False) -> Table:
    """Headers and rows: a line for each curve, and one for each check, or each that is not "yes"."""
    headers = ["can it be trusted?", "expected", "measured", "± 95 %", "at σ", "holds"]
    rows = []
    for name, block in blocks.items():
        rows.append([name, "", "", "", "", "yes" if block.ok else "NO"])
        last = {check.remedy: check for check in block.failed}  # a remedy stands once
        for check in block.checks:
            if every or check.verdict != "yes":
                error = "" if check.half_width is None else f"{check.half_width:.2g}"
                place = "" if check.sigma is None else f"{check.sigma:.3g}"
                remedy = f". {check.remedy}" if last.get(check.remedy) is check else ""
                numbers = [f"{check.measured:.3g}", error, place, str(check.verdict)]
                rows.append([f"– {check.name}{remedy}", check.expected, *numbers])
    return Table(headers, rows)


def trust_record(blocks: Mapping[str, Trust]) -> dict[str, Any]:
    """What a `result.json` holds of it."""
    return {name: {"ok": block.ok, "checks": block.checks} for name, block in blocks.items()}
