"""The report of `model-bridges entropy`: tables for the terminal and the page, pictures, a result."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.tables import ERRORS, NONE, Table
from gmm_speciation.reporting.trust import HOW_TRUST_IS_JUDGED, trust_record, trust_rows
from model_bridges.entropy import plotting as entropy_plots
from model_bridges.entropy.measure import MeasuredVariable, Measurement
from model_bridges.entropy.windows import (
    GuidanceInterval,
    WindowDifference,
    guidance_interval,
    place,
    sigma_of,
)


def curve_rows(result: Measurement) -> Table:
    """Headers and rows: every curve's ends, peak, half-entropy point and window, as noise sigma."""
    headers = ["curve", "H, lowest σ", "half at σ", "peak σ", "80 % window σ"]
    rows = []
    for name, variable in result.variables.items():
        named = dict(variable.curves)
        if variable.theory is not None:
            named["theory"] = variable.theory
        for estimator, curve in named.items():
            rows.append(
                [
                    f"{name}, {estimator}",
                    f"{curve.entropy[0]:.3f}",
                    place(curve, "half"),
                    # The middle of two bounds has no rate worth a peak.
                    NONE if estimator == "clones" else place(curve, "peak"),
                    place(curve, "window"),
                ]
            )
    return Table(headers, rows)


def sample_rows(results: Sequence[Measurement]) -> Table:
    """Headers and rows: what tracking says with each sample of classes, and how far they differ.

    The last row of a variable holds standard deviations between the samples: of the entropy in nats,
    of positions in log sigma.
    """
    headers = ["variable", "classes", "H, lowest σ", "peak σ", "half at σ"]
    rows = []
    for name in results[0].variables:
        curves = [result.variables[name].curves["tracking"] for result in results]
        ends = [float(curve.entropy.value[0]) for curve in curves]
        for index, curve in enumerate(curves):
            marks = place(curve, "peak"), place(curve, "half")
            rows.append([name, f"sample {index + 1}", f"{curve.entropy[0]:.3f}", *marks])
        peaks = [-float(curve.peak().log_snr.value) / 2 for curve in curves]
        spread = [f"{np.std(values, ddof=1):.2g}" for values in (ends, peaks)]
        try:
            halves = [-float(c.crossing(c.prior_entropy / 2).value) / 2 for c in curves]
            spread.append(f"{np.std(halves, ddof=1):.2g}")
        except ValueError:  # one of them lies beyond the grid
            spread.append(NONE)
        rows.append([name, "spread", *spread])
    return Table(headers, rows)


def comparison_rows(comparisons: list[WindowDifference]) -> Table:
    """Headers and rows: paired differences of windows in log sigma, and the verdict."""
    headers = ["coarse against fine", "half entropy", "window, low", "window, high", "peak"]
    rows = [
        [
            f"{found.coarse} − {found.fine}",
            *(
                NONE if mark is None else f"{mark:.3f}"
                for mark in (found.half_entropy, found.low, found.high, found.peak)
            ),
        ]
        for found in comparisons
    ]
    return Table(headers, rows)


def cost_rows(result: Measurement) -> Table:
    """Headers and rows: evaluations and seconds of every kind of job."""
    rows = [
        [
            cost.work,
            f"{cost.evaluations:,}",
            f"{cost.seconds:.0f}",
            # In less they may have been read from a folder.
            f"{cost.evaluations / cost.seconds:,.0f}" if cost.seconds > 2 else NONE,
        ]
        for cost in result.costs
    ]
    return Table(["work", "evaluations", "seconds here", "evaluations per second"], rows)


def elimination_rows(result: Measurement) -> Table:
    """Headers and rows: what the classes left out of tracking can do to each entropy, level by level."""
    headers = ["variable", "σ", "H", "H can lie in", "mass left out", "own class left out"]
    rows = []
    for name, variable in result.variables.items():
        found = variable.elimination
        if found is None:
            continue
        curve = variable.main
        width = np.asarray(found.upper.value - found.lower.value)
        # The widest, and those about the decision.
        half = int(np.abs(np.asarray(curve.entropy.value) - curve.prior_entropy / 2).argmin())
        for level in dict.fromkeys([0, half, int(width.argmax())]):
            low, high = float(found.lower.value[level]), float(found.upper.value[level])
            true = NONE if found.true_dropped is None else f"{found.true_dropped[level]:.4f}"
            rows.append(
                [
                    name,
                    f"{curve.sigma[level]:.3g}",
                    f"{curve.entropy[level]:.3f}",
                    f"{low:.3f} to {high:.3f}",
                    f"{found.dropped[level]:.4f}",
                    true,
                ]
            )
    return Table(headers, rows)


def clone_rows(variable: MeasuredVariable) -> Table:
    """Headers and rows: agreement of clones and the bounds on H at each level."""
    found = variable.clones
    assert found is not None  # the caller shows what is there
    columns = found.agreement, found.lower, found.upper
    rows = [
        [f"{sigma:.3g}", *(f"{one[i]:.3f}" for one in columns)]
        for i, sigma in enumerate(found.sigmas)
    ]
    return Table(["noise σ", "φ: clones agree", "H at least", "H at most"], rows)


def entropy_report(result: Measurement, title: str) -> Report:
    """The whole report; `write` it with `entropy_record`."""
    report = Report(title)
    report.text(
        f"Model: {result.model}.\n\n"
        f"Distribution of the images: **{result.law}** ({result.num_images} images). "
        f"Distribution of the noisy states: **{result.path_law}**.\n\nCost: {result.evaluations:,} network "
        "evaluations (one noisy state through the network once). H(C): "
        + ", ".join(f"{n} {v.main.prior_entropy:.3f}" for n, v in result.variables.items())
        + ". Entropies in nats; σ in the model's "
        "units, λ = −2 ln σ; ± is 95 %, by Student's t over independent batches of images."
    )
    report.table(*curve_rows(result), caption=ERRORS)
    report.text("## Can the curves be trusted?\n\n" + HOW_TRUST_IS_JUDGED)
    report.table(*trust_rows(result.trusts, every=True), caption=ERRORS)
    for index, variable in enumerate(result.variables.values()):
        report.figure(
            entropy_plots.plot_estimators(variable, result.law),
            f"estimators{index or ''}",
            f"Entropy of {variable.name} and its rate, by every estimator",
        )
    if len(result.variables) > 1:
        report.text("## Which variable is decided at which noise")
        report.figure(
            entropy_plots.plot_windows(result), "windows", "Entropy left and windows, by variable"
        )
    if result.comparisons:
        report.text(" ".join(f"At 95 %, {found.verdict()}." for found in result.comparisons))
        report.table(
            *comparison_rows(result.comparisons),
            caption="Paired difference of log σ, coarse minus fine: positive where the coarse is "
            "decided at higher noise",
        )
    report.text("## Guidance intervals\n\n" + _guidance_text(result))
    main = next(iter(result.variables.values()))
    if main.clones is not None:
        report.text(f"## Clones, {main.name}")
        report.table(*clone_rows(main), caption=ERRORS)
        report.text(
            "Two reverse runs from one noisy state end in one class with probability φ = E Σ p²; it "
            "bounds the entropy from both sides, and the curve by the name of clones is their middle."
        )
    if main.points is not None:
        late, middle, early = np.quantile(main.points.decision_sigma, [0.1, 0.5, 0.9])
        report.text(
            "## Single images\n\nAn image became what it is at the noise below which the class it ends "
            f"in keeps more than half of its posterior. Half of all paths are decided above σ = "
            f"{middle:.3g}, the middle 80 % between {late:.3g} and {early:.3g}. All of them are in "
            "`result.json`."
        )
        report.figure(
            entropy_plots.plot_single_images(result, main),
            "images",
            "From the latest to the earliest decision",
        )
    report.text("## Cost and discretisation")
    report.table(*cost_rows(result))
    left = elimination_rows(result)
    if left.rows:
        report.text(
            "## Classes left out\n\nFrom where the posterior of a class fell below the bound, a path was no "
            "longer asked for it. If the posterior is calibrated, H lies in these intervals on the average; "
            "then as many paths leave their own class out as there is mass left out."
        )
        report.table(*left, caption=ERRORS)
    report.text(_bias_text(result))
    return report


def _guidance_text(result: Measurement) -> str:
    lines = []
    for name, variable in result.variables.items():
        if not variable.main.trust.ok:
            lines.append(f"- {name}: none; the curve cannot be trusted, see above.")
            continue
        try:
            low, high = guidance_interval(variable.main)
        except ValueError:
            lines.append(f"- {name}: the curve ends inside its window; widen the levels.")
            continue
        lines.append(f"- {name}: guide where {low:.3g} < σ ≤ {high:.3g} (80 % of the information).")
    return "\n".join(lines)


def _bias_text(result: Measurement) -> str:
    steps = ", ".join(
        f"{name} {np.abs(np.asarray(variable.step_error.value)).max():.3f}"
        for name, variable in result.variables.items()
        if variable.step_error is not None
    )
    if steps:
        steps = (
            "Tracking: the first-order error of the step, which extrapolation removes, is at most "
            f"{steps} nats. "
        )
    return (
        steps
        + "All estimators start from the prior at the largest level and leave out what a state tells "
        "there already."
    )


def windows_record(
    result: Measurement,
    mass: float = 0.8,
    force: bool = False,
    stepped: Any = None,
    num_steps: int = 50,
) -> dict[str, Any]:
    """Windows alone, for a program: noise levels of every variable, and where to guide.

    With a scheduler in its pipeline (`pipelines.steps.Stepped`) the steps of it that lie inside, too.

    A window that means nothing has a "reason" in place of numbers: the levels end inside it, or, unless
    `force` is set, its curve cannot be trusted.
    """
    windows: dict[str, Any] = {}
    for name, variable in result.variables.items():
        curve = variable.main
        if not (force or curve.trust.ok):
            windows[name] = {"reason": f"cannot be trusted: {curve.trust.reasons}"}
            continue
        try:
            interval = guidance_interval(curve, mass)
        except ValueError as error:
            windows[name] = {"reason": str(error)}
            continue
        window = curve.window(mass)
        windows[name] = {
            "sigma_low": interval[0],
            "sigma_high": interval[1],
            "sigma_low_interval_95": sorted(np.exp(-np.array(window.high.interval()) / 2).tolist()),
            "sigma_high_interval_95": sorted(np.exp(-np.array(window.low.interval()) / 2).tolist()),
            "sigma_half_entropy": _half_entropy(curve),
            "sigma_peak": float(sigma_of(curve.peak().log_snr).value),
            "estimator": curve.method,
            "mass": mass,
        }
        if stepped is not None:
            windows[name]["scheduler"] = _steps_inside(interval, stepped, num_steps)
    return {
        "model": result.model,
        "law_of_images": result.law,
        "law_of_noisy_states": result.path_law,
        "num_images": result.num_images,
        "evaluations": result.evaluations,
        "windows": windows,
        "trust": trust_record({n: v.main.trust for n, v in result.variables.items()}),
    }


def _half_entropy(curve: EntropyCurve) -> float | None:
    """None where half of H(C) is left at the clean end, as of classes that overlap."""
    try:
        return float(sigma_of(curve.crossing(curve.prior_entropy / 2)).value)
    except ValueError:
        return None


def _steps_inside(interval: GuidanceInterval, stepped: Any, num_steps: int) -> dict[str, Any]:
    try:
        inside = interval.timesteps(stepped, num_steps)
    except ValueError as error:
        inside = {"reason": str(error)}
    scheduler = stepped.scheduler
    return {"class": type(scheduler).__name__, "settings": dict(scheduler.config), **inside}


def entropy_record(result: Measurement) -> dict[str, Any]:
    """What `result.json` holds; curves under "curves" can be read back."""
    curves: dict[str, EntropyCurve] = {}
    variables: dict[str, Any] = {}
    for name, variable in result.variables.items():
        for estimator, curve in variable.curves.items():
            curves[f"{name}: {estimator}"] = curve
        if variable.theory is not None:
            curves[f"{name}: theory"] = variable.theory
        variables[name] = {
            "labels": variable.partition.labels,
            "names": variable.partition.names,
            "cross_entropy": variable.cross_entropy,
            "step_error": variable.step_error,
            "elimination": variable.elimination,
            "clones": _fields(variable.clones, "sigmas", "agreement", "lower", "upper"),
            "single_images": _fields(
                variable.points, "final_class", "decision_sigma", "half_entropy_sigma"
            ),
        }
    marks = ("coarse", "fine", "half_entropy", "low", "high", "peak")
    return {
        **windows_record(result, force=True),
        "seed": result.seed,
        "costs": result.costs,
        "trust": trust_record(result.trusts),
        "comparisons": [
            {"verdict": found.verdict(), **_fields(found, *marks)} for found in result.comparisons
        ],
        "variables": variables,
        "curves": curves,
    }


def _fields(found: Any, *names: str) -> Any:
    """Some fields of a result as plain data; None of none."""
    return found and {name: getattr(found, name) for name in names}
