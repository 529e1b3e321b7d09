"""Handke et al. 2025, "Measuring semantic information production in generative diffusion models".

arXiv 2506.10433. Four points on a line, exactly; and every class against the others on a model, on the
clock of the linear DDPM schedule of 1000 steps.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import DDPM
from gmm_speciation.published import four_points
from gmm_speciation.reporting.claims import Claim, at_least, at_most, equal
from gmm_speciation.reporting.papers import Place
from gmm_speciation.verification.published import line_claims
from model_bridges.crosscheck.theory import can_be_fitted, closed_form
from model_bridges.entropy.measure import Measurement
from model_bridges.entropy.windows import compare_windows
from model_bridges.models import SHIPPED
from model_bridges.papers.decisions import (
    NAN,
    OURS,
    along_trajectories,
    decision_cost,
    half_point,
    levels_of,
    plot_curves,
    samples_of,
)
from model_bridges.papers.parts import Cost, Found, Paper, Settings, Subject

_TRACKED = "tracking along trajectories of the model, class against class"
_EARLY, _LAST = 0.9, 0.1  # of the schedule's steps
_VANISHES = 0.05  # of the information
_PLACES = 0.3  # log-SNR


def run(subjects: Sequence[Subject], settings: Settings) -> Found:
    """All rows."""
    found = Found()
    line = four_points()
    found.add(
        Place(
            "one-dimensional mixture at −8, −4, 6, 8 (figure)",
            "theory: exact integrals; the values of the paper's figure could not be read",
            "gmm-speciation verify --section published",
            "four-points",
        ),
        "",
        *line_claims(line),
    )

    def picture():
        from gmm_speciation import plotting

        return plotting.plot_four_points(line)

    found.pictures["four-points"] = (picture, "Four points under the linear DDPM schedule.")
    for subject in subjects:
        _classes(found, subject, settings)
    return found


def _classes(found: Found, subject: Subject, settings: Settings) -> None:
    model = subject.model
    settings.progress.step(f"{subject.name}: every class against the others")
    others = {
        f"{name} or not": Partition([int(k != index) for k in range(len(model.class_names))])
        for index, name in enumerate(model.class_names)
    }
    result = along_trajectories(
        model.denoiser,
        others,
        (OURS,),
        levels_of(subject, settings),
        samples_of(subject, settings),
        settings,
        subject.name,
        "one against all",
        theory=closed_form(model, settings.seed) if can_be_fitted(model) else None,
    )
    whose = f"on {subject.name}" + (
        ", stand-in for a DDPM of CIFAR-10" if subject.name in SHIPPED else ""
    )
    picture = f"{subject.file}-one-against-all"
    stages = Place(
        "abstract: transfer is highest in the intermediate stages, vanishing during the final ones",
        f"the paper gives no number in its abstract; bounds are ours; {whose}",
        figure=picture,
    )
    differ = Place(
        "abstract: sizable differences between the profiles of classes",
        f"the paper gives no number in its abstract; the bound is ours; {whose}",
        figure=picture,
    )
    theory = Place(
        "abstract: different decisions at different intermediate times",
        f"theory: mixture fitted to the data; {whose}",
        figure=picture,
    )
    clock = DDPM.linear()
    steps = clock.time_range[1]
    found.add(stages, _TRACKED, *_stages(subject, result, clock, steps))
    curves = {name: one.curves[OURS] for name, one in result.variables.items()}
    order = sorted(curves, key=lambda name: float(half_point(curves[name]).value))
    apart = compare_windows(curves[order[0]], curves[order[-1]]).half_entropy
    found.add(
        differ,
        f"{_TRACKED}; paired by trajectory",
        at_least(
            f"{subject.name}: classes are decided at different noise, earliest minus latest [log σ]",
            NAN if apart is None else apart,
            0.2,
            f"{order[0]} and {order[-1]}, chosen as the extremes of {len(order)}",
        ),
    )
    for name, one in result.variables.items():
        if one.theory is not None and np.isfinite(place := float(half_point(one.theory).value)):
            found.add(
                theory,
                _TRACKED,
                equal(
                    f"{subject.name}, {name}: half decided at log-SNR, fitted mixture against model",
                    half_point(curves[name]),
                    place,
                    _PLACES,
                ),
            )
    found.pictures[picture] = (
        partial(plot_curves, result),
        f"{subject.name}: every class against the others, along trajectories of the model.",
    )


def _stages(subject: Subject, result: Measurement, clock: DDPM, steps: float) -> list[Claim]:
    """The mean curve of all classes against the step of the schedule."""
    ends = [float(clock.log_snr(share * steps)) for share in (_LAST, _EARLY)]
    parts = []
    for one in result.variables.values():
        curve = one.curves[OURS]
        assert curve.batches is not None  # it was sampled
        rows = np.asarray(curve.batches.entropy)
        gained = curve.prior_entropy - np.stack(
            [[np.interp(-end, -curve.log_snr, row) for end in ends] for row in rows]
        )
        whole = curve.prior_entropy - rows[:, :1]
        parts.append(np.concatenate([(whole - gained[:, :1]) / whole, gained[:, 1:] / whole], 1))
    last, first = np.mean(parts, 0).T
    many = f"mean of {len(result.variables)} classes"
    return [
        at_most(
            f"{subject.name}: share of the information in the final tenth of the steps, {many}",
            Estimate.from_samples(last),
            _VANISHES,
        ),
        at_most(
            f"{subject.name}: share of the information in the first tenth of the steps, {many}",
            Estimate.from_samples(first),
            _VANISHES,
        ),
    ]


def plan(subjects: Sequence[Subject], settings: Settings) -> list[Cost]:
    """Evaluations of the network, part by part."""
    return [
        Cost("four points (no network)", 0),
        *(
            Cost(
                f"{one.name}: every class against the others",
                decision_cost(one, settings, one.model.denoiser.num_classes),
            )
            for one in subjects
        ),
    ]


def scale(subjects: Sequence[Subject], settings: Settings) -> str:
    """How near to the paper's settings a run is."""
    runs = ", ".join(
        f"{one.name} {samples_of(one, settings)} trajectories of {len(levels_of(one, settings))} noise levels"
        for one in subjects
    )
    return f"Run: {runs}; the paper's network has 1000 steps, its number of trajectories is not known here."


PAPER = Paper(
    "Handke et al. 2025 on trained models",
    "arXiv 2506.10433",
    "Claims are those of the abstract. The paper's DDPM of CIFAR-10 is not shipped: give one of yours by "
    "--model, else the digits stand in, on the steps of the paper's linear schedule.",
    run,
    plan,
    scale,
)
