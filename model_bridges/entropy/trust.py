"""What would have caught a wrong wrapper, unit, network or label: the claims about a curve and its model.

Of the model, from the evaluations behind the curve (`evidence`), with H(C) the prior entropy:

    denoising error over a linear bound        at most 1, of networks 1.25 (they reach 1.08 at large noise)
    cross-entropy of the true labels minus H   0 within H(C) / 10
    labels named at the clean end              as many as the posterior promises, within 0.05
    H by an information budget minus H         0 within H(C) / 10
    extrapolated cross-entropy                 not negative
    divergence of shares from weights          0 within H(C) / 100, beyond what chance makes of it; shares of
                                               labels, or without any the mean posterior at the clean end

and of the curve: H in [0, H(C)], something gained, a window no narrower than the levels, a peak inside
them, and at most H(C) / 10 decided beyond the noise where the posterior is taken for the prior: the noisiest
level of tracking and gaps, that of the model elsewhere. In much noise `-dH/dlambda` falls like the SNR
`exp(lambda)`, so it is itself what lies beyond. An entropy is too large by that at most, and by no more than
itself; the errors of a curve with checks, and of its places, have it.
Ranges in nats are widened by how far the step of the levels may displace H. "Open" at most is what the
levels alone are to blame for, paths that end undecided, where classes may overlap, and, below 32 images,
all of the first group but denoising errors: the others have heavy tails, which few have not seen.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Verdict
from gmm_speciation.reporting.trust import Check, End, Trust, TrustWarning
from model_bridges.entropy.evidence import UNDECIDED, Evidence

__all__ = ["Trust", "TrustWarning", "trusted"]  # two of them are public names of this package, too

LARGEST_ERROR = 1.25
NAMING = 0.05
FEWEST = 32  # images for averages with heavy tails
# Of H(C): between two routes to H; beyond its range; gained; of labels from the class weights.
ENTROPY, RANGE, LEAST, DIVERGENCE = 0.1, 0.05, 0.02, 0.01

DENOISERS = {
    "bayes": "class denoisers",
    "labelled": "denoiser of the label",
    "unconditional": "unconditional denoiser",
}
WRAPPER = (
    "Check what the network predicts (its parametrisation and sign), the direction of its time, the range "
    "of values it was trained on, its weights, and that these images are of its kind; where the noise is "
    "large a denoiser can only return the data's mean: `sigma_range` ends where a network does worse"
)
LABELS = (
    "Check that label k is class k of the model and that the labels are in the order of the images; and "
    "what the network predicts"
)
SHARES = (
    "The curve is that of no distribution: posteriors begin with the class weights, and averages run over "
    "these images. Give `prior=` or `--class-prior` the shares of the data, or take of every "
    "class as many images as its weight says"
)
TWO_NETWORKS = (
    "The unconditional network is not the mixture of the classes; use 'gap', the Bayes form"
)
LEVELS = "Take more levels, or a wider range of them"
MORE_NOISE = (
    "Begin the levels at more noise, by the model's `sigma_range` if it reaches that far: all that follows "
    "begins with the prior where classes are told apart already"
)
UNUSED = "Nothing is decided on these levels: check that the network uses its label, or go to lower noise"


@dataclass(frozen=True)
class Base:
    """What an estimator rests on: denoisers whose errors, and forms of the budget, that count for it."""

    denoisers: tuple[str, ...] = ("bayes",)
    budgets: tuple[str, ...] = ("bayes", "mmse")
    integral: str = ""  # form whose integral the entropy is
    has_peak: bool = True


BOTH = Base(("bayes", "unconditional"))
BASES = {
    "gap": Base(integral="bayes"),
    "gap-unconditional": replace(BOTH, budgets=("unconditional", "mmse"), integral="unconditional"),
    "gap-sampled": Base(("labelled", "unconditional")),
    "tracking-ratio": BOTH,
    "tracking-forced": BOTH,
    "clones": replace(BOTH, has_peak=False),
}


def trusted(
    curve: EntropyCurve,
    found: Evidence,
    estimator: str = "tracking",
    divergence: Estimate | None = None,
    labelled: bool = True,
) -> EntropyCurve:
    """A curve with its trust block.

    Args:
        curve: The curve.
        found: Of the evaluations behind it.
        estimator: Which estimator's it is.
        divergence: Of the images that it is averaged over from the class weights (`Problem.divergence`).
        labelled: Whether that is by their labels, or by their posteriors.
    """
    base = BASES.get(estimator, Base())
    step = found.step
    if np.shape(step) not in ((), np.shape(curve.log_snr)):  # the evidence has levels of its own
        step = float(np.max(step))
    # An entropy that is an integral has the step of its rate as well.
    of_integral = found.integral_steps.get(base.integral, 0.0) if base.integral else 0.0
    checks = _of_model(found, curve.prior_entropy, base) + _of_curve(curve, step + of_integral)
    if base.has_peak:
        checks.append(_peak(curve))
    beyond = _beyond(curve, found)
    checks.append(beyond)
    if divergence is not None:
        most = DIVERGENCE * curve.prior_entropy
        shares = "labels' shares" if labelled else "mean posterior"
        name = f"divergence of the {shares} from the class weights [nats]"
        words = f"≤ {most:.2g}"
        check = Check.of(name, words, SHARES, divergence, curve.sigma[-1:], high=most)
        checks.append(replace(check, sigma=None))
    most = np.clip(beyond.measured, 0.0, np.maximum(curve.entropy.value, 0.0))
    entropy = replace(curve.entropy, stderr=np.hypot(curve.entropy.stderr, most))
    return replace(curve, entropy=entropy, trust=Trust(tuple(checks)))


def _of_model(found: Evidence, total: float, base: Base) -> list[Check]:
    sigmas, wide = found.sigmas, ENTROPY * total + found.step
    nats = f"within ± {ENTROPY * total:.2g}"
    errors, checks = [], []
    for key, ratio in found.errors.items():
        denoiser, bound = key.split(", ")
        if denoiser in base.denoisers:
            name = f"denoising error over the {bound} linear bound, {DENOISERS[denoiser]}"
            expected = f"≤ {LARGEST_ERROR:g}"
            errors.append(Check.of(name, expected, WRAPPER, ratio, sigmas, high=LARGEST_ERROR))
    if found.calibration is not None:
        name = "cross-entropy of the true labels minus H [nats]"
        checks.append(Check.of(name, nats, LABELS, found.calibration, sigmas, -wide, wide))
    if found.cross_entropy is not None:
        name, least = "extrapolated cross-entropy of the true labels [nats]", -LEAST * total
        checks.append(Check.of(name, "≥ 0", LEVELS, found.cross_entropy, sigmas, low=least))
    if found.naming is not None:
        name = "labels named at the clean end, minus the share that the posterior promises"
        expected = f"within ± {NAMING:g}"
        checks.append(Check.of(name, expected, LABELS, found.naming, sigmas, -NAMING, NAMING))
    for form in base.budgets:
        if form in found.budgets:
            name = f"information budget, {form} form: H by its integral minus H [nats]"
            remedy = TWO_NETWORKS if form == "unconditional" else WRAPPER
            own = wide + found.integral_steps.get(form, 0.0)
            checks.append(Check.of(name, nats, remedy, found.budgets[form], sigmas, -own, own))
    if found.undecided is not None:
        name = f"paths whose final class is below p = {UNDECIDED:g} at the clean end: not decided"
        remedy = (
            "Their moment of decision means nothing: classes overlap, or the levels end too early"
        )
        undecided = Check.of(name, "≤ 0.1", remedy, found.undecided, sigmas, high=0.1)
        checks.append(_at_most_open(undecided))
    return errors + (checks if found.num_images >= FEWEST else [_at_most_open(c) for c in checks])


def _of_curve(curve: EntropyCurve, step: End) -> list[Check]:
    total, sigmas = curve.prior_entropy, curve.sigma
    wide, least = RANGE * total + step, LEAST * total
    clean = curve.entropy[:1]
    gained = Estimate(total - clean.value, clean.stderr, clean.dof)
    spread = curve.entropy
    if (
        curve.batches is not None
    ):  # what did not come may add to an entropy, and takes nothing from it
        found = Estimate.from_samples(curve.batches.entropy)
        spread = Estimate(spread.value, found.stderr, found.dof)
    name = "information gained down to the clean end [nats]"
    return [
        Check.of(
            "H(C|X) [nats]",
            f"0 to {total:.3g}",
            f"{LEVELS}; beyond that, check the network",
            spread,
            sigmas,
            -wide,
            total + wide,
        ),
        Check.of(name, f"≥ {least:.2g}", UNUSED, gained, sigmas, low=least),
        _window(curve),
    ]


def _peak(curve: EntropyCurve) -> Check:
    """Where the rate is largest: at an end of the levels it may be larger beyond."""
    rate = np.asarray(curve.rate.value)
    best, last = int(np.argmax(rate)), len(rate) - 1
    verdict = Verdict.YES
    if best in (0, last):
        verdict = Verdict.OPEN
        if curve.batches is not None and last > 1:
            batches = np.asarray(curve.batches.rate)
            inner = 1 + int(np.argmax(rate[1:-1]))
            excess = Estimate.from_samples(batches[:, [best]] - batches[:, [inner]])
            resolved = Check.of("", "", "", excess, curve.sigma[[best]], high=0.0)
            verdict = Verdict.NO if resolved.verdict == Verdict.NO else Verdict.OPEN
    expected = f"inside {curve.sigma[0]:.3g} to {curve.sigma[-1]:.3g}"
    sigma = float(curve.sigma[best])
    return Check("peak of the rate, σ", expected, sigma, verdict, LEVELS, sigma=sigma)


def _beyond(curve: EntropyCurve, found: Evidence) -> Check:
    """What the noisy state says where the posterior is taken for the prior, by default at the last level."""
    most, top = ENTROPY * curve.prior_entropy, curve.sigma[-1:]
    name = "information beyond the noisiest level, left out [nats]"
    ratio = 1.0 if found.start is None else (top / found.start) ** 2
    left_out = curve.rate[-1:].map(lambda rate: rate * ratio)
    if found.beyond is not None:
        left_out, top = found.beyond, found.sigmas[-1:]
    return Check.of(name, f"≤ {most:.2g}", MORE_NOISE, left_out, top, high=most)


def _window(curve: EntropyCurve) -> Check:
    """Width of the 80 % window in steps of the levels at its clean end."""
    name, expected = "80 % window, steps wide", "≥ 1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a flat curve is said here
        try:
            window = curve.window(0.8)
        except ValueError:
            return Check(
                name, expected, np.nan, Verdict.OPEN, f"It ends beyond the levels. {LEVELS}"
            )
    position = np.log(curve.sigma)
    low, high = (-float(end.value) / 2 for end in (window.high, window.low))
    cell = int(np.clip(np.searchsorted(position, low), 1, len(position) - 1))
    width = (high - low) / float(position[cell] - position[cell - 1])
    verdict = Verdict.NO if width <= 1e-3 else Verdict.OPEN if width < 1 else Verdict.YES
    remedy = "All is decided between two levels: take more of them there, or check the network"
    return Check(name, expected, width, verdict, remedy, sigma=float(np.exp(low)))


def _at_most_open(check: Check) -> Check:
    """What no model is guilty of."""
    return replace(check, verdict=Verdict.OPEN) if check.verdict == Verdict.NO else check
