"""How guidance moves information in a trained model, with the closed-form law beside it.

Trajectories of constant scales, of limited intervals and of feedback guidance from the same noise, and the
same trajectories of a mixture fitted to the data, whose scores are exact. What is compared:

    identity      E[d log P] = (2w - 1) ... at every scale, w = 1/2 neutral (`guided`)
    commitment    the noise of the decision, log sigma, paired with the unguided one
    intervals     how much of the effect of full guidance falls inside the window of the unguided
                  information, at more noise, at less: of the commitment's shift, and of the fall of the
                  cross-entropy where a tenth of it is left
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gmm_speciation.estimate import Estimate
from gmm_speciation.guidance.formulae import (
    feedback_floor,
    feedback_offset,
    feedback_temperature,
    published_levels,
)
from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reporting.claims import Claim, at_least, at_most, equal
from model_bridges.control.guided import (
    GuidedRun,
    Kind,
    commitments,
    constant,
    feedback_kinds,
    guided_run,
    limited,
)
from model_bridges.denoisers.base import Denoiser
from model_bridges.studied import StudiedModel

SCALES = (0.5, 1.0, 1.5, 2.0, 4.0)
NATS, SHIFT = 0.1, 0.1  # tolerances: of an identity; of the commitment in log sigma
LIMITED = 2.0  # scale of the intervals
NUM_LEVELS = 48
_LEFT = 0.1  # of the cross-entropy, where intervals are read
PLACES = ("inside", "at more noise", "at less noise")
WHERE = dict(
    zip(PLACES, ("inside the window", *(f"{p} than the window" for p in PLACES[1:])), strict=True)
)


@dataclass(frozen=True, eq=False)
class GuidedInformation:
    """Guided runs of a model by scale, by place of an interval, and of feedback guidance."""

    model: str
    sigmas: Float[np.ndarray, " L"]
    window: tuple[float, float]
    runs: dict[float, GuidedRun]
    limited: dict[str, GuidedRun]  # by PLACES, scale LIMITED
    feedback: dict[str, GuidedRun]  # by `feedback_kinds`, if asked for
    theory: dict[float, GuidedRun]  # of the fitted mixture
    shares: dict[str, tuple[Estimate, Estimate]]  # of the shift and of the fall, by PLACES
    read_out: float  # sigma where the fall is read
    checks: list[Claim]


def guided_information(
    model: StudiedModel,
    window: tuple[float, float],
    *,
    theory: Denoiser | None = None,
    num_paths: int = 150,
    num_levels: int = NUM_LEVELS,
    feedback: bool = True,
    seed: int = 0,
    progress: Progress = SILENT,
) -> GuidedInformation:
    """Run and compare.

    Args:
        model: The model.
        window: Noise levels between which most of the unguided information falls.
        theory: The mixture as a model.
        num_paths: Trajectories of each run.
        num_levels: Noise levels, equally spaced in log sigma.
        feedback: Whether feedback guidance is run, too.
        seed: Of all noise.
        progress: Told of every run and of its steps.

    Raises:
        ValueError: As `guided_run`.
    """
    sigmas = np.geomspace(*model.denoiser.sigma_range, num_levels)
    labels = model.balanced_labels(num_paths)

    def run(denoiser: Denoiser, kind: Kind, scales: np.ndarray | None = None) -> GuidedRun:
        return guided_run(
            denoiser, kind, labels, sigmas, scales=scales, seed=seed, progress=progress
        )

    runs, exact = {}, {}
    for scale in SCALES:
        progress.step(f"guided trajectories, w = {scale:g}")
        runs[scale] = run(model.denoiser, constant(scale), np.full(num_levels, scale))
    ends = dict(zip(PLACES, (window, (window[1], np.inf), (0.0, window[0])), strict=True))
    by_place = {}
    for place, (low, high) in ends.items():
        progress.step(f"guided trajectories, w = {LIMITED:g} {WHERE[place]}")
        scales = np.where((sigmas > low) & (sigmas <= high), LIMITED, 1.0)
        by_place[place] = run(model.denoiser, limited(LIMITED, low, high), scales)
    heard = {}
    for name, kind in feedback_kinds(sigmas[::-1]).items() if feedback else ():
        progress.step(name)
        heard[name] = run(model.denoiser, kind)
    if theory is not None:
        for scale in SCALES:
            progress.step(f"the same of the mixture, w = {scale:g}")
            exact[scale] = run(theory, constant(scale), np.full(num_levels, scale))
    shares, level = _shares(runs, by_place)
    read_out = float(sigmas[::-1][level])
    return GuidedInformation(
        model.name,
        sigmas,
        window,
        runs,
        by_place,
        heard,
        exact,
        shares,
        read_out,
        _checks(runs, by_place, exact, shares, read_out),
    )


def shift(run: GuidedRun, plain: GuidedRun) -> Estimate:
    """How much further towards noise a run commits than the unguided one, in log sigma; paired."""
    return Estimate.from_samples(commitments(run) - commitments(plain))


def ratio(above: Float[np.ndarray, " N"], below: Float[np.ndarray, " N"]) -> Estimate:
    """Ratio of two paired means, with its error to first order."""
    value = above.mean() / below.mean()
    residual = Estimate.from_samples((above - value * below) / below.mean())
    return Estimate(np.asarray(value), residual.stderr, residual.dof)


def _shares(
    runs: Mapping[float, GuidedRun], limited: Mapping[str, GuidedRun]
) -> tuple[dict[str, tuple[Estimate, Estimate]], int]:
    plain, full = runs[1.0], runs[LIMITED]
    left = np.asarray(plain.curve.cross_entropy.value) / plain.curve.prior
    level = int(np.argmin(np.abs(left - _LEFT)))
    shares = {}
    for place, run in limited.items():
        (some_shift, some_fall), (all_shift, all_fall) = (
            (commitments(one) - commitments(plain), plain.losses[level] - one.losses[level])
            for one in (run, full)
        )
        shares[place] = ratio(some_shift, all_shift), ratio(some_fall, all_fall)
    return shares, level


def _checks(
    runs: Mapping[float, GuidedRun],
    limited: Mapping[str, GuidedRun],
    exact: Mapping[float, GuidedRun],
    shares: Mapping[str, tuple[Estimate, Estimate]],
    read_out: float,
) -> list[Claim]:
    identity = "identity of guided information: log P gained minus (2w − 1)∫½γ′|D_c − D_u|²"
    balanced = {f"{identity}, w = {w:g} [nats]": run for w, run in runs.items() if w != 0.5}
    balanced["w = ½ is the neutral point: log P gained [nats]"] = runs[0.5]
    for place, run in limited.items():
        balanced[f"{identity}, w = {LIMITED:g} {WHERE[place]} [nats]"] = run
    checks = [
        equal(name, run.balance, 0.0, NATS)
        for name, run in balanced.items()
        if run.imbalance is not None
    ]
    plain = runs[1.0]
    for scale in SCALES:
        if scale <= 1:
            continue
        moved = shift(runs[scale], plain)
        checks.append(
            at_least(
                f"guidance moves the commitment to higher noise, w = {scale:g} [log σ]", moved, 0.0
            )
        )
        if exact:
            pairs = ((runs[scale], plain), (exact[scale], exact[1.0]))
            own, theory = (commitments(one) - commitments(two) for one, two in pairs)
            gap = Estimate.from_samples(own - theory)  # the same noise drives both
            checks.append(
                equal(
                    f"by as much as in the fitted mixture, w = {scale:g} [log σ]",
                    Estimate(moved.value, gap.stderr, gap.dof),
                    float(theory.mean()),
                    SHIFT,
                )
            )
    level = int(np.argmin(np.abs(np.exp(-plain.curve.clock / 2) - read_out)))
    raised = np.exp(-runs[LIMITED].losses[level]) - np.exp(-plain.losses[level])
    checks.append(
        at_least(
            f"guidance raises the confidence in the class: p(c|x) at σ = {read_out:.3g}, w = 2 minus w = 1",
            Estimate.from_samples(raised),
            0.0,
            "Wu et al. 2024",
        )
    )
    what = ("the shift of the commitment", f"the fall of the cross-entropy at σ = {read_out:.3g}")
    for index, text in enumerate(what):
        checks.append(at_least(f"share of {text} inside the window", shares["inside"][index], 0.8))
        for place in PLACES[1:]:
            checks.append(at_most(f"share of {text} {place}", shares[place][index], 0.1))
    temperature = feedback_temperature(published_levels(64))
    for name, value, wanted in (
        (
            "δ of feedback guidance, π 0.999, t₀ 0.556, N 64",
            feedback_offset(0.999, 0.556, 64),
            -0.2288,
        ),
        ("log P_min of λ_max 10", feedback_floor(0.999, 10.0), -6.802),
        ("τ of feedback guidance, t₁ 0.429, N 64", temperature, 0.0173),
    ):
        checks.append(equal(name, Estimate.exact(np.asarray(value)), wanted, 5e-4))
    return checks
