"""Guided trajectories of a model: what they decide, when, and the identity that it must obey.

Along reverse trajectories of a guided model every class is tracked. With D_c, D_u the outputs for the
class asked for and for the whole law, P = p(x|c) / p(x) tracked against the latter, and scale w, the
ancestral kernel from sigma to sigma' gives, step by step and for any model,

    E[d log P] = (2w - 1) (1/sigma'^2 - 1/sigma^2) / 2 E|D_c - D_u|^2,

the discrete form of `d CE = -(2w - 1) g^2 / 2 E_w|s_c - s|^2 dtau`; w = 1/2 is its neutral point. A kind
that does not act at a level has w = 1 there. The cross-entropy read out, `E[-log p(c|x)]` with the classes
tracked against each other, is a conditional entropy of the class only without guidance.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gmm_speciation.estimate import Estimate
from gmm_speciation.guidance import GuidedCurve
from gmm_speciation.guidance.formulae import feedback_temperature
from gmm_speciation.progress import Parts, Progress
from model_bridges.denoisers.base import Denoiser
from model_bridges.guidance import ClassifierFree, Feedback, Guidance, Guided, Interval
from model_bridges.tracking.forward import track
from model_bridges.tracking.generated import generate_paths

Kind = Callable[[Int[Tensor, " B"]], Guidance]


@dataclass(frozen=True, eq=False)
class GuidedRun:
    """The guided class along N trajectories, noise first, and what the trajectories end on.

    `losses` are `-log p(c|x)`, nats. `imbalance` is the tracked change of log P over a trajectory minus
    the right-hand side of the identity; its mean is 0. None for kinds without a constant scale.
    """

    curve: GuidedCurve
    losses: Float[np.ndarray, "L N"]
    imbalance: Float[np.ndarray, " N"] | None
    named: Bool[np.ndarray, " N"]  # whether the tracked posterior ends on the class asked for
    states: Float[Tensor, "N *event"]

    @property
    def balance(self) -> Estimate:
        """Mean of the imbalance: 0 if the identity holds."""
        assert self.imbalance is not None  # asked of constant scales only
        return Estimate.from_samples(self.imbalance)


def guided_run(
    denoiser: Denoiser,
    kind: Kind,
    labels: Int[Tensor, " N"],
    sigmas: Float[np.ndarray, " L"],
    *,
    scales: Float[np.ndarray, " L"] | None = None,
    seed: int = 0,
    max_batch: int = 1024,
    progress: Progress | Parts | None = None,
) -> GuidedRun:
    """Draw guided trajectories and track every class along them.

    Args:
        denoiser: The model, with an unconditional part.
        kind: Makes the guidance of these labels.
        labels: The class of each trajectory.
        sigmas: Increasing noise levels.
        scales: The scale w at each level, for the identity.
        seed: Of all noise; trajectory i has the same whatever the guidance.
        max_batch: Largest batch given to the network while tracking.
        progress: Told of the steps that are done.

    Raises:
        ValueError: As `track`.
    """
    num = len(labels)
    paths, ends = generate_paths(
        Guided(denoiser, kind(labels)),
        labels,
        sigmas,
        tuple(denoiser.event_shape),
        num,
        seed=seed,
        max_batch=num,
    )
    record = track(
        denoiser,
        ends.double(),
        labels,
        sigmas=sigmas,
        paths=paths,
        seed=seed,
        max_batch=max_batch,
        progress=progress,
    )
    rows, classes = np.arange(num), labels.cpu().numpy()
    losses = -record.fine.log_posterior[::-1, rows, classes]
    log_snr = record.log_snr[::-1]
    curve = GuidedCurve.of_trajectories(
        log_snr,
        losses,
        -np.gradient(losses, log_snr, axis=0),
        float(-np.log(record.prior[classes]).mean()),
        f"{num} guided trajectories, {len(sigmas)} levels",
    )
    imbalance = None
    if scales is not None and record.log_ratio is not None and record.labelled_gap is not None:
        gained = record.log_ratio[0, rows, classes]
        precision = -np.diff(1 / sigmas**2)  # gamma' - gamma of the step that leaves level i + 1
        drift = (2 * scales[1:] - 1) * precision / 2
        imbalance = gained - drift @ record.labelled_gap[1:]
    return GuidedRun(curve, losses, imbalance, losses[-1] < np.log(2), ends)


def constant(scale: float) -> Kind:
    """Classifier-free guidance of one scale."""
    return lambda labels: ClassifierFree(labels, scale)


def limited(scale: float, low: float, high: float) -> Kind:
    """The same in an interval of noise, unguided elsewhere."""
    return lambda labels: Interval(ClassifierFree(labels, scale), low, high)


def feedback_kinds(levels: Float[np.ndarray, " L"]) -> dict[str, Kind]:
    """Feedback guidance as published, and with the tracked posterior as it is, by name.

    The published temperature is a few hundredths: most of what the path says of the class is not heard.

    Args:
        levels: The sampler's, from noise to signal.
    """
    published = feedback_temperature(levels)
    return {
        f"feedback, τ = {temperature:.3g}{word}": partial(
            Feedback.tracked, num_steps=len(levels), temperature=temperature
        )
        for temperature, word in ((published, " as published"), (1.0, ""))
    }


def commitment(run: GuidedRun) -> Estimate:
    """Mean noise of the decision, in log sigma, the same for any shape of the curve.

    The integral of CE over its start, `log sigma_0 - int (CE / CE_0) dlambda / 2` from the noisy end: on a
    step function the place of the step. Per trajectory, so that runs of the same noise are paired.
    """
    return Estimate.from_samples(commitments(run))


def commitments(run: GuidedRun) -> Float[np.ndarray, " N"]:
    """`commitment` of every trajectory."""
    log_sigma = -run.curve.clock / 2
    share = run.losses / run.curve.prior
    return log_sigma[0] - np.trapezoid(share, -log_sigma, axis=0)
