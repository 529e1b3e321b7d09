"""Tables, report and record of a removal."""

from typing import Any

from gmm_speciation.reporting.claims import check_records, check_rows
from gmm_speciation.reporting.records import percent
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.tables import ERRORS, NONE, Table
from gmm_speciation.shares import Share
from model_bridges.control.plotting import plot_removal, plot_rows
from model_bridges.control.removal import Removal
from model_bridges.quality import Quality

METRICS = ("removed_share", "balance", "frechet", "precision", "recall", "diversity")
_SHORT = {"balance": "balance KL", "frechet": "Fréchet distance"}  # prices, in a table
HEADERS = [
    "kind",
    "strength",
    "left, %",
    "balance KL",
    "Fréchet",
    "precision",
    "recall",
    "diversity",
    "wild, %",
    "evaluations",
]


def removal_rows(result: Removal) -> Table:
    """Headers and one row a kind and strength."""

    def row(name: str, strength: float, quality: Quality) -> list[str]:
        return [
            name,
            f"{strength:g}" if strength else NONE,
            percent(quality.left),
            f"{quality.balance:.3f}",
            f"{quality.frechet:.2f}",
            *(f"{getattr(quality, name):.3f}" for name in ("precision", "recall", "diversity")),
            percent(Share.counted(result.wild[name, strength], result.num_images)),
            str(result.evaluations[name]),
        ]

    rows = [row("unguided", 0.0, result.unguided)]
    for name, curve in result.curves.items():
        for strength, point in zip(curve.strengths[1:], curve.points[1:], strict=True):
            rows.append(row(name, float(strength), point))
    return Table(HEADERS, rows)


def removal_report(result: Removal, title: str) -> Report:
    """The page of a removal."""
    true = result.floor
    report = Report(title).text(
        f"{result.num_images} images a row, {result.num_steps} ancestral steps, the same noise for all. "
        f"*left*: images that the judge names class {result.removed}. *balance*: KL divergence of the shares "
        "of the other classes from their weights, nats; exact draws have "
        f"{result.unguided.balance_floor:.3f} at this size. "
        "*Fréchet*: squared distance to the training images without the class in the judge's features; "
        f"held-out images have {true.held_out.frechet:.2f}. *diversity*: "
        "spread of features inside a class over that of the data."
        " *wild*: images with a pixel beyond the data's range by more than half of it, which the judge clips."
        " *evaluations*: of the network, an image. Errors are 95 %; brackets are the ends of the interval."
    )
    report.table(*check_rows(result.checks), caption=ERRORS)
    report.figure(
        plot_removal(result),
        "removal",
        f"Images of class {result.removed} that are left, against what it costs; lower left is better.",
    )
    report.table(*removal_rows(result), caption=ERRORS)
    ends = "; ".join(f"{name}: {why}" for name, why in result.ends.items())
    report.text(f"Where the strengths of a kind end, and why: {ends}.")
    if result.comparisons:
        report.text(
            "## Front against front\n\nWhat a price buys of a kind: the least that is left of the class at "
            "any strength whose price is not above it, on straight lines between strengths; what is left "
            "unguided where it buys nothing. *all*: mean over the logarithm of the price, the area between "
            "the two fronts in the picture. First kind minus second, images resampled in pairs."
        )
        report.table(*front_rows(result), caption=ERRORS)
    chosen = ["unguided"]
    for name in result.curves:
        own = [key for key in result.pictures if key.rpartition(", ")[0] == name]
        chosen += own[-3:-1] or own  # the strongest spoils everything
    report.figure(
        plot_rows({key: result.pictures[key] for key in chosen}),
        "images",
        "Images of the same noise, a column each; on the left those that are of the class unguided.",
    )
    return report


def front_rows(result: Removal) -> Table:
    """Headers and rows: of two kinds what is left at every price, and on the whole."""
    headers = [
        "kinds",
        "price",
        "at most",
        "left of the first, %",
        "of the second, %",
        "difference, %",
    ]
    rows = []
    for (name, other, metric), found in result.comparisons.items():
        for i, budget in enumerate(found.budgets):
            rows.append(
                [
                    f"{name} − {other}",
                    _SHORT[metric],
                    f"{budget:.3g}",
                    percent(found.y_a[i]),
                    percent(found.y_b[i]),
                    percent(found.difference[i]),
                ]
            )
        rows.append([f"{name} − {other}", _SHORT[metric], "all", "", "", percent(found.area, 2)])
    return Table(headers, rows)


def area_rows(result: Removal) -> Table:
    """Headers and rows for a terminal: the areas alone."""
    rows = []
    for (name, other, metric), found in result.comparisons.items():
        low, high = found.budgets[[0, -1]]
        area = percent(found.area, 2)
        rows.append([f"{name} − {other}", _SHORT[metric], f"{low:.2g}–{high:.2g}", area])
    return Table(["fronts", "price", "from–to", "left, difference, %"], rows)


def removal_record(result: Removal) -> dict[str, Any]:
    """Everything measured, as plain data."""
    return {
        "model": result.model,
        "removed": result.removed,
        "num_images": result.num_images,
        "num_steps": result.num_steps,
        "unguided": quality_record(result.unguided),
        "kinds": {
            name: [
                {"strength": float(s), "wild": result.wild[name, float(s)], **quality_record(point)}
                for s, point in zip(curve.strengths[1:], curve.points[1:], strict=True)
            ]
            for name, curve in result.curves.items()
        },
        "evaluations_per_image": result.evaluations,
        "ends": result.ends,
        "fronts": [
            {
                "kind": a,
                "other": b,
                "price": metric,
                "budgets": found.budgets,
                "left": found.y_a,
                "left_of_other": found.y_b,
                "difference": found.difference,
                "area": found.area,
            }
            for (a, b, metric), found in result.comparisons.items()
        ],
        "floor": {"held_out": result.floor.held_out.frechet, "halves": result.floor.halves},
        "checks": check_records(result.checks),
    }


def quality_record(quality: Quality) -> dict[str, Any]:
    """Metrics and shares of one run."""
    found = {name: getattr(quality, name) for name in METRICS}
    return {k: v for k, v in found.items() if v is not None} | {"shares": quality.shares}
