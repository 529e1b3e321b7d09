"""A decision between two groups of classes, read along trajectories of the model as the seed paper does.

The paper tracks a class against the unconditional model along the stochastic sampler and takes the binary
entropy with the prior one half ("tracking-forced" here, Handke et al. 2026, arXiv 2602.09651). Class against
class is read from the same trajectories ("tracking"). Beside both stands the mixture fitted to the data,
where there are any.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition
from gmm_speciation.reporting.claims import Claim, at_least, at_most, equal
from gmm_speciation.reporting.trust import TrustWarning
from model_bridges.classes.groups import read_selection
from model_bridges.crosscheck.theory import can_be_fitted, closed_form
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.entropy.curve import NEED_UNCONDITIONAL
from model_bridges.entropy.measure import MeasuredVariable, Measurement, measure
from model_bridges.entropy.own_samples import SamplingJob
from model_bridges.entropy.presets import PRESETS
from model_bridges.entropy.problem import problem
from model_bridges.entropy.windows import compare_windows
from model_bridges.papers.parts import Settings, Subject
from model_bridges.papers.selections import Choice
from model_bridges.samplers import karras_sigmas

PAPERS_WAY, OURS = "tracking-forced", "tracking"
MASS = 0.8
NARROW = 0.5  # of the sampler's range in log sigma
_LARGEST_CHUNK = 32
_MAX_CLASSES = 8  # that stand for the groups of a decision
# Tolerances: log-SNR of a half-entropy point; log sigma between read-outs.
_PLACES, _WAYS = 0.3, 0.1
NAN = Estimate(np.asarray(np.nan), np.asarray(np.nan), np.inf)


def levels_of(subject: Subject, settings: Settings) -> Float[np.ndarray, " L"]:
    """As many as asked; the paper's for its models; Karras' 64 for a stand-in, 16 if quick."""
    preset = None if subject.preset is None else PRESETS[subject.preset].levels
    if preset is not None and not settings.quick and settings.num_levels is None:
        return preset
    low, high = subject.model.denoiser.sigma_range
    return karras_sigmas(settings.levels(16, 64), low, high).numpy()[::-1].copy()


def samples_of(subject: Subject, settings: Settings) -> int:
    """Trajectories of a decision: as asked, the paper's for its models, 300 for a stand-in; 24 if quick."""
    paper = 300 if subject.preset is None else PRESETS[subject.preset].num_samples
    return settings.num_samples or settings.of(24, paper)


def decision_cost(subject: Subject, settings: Settings, num_classes: int = 2) -> int:
    """Evaluations: one to draw a step, one a class and the whole to track it."""
    return samples_of(subject, settings) * len(levels_of(subject, settings)) * (num_classes + 2)


def along_trajectories(
    denoiser: CountingDenoiser,
    partitions: Mapping[str, Partition],
    estimators: Sequence[str],
    levels: Float[np.ndarray, " L"],
    num: int,
    settings: Settings,
    *names: str,
    theory: Callable[[Partition, np.ndarray], EntropyCurve] | None = None,
) -> Measurement:
    """`measure` along trajectories of the model, classes in turn; `names` are the run's subfolder."""
    if not denoiser.has_unconditional:
        estimators = [one for one in estimators if one not in NEED_UNCONDITIONAL]
    given = problem(
        denoiser,
        torch.zeros(1, *denoiser.event_shape).expand(num, *denoiser.event_shape),
        SamplingJob(denoiser, num, seed=settings.seed).labels(),
        law=f"{num} trajectories of the model, classes in turn",
        sigmas=levels,
        partitions=partitions,
        seed=settings.seed,
        # Few samples in large chunks: a shipped network is fast only on many states at once.
        chunk_size=max(1, min(_LARGEST_CHUNK, num // (6 if num < 128 else 16))),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)  # verdicts say it
        return measure(
            given,
            estimators,
            run=settings.place(*names),
            trajectories=True,
            theory=theory,
            progress=settings.progress,
        )


def decide(subject: Subject, choice: Choice, settings: Settings) -> MeasuredVariable:
    """One decision by both read-outs, and the fitted mixture's where there are data.

    Raises:
        ValueError: If the model does not know the classes, or as `measure`.
    """
    groups = read_selection(choice.groups, subject.model.words)
    groups = groups.sample(_MAX_CLASSES, settings.seed)
    part = subject.model.of_classes(groups, whole=True)
    fits = can_be_fitted(part) and not groups.is_sample
    result = along_trajectories(
        part.denoiser,
        {choice.groups: groups.partition},
        (OURS, PAPERS_WAY),
        levels_of(subject, settings),
        samples_of(subject, settings),
        settings,
        subject.name,
        choice.groups,
        theory=closed_form(part, settings.seed) if fits else None,
    )
    return result.variables[choice.groups]


def plot_curves(result: Measurement) -> Any:
    """The curves class against class of every variable."""
    from gmm_speciation import plotting

    return plotting.plot_curve({name: one.curves[OURS] for name, one in result.variables.items()})


def or_nan(read: Callable[[], Estimate]) -> Estimate:
    """What a curve says, or "not defined" where it ends before: such a claim is open."""
    try:
        return read()
    except ValueError:
        return NAN


def half_point(curve: EntropyCurve) -> Estimate:
    """Log-SNR at which half of the entropy is left."""
    return or_nan(lambda: curve.crossing(curve.prior_entropy / 2))


def window_share(curve: EntropyCurve) -> Estimate:
    """Share of the levels' range in log sigma that the window of 80 % of the information takes.

    Not defined where less than half is decided: the window of next to nothing is narrow, too.
    """

    def width() -> Estimate:
        curve.crossing(curve.prior_entropy / 2)
        window = curve.window(MASS)
        # Both ends have errors; taken as independent, as their correlation is not kept.
        return window.high - window.low

    span = float(np.ptp(curve.log_snr))
    return or_nan(width).map(lambda one: np.abs(one) / span)


def window_claim(name: str, curve: EntropyCurve, way: str) -> Claim:
    """That a decision is narrow."""
    return at_most(
        f"{name}: 80 % of the decision takes at most half of the range in log σ, {way}",
        window_share(curve),
        NARROW,
        doubt(curve),
    )


def doubt(curve: EntropyCurve) -> str:
    """What speaks against a curve of a model; nothing where its checks hold."""
    if curve.trust is None or curve.trust.ok:
        return ""
    return f"the curve cannot be trusted: {curve.trust.reasons}"


def decision_claims(name: str, found: MeasuredVariable) -> tuple[Claim, Claim | None, Claim | None]:
    """Narrow; where the paper's read-out puts it; where the fitted mixture does."""
    ours, paper = found.curves[OURS], found.curves.get(PAPERS_WAY)
    beside = theory = None
    if paper is not None:
        difference = compare_windows(paper, ours).half_entropy
        beside = equal(
            f"{name}: the paper's read-out puts it where class against class does [log σ]",
            NAN if difference is None else difference,
            0.0,
            _WAYS,
        )
    if found.theory is not None:
        place = half_point(found.theory)
        if np.isfinite(float(place.value)):
            theory = equal(
                f"{name}: half decided at log-SNR, fitted mixture against model",
                half_point(ours),
                float(place.value),
                _PLACES,
            )
    return window_claim(name, ours, "class against class"), beside, theory


def order_claim(
    statement: str, first: Sequence[MeasuredVariable], later: Sequence[MeasuredVariable]
) -> Claim:
    """That the first decisions are made at higher noise than the later ones, mean half point in log sigma."""
    sides = []
    for group in (first, later):
        points = [half_point(one.curves[OURS]) for one in group]
        sides.append(
            Estimate(
                np.asarray(-np.mean([point.value for point in points]) / 2),
                np.sqrt(np.sum([point.stderr**2 for point in points])) / len(points) / 2,
                min(point.dof for point in points),
            )
        )
    return at_least(statement, sides[0] - sides[1], 0.0)
