"""Tables, report and record of a study of guidance."""

from typing import Any

import numpy as np

from gmm_speciation.reporting.claims import HOW_CLAIMS_ARE_JUDGED, check_records, check_rows
from gmm_speciation.reporting.records import percent
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.tables import ERRORS, NONE, Table
from gmm_speciation.reporting.trust import HOW_TRUST_IS_JUDGED, trust_record, trust_rows
from gmm_speciation.shares import Share
from model_bridges.control import plotting
from model_bridges.control.drawing import Draw
from model_bridges.control.guided import GuidedRun, commitment
from model_bridges.control.information import LIMITED, WHERE, GuidedInformation, shift
from model_bridges.control.interval_search import IntervalSearch
from model_bridges.control.removal_report import quality_record
from model_bridges.control.study import GuidanceStudy
from model_bridges.control.time_grids import TimeGrids


def information_rows(result: GuidedInformation) -> Table:
    """Headers and rows: what every kind decides, and when."""
    headers = [
        "guidance",
        "commits at log σ",
        "shift [log σ]",
        "shift, mixture",
        "named at the end, %",
        "identity, nats",
        "90 % left at λ",
        "half left at λ",
        "10 % left at λ",
    ]
    plain = result.runs[1.0]
    runs: dict[str, GuidedRun] = {f"w = {scale:g}": run for scale, run in result.runs.items()}
    runs |= {f"w = {LIMITED:g} {WHERE[place]}": run for place, run in result.limited.items()}
    runs |= result.feedback
    theory = {f"w = {scale:g}": run for scale, run in result.theory.items()}
    rows = []
    for name, run in runs.items():
        exact = NONE
        if name in theory and run is not plain:
            exact = f"{shift(theory[name], result.theory[1.0]):.3f}"
        rows.append(
            [
                name,
                f"{commitment(run):.3f}",
                NONE if run is plain else f"{shift(run, plain):.3f}",
                exact,
                percent(Share.counted(run.named.mean(), len(run.named))),
                NONE if run.imbalance is None else f"{run.balance:.3f}",
                *(_place(run, share) for share in (0.9, 0.5, 0.1)),
            ]
        )
    return Table(headers, rows)


def _place(run: GuidedRun, share: float) -> str:
    """Log-SNR at which a share of the cross-entropy is left."""
    try:
        return f"{run.curve.crossing(share * run.curve.prior):.2f}"
    except ValueError:  # it is never that low
        return NONE


def draw_rows(draws: list[Draw]) -> Table:
    """Headers and rows: quality and cost."""
    headers = ["", "Fréchet", "precision", "recall", "diversity", "recognised, %", "evaluations"]
    rows = [
        [
            one.name,
            f"{one.quality.frechet:.2f}",
            *(f"{getattr(one.quality, name):.3f}" for name in ("precision", "recall", "diversity")),
            percent(one.recognised),
            str(one.evaluations),
        ]
        for one in draws
    ]
    return Table(headers, rows)


def guidance_report(result: GuidanceStudy, title: str) -> Report:
    """The page of a study."""
    low, high = result.interval
    report = Report(title).text(
        f"The central {100 * result.mass:g} % of the class is decided for σ in ({low:.3g}, {high:.3g}], by "
        f"the entropy curve of {result.num_curve_images} held-out images tracked class against class. Errors "
        "are 95 %. " + HOW_CLAIMS_ARE_JUDGED
    )
    report.table(*check_rows(result.checks), caption=ERRORS)
    report.text("## Can the curve be trusted?\n\n" + HOW_TRUST_IS_JUDGED)
    report.table(*trust_rows({"curve": result.curve.trust}, every=True), caption=ERRORS)
    if result.information is not None:
        _information(report, result.information)
    if result.intervals is not None:
        _intervals(report, result.intervals)
    if result.grids is not None:
        _grids(report, result.grids, result.intervals)
    return report


def _information(report: Report, found: GuidedInformation) -> None:
    report.text(
        "## Information along guided trajectories\n\nThe cross-entropy of the class asked for, read out by "
        "tracking; a conditional entropy only at w = 1. *commits*: the integral of the cross-entropy over "
        "its start, which is where a step would be. *identity*: tracked log P gained minus what the "
        "distance of the denoisers says, 0 for any model. The last columns: the window "
        "of guided information."
    )
    report.figure(
        plotting.plot_guided(found),
        "guided",
        "Cross-entropy along guided trajectories, with 95 % bands; below, guided in a limited interval"
        + (". Thin dashes: a mixture fitted to the data." if found.theory else "."),
    )
    report.table(*information_rows(found), caption=ERRORS)


def _intervals(report: Report, found: IntervalSearch) -> None:
    held_out = found.floor.held_out.frechet
    ratio = found.curve_evaluations / found.search_evaluations
    report.text(
        f"## The interval of the curve against a search\n\nScale {found.scale:g} inside. The curve cost "
        f"{found.curve_evaluations:,} evaluations, the search {found.search_evaluations:,}, ratio "
        f"{ratio:.2g}. Held-out images have a Fréchet distance of {held_out:.2f}. *recognised*: named "
        "by the judge as the class asked for."
    )
    report.figure(
        plotting.plot_search(found),
        "intervals",
        "Every interval, best on top; orange: that of the curve, green: feedback guidance, black: unguided. "
        "Right: paired, as all share their noise.",
    )
    cells = sorted(found.cells.values(), key=lambda one: float(one.quality.frechet.value))
    report.table(
        *draw_rows([found.unguided, found.entropic, *found.feedback, *cells]), caption=ERRORS
    )
    shown = (found.unguided, found.entropic, found.full, *found.feedback)
    pictures = {one.name: one.pictures for one in shown}
    report.figure(
        plotting.plot_rows(pictures), "images", "Images of the same noise, a column each."
    )


def _grids(report: Report, found: TimeGrids, intervals: IntervalSearch | None) -> None:
    report.text("## Levels equally spaced in information\n\nDrawn without a class.")
    floor = None if intervals is None else float(intervals.floor.held_out.frechet.value)
    report.figure(
        plotting.plot_grids(found, floor), "grids", "Fréchet distance against the number of levels."
    )
    headers, rows = draw_rows(list(found.draws.values()))
    methods = [method for _, method, _ in found.draws]
    report.table(
        ["sampler", *headers[:-2], headers[-1]],
        [[method, *row[:-2], row[-1]] for method, row in zip(methods, rows, strict=True)],
        caption=ERRORS,
    )


def guidance_record(result: GuidanceStudy) -> dict[str, Any]:
    """Everything measured, as plain data."""
    record: dict[str, Any] = {
        "model": result.model,
        "mass": result.mass,
        "interval": list(result.interval),
        "curve": {
            "sigma": np.exp(-result.curve.log_snr / 2),
            "entropy": result.curve.entropy,
            "rate": result.curve.rate,
        },
        "checks": check_records(result.checks),
        "trust": trust_record({"curve": result.curve.trust}),
    }
    if result.information is not None:
        found = result.information
        record["information"] = {
            "sigma": found.sigmas[::-1],
            "cross_entropy": {f"{w:g}": run.curve.cross_entropy for w, run in found.runs.items()},
            "commitment": {f"{w:g}": commitment(run) for w, run in found.runs.items()},
            "theory": {f"{w:g}": run.curve.cross_entropy for w, run in found.theory.items()},
            "shares": {place: list(pair) for place, pair in found.shares.items()},
        }
    if result.intervals is not None:
        search = result.intervals
        draws = [search.unguided, search.entropic, *search.feedback, *search.cells.values()]
        record["intervals"] = {
            "scale": search.scale,
            "best": list(search.best),
            "curve_evaluations": search.curve_evaluations,
            "search_evaluations": search.search_evaluations,
            "floor": {"held_out": search.floor.held_out.frechet, "halves": search.floor.halves},
            "draws": [_draw_record(one) for one in draws],
        }
    if result.grids is not None:
        record["grids"] = [
            {"grid": grid, "method": method, "levels": result.grids.levels[grid, count]}
            | {k: v for k, v in _draw_record(one).items() if k != "recognised"}
            for (grid, method, count), one in result.grids.draws.items()
        ]
    return record


def _draw_record(one: Draw) -> dict[str, Any]:
    return {
        "name": one.name,
        "recognised": one.recognised,
        "evaluations": one.evaluations,
    } | quality_record(one.quality)
