"""The report of a cross-check: tables for the terminal and the page, pictures, a result to read back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.processes import VarianceExploding
from gmm_speciation.reporting.claims import HOW_CLAIMS_ARE_JUDGED, check_records, check_rows
from gmm_speciation.reporting.explorer import Frames
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.tables import ERRORS, NONE, Table
from gmm_speciation.reporting.trust import HOW_TRUST_IS_JUDGED, trust_record, trust_rows
from gmm_speciation.speciation import SpeciationPoint
from model_bridges.crosscheck import plotting
from model_bridges.crosscheck.criteria import COMPARABLE, NOT_MEASURED
from model_bridges.crosscheck.results import CrossCheck, VariableCheck
from model_bridges.entropy.windows import place


def summary_rows(result: CrossCheck) -> Table:
    """Headers and rows: where each variable is decided, theory beside model."""
    headers = ["variable", "side", "H(C)", "H at σ_min", "peak σ", "80 % window σ", "half H at σ"]
    rows = []
    curves = [
        (name, side, curve)
        for name, check in result.variables.items()
        for side, curve in (("model", check.tracked), ("theory", check.theory))
    ] + [
        (name.rpartition(", ")[0], name.rpartition(", ")[2], curve)
        for name, curve in result.nested.items()
    ]
    for name, side, curve in curves:
        rows.append(
            [
                name,
                side,
                f"{curve.prior_entropy:.3f}",
                f"{curve.entropy[0]:.3f}",
                place(curve, "peak"),
                place(curve, "window"),
                place(curve, "half"),
            ]
        )
    return Table(headers, rows)


def points_rows(check: VariableCheck) -> Table:
    """Headers and rows: speciation criteria of one variable, theory beside model, as noise scales."""
    rows = []
    for name, comparable in COMPARABLE.items():
        sides = [check.points[f"{name}, {side}"] for side in ("theory", "model")]
        missing = [point.reason for point in sides if point.log_snr is None]
        reasons = [reason for reason in missing if reason and reason != NOT_MEASURED]
        own = check.fit_errors.get(name)
        half = np.nan if own is None else float(own.half_width())
        of_fit = f"{half:.3f}" if np.isfinite(half) else NONE
        words = "; ".join([comparable, *reasons])
        rows.append([name, *map(_sigma, sides), _distance(*sides), of_fit, words])
    headers = ["criterion", "theory σ", "model σ", "λ model − theory"]
    headers += ["± of fit", "comparable?"]
    return Table(headers, rows)


def _sigma(point: SpeciationPoint) -> str:
    time = point.on(VarianceExploding())
    return NONE if time is None else f"{time:.3f}"


def _distance(theory: SpeciationPoint, model: SpeciationPoint) -> str:
    """Of points from different draws: their errors are independent."""
    if theory.log_snr is None or model.log_snr is None:
        return NONE
    return f"{model.log_snr - theory.log_snr:.3f}"


def pairs_rows(result: CrossCheck) -> Table:
    """Headers and rows: how far the half-entropy points of all pairs are those of the theory."""
    headers = ["measured against", "pairs", "slope", "rms of λ − λ'", "correlation"]
    pairs = result.pairs
    if pairs is None or not np.isfinite(float(pairs.residual.value)):
        return Table(headers, [])
    both = np.isfinite(pairs.measured.value) & np.isfinite(pairs.predicted.value)
    fitted = pairs.slope, pairs.residual, pairs.correlation
    spectral = pairs.spectral_slope, pairs.spectral_residual, pairs.spectral_correlation
    rows = [
        [name, f"{both.sum()} of {len(both)}", *(f"{one:.3f}" for one in estimates)]
        for name, estimates in (
            ("the fitted mixture", fitted),
            ("the spectral law −log(|m_a − m_b|²/4)", spectral),
        )
    ]
    return Table(headers, rows)


def tree_rows(result: CrossCheck, class_names: list[str]) -> Table:
    """Headers and rows: the trees in brackets."""
    trees = {"model": result.tree, "theory": result.theory_tree}
    rows = [[side, tree.in_words(class_names)] for side, tree in trees.items() if tree is not None]
    return Table(["side", "classes"], rows)


def _pairs_section(report: Report, result: CrossCheck, class_names: list[str]) -> None:
    if result.pairs is None or result.tree is None or result.theory_tree is None:
        return
    report.text(
        "## Every pair of classes\n\nThe log-SNR λ at which half of the entropy between two classes alone is "
        "left, read from the posteriors of the one pass, beside that of the fitted mixture, and beside "
        "the spectral law of the two class means. Errors are those of images, left out of all pairs at once."
    )
    lines = pairs_rows(result)
    if lines.rows:
        report.table(*lines, caption=ERRORS)
    report.figure(
        plotting.plot_pairs(result.pairs, class_names),
        "pairs",
        "Half-entropy point of every pair of classes, measured against predicted",
    )
    report.text(
        "## The tree of decisions\n\nClasses merge where they are no longer told apart, on the average over "
        "pairs. Beside a fork stands the share of bootstrap samples of the images that have it; forks of "
        "less than one half are drawn as one of many ways."
    )
    report.figure(
        plotting.plot_trees({"model": result.tree, "theory": result.theory_tree}, class_names),
        "tree",
        "Which classes are told apart at which noise, in the model and in the fitted mixture",
    )
    report.table(*tree_rows(result, class_names))


def chosen_images(result: CrossCheck, num: int = 6) -> np.ndarray:
    """Images whose decisions are spread from the latest to the earliest: what to look at."""
    order = np.argsort(result.main.decision, kind="stable")
    return order[np.linspace(0, len(order) - 1, min(num, len(order))).round().astype(int)]


def crosscheck_report(
    result: CrossCheck,
    title: str,
    class_names: list[str],
    units: str = "data standard deviation 0.5",
    shown: Frames | None = None,
) -> Report:
    """The whole report; `write` it with `crosscheck_record`.

    Args:
        result: What was found.
        title: Of the page.
        class_names: Short names of the classes.
        units: Of sigma.
        shown: Single images along their noise paths, for the slider of the page.
    """
    main = result.main
    report = Report(title)
    report.text(
        f"All averages run over **{result.law}** ({result.posterior.num_images} images, "
        f"{result.posterior.num_paths} noise paths each, {len(result.posterior.sigmas)} noise levels, "
        f"{result.posterior.evaluations:,} network "
        f"evaluations). Model: {result.posterior.provenance}. Theory: {_fit_words(result)}. Entropies in "
        f"nats; σ in the model's units ({units}); λ = −2 ln σ; ± is 95 %."
    )
    report.figure(
        plotting.plot_crosscheck(main, result.law),
        "crosscheck",
        "Theory and model on one log-SNR axis: entropy of the class and its rate",
    )
    report.explore({"model": main.tracked, "theory": main.theory}, shown)
    report.text("## Can the curves be trusted?\n\n" + HOW_TRUST_IS_JUDGED)
    report.table(*trust_rows(result.trusts, every=True), caption=ERRORS)
    report.text("## What a calibrated model must satisfy\n\n" + HOW_CLAIMS_ARE_JUDGED)
    report.table(*check_rows(result.checks), caption=ERRORS)
    report.text("## Where each variable is decided")
    report.table(*summary_rows(result), caption=ERRORS)
    report.figure(
        plotting.plot_variables(result),
        "variables",
        "Every semantic variable as a share of its own entropy; model solid, theory dashed",
    )
    words = "The theory's points have the errors of their averages; the mixture counts as known."
    if main.fit_errors and result.fit is not None:
        words += (
            f" What they owe to the {result.fit.num_states:,} states it was fitted to stands in a column of "
            "its own, in λ: a jackknife of fits without an eighth of them, which is in no other error."
        )
    report.text(f"## Speciation criteria of the {main.name}\n\n{words}")
    report.table(*points_rows(main), caption=ERRORS)
    report.text("## Does the information budget close?")
    forms = {"bayes": "Bayes form", "unconditional": main.reference.form}
    report.table(
        ["side of the identity", "nats"],
        [
            ["H at σ_max − H at σ_min, tracked posterior", f"{main.budget.difference:.3f}"],
            *(
                [f"integral of dH, {forms.get(form, form + ' form')}", f"{integral:.3f}"]
                for form, integral in main.budget.integrals.items()
            ),
            *(
                [f"integral of the mmse gap, {name}", f"{value:.3f}"]
                for name, value in (
                    ("Bayes", main.budget.mmse_bayes),
                    (main.reference.form, main.budget.mmse_unconditional),
                )
                if value is not None
            ),
        ],
        caption=ERRORS,
    )
    report.text(main.reference.meaning)
    report.figure(
        plotting.plot_excess(main, result),
        "excess",
        "The forms of the denoiser gap level by level, and the excess that is not information",
    )
    _pairs_section(report, result, class_names)
    if result.samples is not None:
        report.text("## What the model draws")
        report.figure(
            plotting.plot_samples(result.samples, class_names),
            "samples",
            f"Samples of every class: {result.samples.law}",
        )
    report.text("## Single images")
    report.figure(
        plotting.plot_images(result, chosen_images(result), class_names),
        "images",
        "Images from the latest to the earliest decision, each with its own posterior curves",
    )
    early, middle, late = np.quantile(main.decision, [0.9, 0.5, 0.1])
    report.text(
        f"Half of all paths are decided above σ = {middle:.3g}; the middle 80 % between "
        f"{late:.3g} and {early:.3g}."
    )
    report.text("## Calibration")
    report.figure(
        plotting.plot_reliability(result.reliability),
        "reliability",
        "Reliability of the tracked posterior inside the window, all classes pooled",
    )
    return report


def _fit_words(result: CrossCheck) -> str:
    if result.fit is None:
        return "the mixture that was given"
    words = f"{result.fit}, fitted to {result.fit.law}"
    if not result.fit.scores:
        return words
    scores = ", ".join(f"{name} {score:.2f}" for name, score in result.fit.scores.items())
    return f"{words} (nats a state: {scores})"


def crosscheck_record(result: CrossCheck) -> dict[str, Any]:
    """What `result.json` holds; curves under "curves" can be read back."""
    fit, curves = result.fit, dict[str, EntropyCurve]()
    variables: dict[str, Mapping[str, Any]] = {}
    for name, check in result.variables.items():
        curves |= {f"{name}: tracked": check.tracked, f"{name}: theory": check.theory}
        curves |= {f"{name}: gap, Bayes": check.bayes, f"{name}: slope": check.slope}
        if check.unconditional is not None:
            curves[f"{name}: gap, unconditional"] = check.unconditional
        variables[name] = {
            "labels": check.partition.labels,
            "cross_entropy": check.cross_entropy,
            "calibration": check.calibration,
            "accuracy": check.accuracy,
            "bounds": check.bounds,
            "budget": check.budget,
            "points": check.points,
            "fit_errors": check.fit_errors,
            "decision_sigma": check.decision,
        }
    return {
        "law": result.law,
        "model": result.posterior.provenance,
        "num_images": result.posterior.num_images,
        "num_paths": result.posterior.num_paths,
        "evaluations": result.posterior.evaluations,
        "sigmas": result.posterior.sigmas,
        "shrinkage": None if fit is None else fit.shrinkage,
        "theory": None
        if fit is None
        else {
            "covariance": fit.covariance,
            "rank": fit.rank,
            "fitted_to": fit.law,
            "num_states": fit.num_states,
            "noised_log_likelihood": fit.scores,
        },
        "checks": check_records(result.checks),
        "trust": trust_record(result.trusts),
        "reliability": result.reliability,
        "pairs": result.pairs,
        "trees": {"model": result.tree, "theory": result.theory_tree},
        "variables": variables,
        "curves": curves | result.nested,
    }
