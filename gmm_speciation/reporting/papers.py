"""A paper's claims as rows: what it says and where, predicted by whom, measured, verdict.

A row is a `Claim` and what a reader of the paper wants besides: the place in the paper, where the prediction
comes from (the paper, a theory, or that the paper gives none), the command that gives this number alone,
and the picture. Claims that do not hold stay. What of a paper is not public is said in its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gmm_speciation.reporting.claims import Claim


@dataclass(frozen=True)
class Place:
    """What a paper's row says besides the claim.

    Attributes:
        where: The place in the paper; of what could not be read, that it is not known.
        origin: Of the prediction: "theory: …", "the paper: …", or "the paper gives none; …".
        command: Gives this number alone; the paper's own command where it is empty.
        figure: Name of a picture, without ending.
    """

    where: str
    origin: str
    command: str = ""
    figure: str = ""


@dataclass(frozen=True)
class PaperRow:
    """A claim of a paper, measured."""

    claim: Claim
    place: Place


def rows_of(claims: Sequence[Claim], places: Mapping[str, Place]) -> list[PaperRow]:
    """The claims whose statement holds one of these texts, the first that fits; the others are left out."""
    return [
        PaperRow(claim, place)
        for claim in claims
        for place in [next((p for text, p in places.items() if text in claim.statement), None)]
        if place is not None
    ]
