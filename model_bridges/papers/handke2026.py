"""Handke et al. 2026, "The entropic signature of class speciation in diffusion models", arXiv 2602.09651.

On a trained model: decisions by the paper's read-out and class against class, read-outs on a mixture where
the truth is known, partitions, guidance.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from gmm_speciation import families
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition
from gmm_speciation.reporting.claims import Claim, at_least, equal
from gmm_speciation.reporting.papers import Place
from model_bridges.control.information import SCALES, GuidedInformation, guided_information
from model_bridges.control.interval_search import IntervalSearch, search_intervals
from model_bridges.crosscheck.theory import can_be_fitted, mixture_model
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.entropy.measure import MeasuredVariable
from model_bridges.entropy.windows import guidance_interval
from model_bridges.papers.decisions import (
    MASS,
    OURS,
    PAPERS_WAY,
    along_trajectories,
    decide,
    decision_claims,
    decision_cost,
    levels_of,
    order_claim,
    plot_curves,
    samples_of,
    window_claim,
)
from model_bridges.papers.parts import Cost, Found, Paper, Settings, Subject
from model_bridges.samplers import karras_sigmas
from model_bridges.studied import NUM_STEPS

_NONE = "the paper gives no number in its abstract; "
_LEVELS = "abstract: partitions resolve levels of abstraction"
_NARROW = "abstract: entropy isolates a narrow regime"
_CONTROL = "abstract: a basis for time-localized control"
_TRACKED = "tracking along trajectories of the model"
_STAND_IN = "stand-in for EDM2-XS and SD 1.5"
_WAYS = (OURS, "tracking-ratio", PAPERS_WAY)
# Why a claim need not hold, by what its statement says.
_WHY = {
    PAPERS_WAY: "the unconditional stands for the complement, of which the class itself is half here",
    "against the unconditional model": "at little noise two networks differ by their errors, not by "
    "information",
    "inside the window": "guidance moves the commitment to more noise than the window of unguided "
    "information, so part of its effect falls before it",
    "at more noise": "the same: what guidance does before the window decides early",
    "at less noise": "what guidance does after the window sharpens a decision that is made",
    "paper's read-out": "against the whole model the question is one class or any, decided later",
    "than digit": "loop and parity are not what digits divide by first",
    "than prompt": "loop and parity are not what digits divide by first",
    "evaluations of the curve": "the curve is measured as closely as the decisions, an interval needs "
    "less",
    "fitted mixture": "the network is not the mixture: one Gaussian a class",
}
_TRUTH, _BUDGET = 0.03, 0.05  # tolerances: nats; share of H(C)
_FEW = 10  # trajectories of a guided run, quick
_GUIDED_LEVELS = (12, 48)
_GUIDED_RUNS = len(SCALES) + 3  # scales, intervals
_DRAWN = (40, 500)  # images of an interval


def _whose(subject: Subject) -> str:
    if subject.preset is None:
        return f"on {subject.name}, {_STAND_IN}"
    return f"on {subject.name}, at the paper's settings; partitions and prompts are ours"


def run(subjects: Sequence[Subject], settings: Settings) -> Found:
    """All rows."""
    found = Found()
    _read_outs(found, settings)
    for index, subject in enumerate(subjects):
        _decisions(found, subject, settings)
        if subject.preset is None:  # the released models have too many classes to track together
            curve = _partitions(found, subject, settings)
            interval = guidance_interval(curve, MASS)
            _guidance(found, subject, interval, settings)
            if index == 0 or not settings.quick:
                _intervals(found, subject, interval, settings)
    return found


def _read_outs(found: Found, settings: Settings) -> None:
    """The read-outs at the paper's levels, on two Gaussians whose entropy is known."""
    law, dim = families.symmetric_pair(16), 16
    denoiser = CountingDenoiser(mixture_denoiser(law, sigma_range=(0.002, 80.0)))
    result = along_trajectories(
        denoiser,
        {"component": Partition.trivial(2)},
        _WAYS,
        karras_sigmas(64, 0.002, 80.0).numpy()[::-1].copy(),
        settings.of(96, 1000),
        settings,
        "two Gaussians",
    )
    place = Place(
        "the tracked posterior (section not cited here)",
        "theory: exact entropy of two Gaussians",
    )
    curves = result.variables["component"].curves
    exact = entropy_curve(law, curves[OURS].log_snr)
    for way, curve in curves.items():
        found.add(place, _TRACKED, _truth(way, dim, curve, np.asarray(exact.entropy.value)))


def _truth(way: str, dim: int, curve, exact: np.ndarray) -> Claim:
    assert curve.batches is not None  # it was sampled
    window = (exact > 0.1 * curve.prior_entropy) & (exact < 0.9 * curve.prior_entropy)
    by_batch = (np.asarray(curve.batches.entropy) - exact)[:, window].mean(1)
    found = equal(
        f"read-out '{way}' on two Gaussians, d = {dim}: H minus the exact one, mean over the window [nats]",
        Estimate.from_samples(by_batch),
        0.0,
        _TRUTH,
    )
    return _why(found)


def _decisions(found: Found, subject: Subject, settings: Settings) -> None:
    """Every pair and group on its own."""
    whose = _whose(subject)
    places = (
        Place(_NARROW, f"{_NONE}the bound is ours; {whose}"),
        Place("the paper's read-out", f"{_NONE}class against class is the other side; {whose}"),
        Place("abstract: a narrow regime", f"theory: mixture fitted to the data; {whose}"),
    )
    levels = Place(_LEVELS, f"{_NONE}the order is ours; {whose}")
    by_family: dict[str, list[MeasuredVariable]] = {}
    for choice in (*subject.pairs, *subject.groups):
        name = f"{subject.name}, {choice.family}: {choice.groups}"
        settings.progress.step(name)
        variable = decide(subject, choice, settings)
        by_family.setdefault(choice.family, []).append(variable)
        for place, claim in zip(places, decision_claims(name, variable), strict=True):
            if claim is not None:
                found.add(place, _TRACKED, _why(claim))
    chains = (("far", "middle", "near"), tuple(one.family for one in subject.groups))
    for families_of in chains:
        known = [name for name in families_of if name in by_family]
        for first, later in pairwise(known):
            statement = f"{subject.name}: {first} is decided at higher noise than {later} [log σ]"
            found.add(levels, _TRACKED, order_claim(statement, by_family[first], by_family[later]))


def _partitions(found: Found, subject: Subject, settings: Settings):
    """All classes and their groupings in one pass; returns the curve of the classes."""
    model, whose = subject.model, _whose(subject)
    settings.progress.step(f"{subject.name}: all classes and their groupings")
    single = Partition(np.arange(len(model.class_names)), names=model.class_names)
    result = along_trajectories(
        model.denoiser,
        {model.class_name: single, **model.partitions},
        (OURS, "gap", "gap-unconditional"),
        levels_of(subject, settings),
        samples_of(subject, settings),
        settings,
        subject.name,
        "all",
    )
    main, picture = result.variables[model.class_name], f"{subject.file}-classes"
    name = f"{subject.name}, {len(model.class_names)} classes"
    found.add(
        Place(_NARROW, f"{_NONE}the bound is ours; {whose}", figure=picture),
        _TRACKED,
        window_claim(name, main.curves[OURS], "class against class"),
    )
    found.add(
        Place("the entropy rate from score differences", f"theory: ∫ dH = H(C); {whose}"),
        "denoisers compared along trajectories of the model, integrated over all levels",
        *(_budget(name, main, way) for way in ("gap", "gap-unconditional") if way in main.curves),
    )
    levels = Place(_LEVELS, f"{_NONE}the order is ours; {whose}")
    for one in result.comparisons:
        if one.half_entropy is not None:
            found.add(
                levels,
                f"{_TRACKED}; paired by trajectory",
                _why(
                    at_least(
                        f"{subject.name}: {one.coarse} is decided at higher noise than {one.fine} [log σ]",
                        one.half_entropy,
                        0.0,
                    )
                ),
            )
    found.pictures[picture] = (
        partial(plot_curves, result),
        f"Class entropy along trajectories of {subject.name}: all classes and their groupings.",
    )
    return main.curves[OURS]


def _budget(name: str, found: MeasuredVariable, way: str) -> Claim:
    curve = found.curves[way]
    form = "Bayes form" if way == "gap" else "the paper's form, against the unconditional model"
    claim = equal(
        f"{name}: ∫ dH over all levels is H(C), {form} [nats]",
        curve.entropy[0].map(lambda left: curve.prior_entropy - left),
        curve.prior_entropy,
        _BUDGET * curve.prior_entropy,
    )
    return _why(claim)


def _guidance(
    found: Found, subject: Subject, window: tuple[float, float], settings: Settings
) -> None:
    """Cross-entropy along guided trajectories."""
    model, whose = subject.model, _whose(subject)
    model.check_guided()
    information = guided_information(
        model,
        window,
        theory=mixture_model(model, settings.seed) if can_be_fitted(model) else None,
        num_paths=settings.drawn(_FEW, 150),
        num_levels=settings.levels(*_GUIDED_LEVELS),
        feedback=False,  # another paper's
        seed=settings.seed,
        progress=settings.progress,
    )
    picture = f"{subject.file}-guided"
    moved = Place(
        "abstract: guidance redistributes information over time",
        f"theory: closed form, identities, fitted mixture; the paper gives none; {whose}",
        figure=picture,
    )
    control = Place(_CONTROL, f"{_NONE}the bounds are ours; {whose}")
    for claim in information.checks:
        if "feedback" in claim.statement or "P_min" in claim.statement or "τ of" in claim.statement:
            continue  # constants of another paper
        place = control if claim.statement.startswith("share of") else moved
        found.add(place, "guided trajectories of one noise, classes tracked", _of(subject, claim))
    found.pictures[picture] = (
        partial(_plot_guided, information),
        f"Cross-entropy along guided trajectories of {subject.name}; below, guided in a limited interval. "
        "Thin dashes: the fitted mixture.",
    )


def _intervals(
    found: Found, subject: Subject, window: tuple[float, float], settings: Settings
) -> None:
    """What an interval is worth in pictures."""
    model = replace(subject.model, folder=settings.place(subject.name, "intervals"))
    control = Place(_CONTROL, f"{_NONE}the bounds are ours; {_whose(subject)}")
    settings.progress.step(f"{subject.name}: intervals")
    search: IntervalSearch = search_intervals(
        model,
        window,
        samples_of(subject, settings)
        * len(levels_of(subject, settings))
        * model.denoiser.num_classes,
        num_images=settings.drawn(*_DRAWN),
        feedback=False,
        seed=settings.seed,
        progress=settings.progress,
    )
    how = "images of one noise, judged by a classifier trained on the data"
    found.add(control, how, *(_of(subject, claim) for claim in search.checks))


def _of(subject: Subject, claim: Claim) -> Claim:
    """The claim with the model's name."""
    return _why(replace(claim, statement=f"{subject.name}: {claim.statement}"))


def _why(claim: Claim) -> Claim:
    """The claim with the reason that is known for its failure."""
    words = "" if "identity" in claim.statement else claim.statement
    known = next((text for part, text in _WHY.items() if part in words), "")
    return replace(claim, note="; ".join(filter(None, (claim.note, known))))


def _plot_guided(found: GuidedInformation):
    from model_bridges.control.plotting import plot_guided

    return plot_guided(found)


def plan(subjects: Sequence[Subject], settings: Settings) -> list[Cost]:
    """Evaluations of the network, part by part."""
    costs = [Cost("read-outs on two Gaussians (no network)", 0)]
    for subject in subjects:
        many = len(subject.pairs) + len(subject.groups)
        costs.append(
            Cost(f"{subject.name}: {many} decisions", many * decision_cost(subject, settings))
        )
        num_classes = subject.model.denoiser.num_classes
        if subject.preset is None:
            every = decision_cost(subject, settings, num_classes)
            costs.append(Cost(f"{subject.name}: all classes and their groupings", every))
            paths = settings.drawn(_FEW, 150) * settings.levels(*_GUIDED_LEVELS)
            guided = _GUIDED_RUNS * paths * (num_classes + 3)
            costs.append(Cost(f"{subject.name}: guided trajectories", guided))
            # Fifteen intervals at most, that of the curve and none, at 32 levels.
            drawn = 17 * settings.drawn(*_DRAWN) * NUM_STEPS * 2
            if subject is subjects[0] or not settings.quick:
                costs.append(Cost(f"{subject.name}: intervals judged by images", drawn))
    return costs


def scale(subjects: Sequence[Subject], settings: Settings) -> str:
    """How near to the paper's settings a run is."""
    runs = "; ".join(
        f"{one.name} {samples_of(one, settings)} and {len(levels_of(one, settings))}"
        for one in subjects
    )
    words = (
        f"Trajectories of a decision and their levels: {runs}; the paper's: 3000 and 64 with EDM2-XS, 400 "
        "and 100 with SD 1.5."
    )
    if all(one.preset for one in subjects):
        return words
    return (
        f"{words} Guided: {settings.drawn(_FEW, 150)} trajectories of {settings.levels(*_GUIDED_LEVELS)} "
        f"levels; intervals: {settings.drawn(*_DRAWN)} images; the paper's numbers are not known here."
    )


PAPER = Paper(
    "Handke et al. 2026 on trained models",
    "arXiv 2602.09651",
    "Claims are those of the abstract. The paper's partitions, prompts and seeds are not public: pairs, "
    "groups and prompts are this package's, each with its reason in `class_pairs.json` or "
    "`prompt_pairs.json`. Without --edm2 and --sd the shipped models stand in, and rows say so. Mixtures: "
    "`gmm-speciation paper handke2026`.",
    run,
    plan,
    scale,
)
