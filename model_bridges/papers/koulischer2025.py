"""Koulischer et al. 2025, "Dynamic negative guidance of diffusion models", arXiv 2410.14398.

A class removed by every kind: none, negative prompting (NP), safe latent diffusion (SLD), dynamic negative
guidance as its code runs (published) and with the class's own share as prior (ours), over fronts.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gmm_speciation.reporting.claims import Claim, at_least, at_most
from gmm_speciation.reporting.papers import Place
from model_bridges.control.removal import (
    DNG,
    NP,
    PRICES,
    PUBLISHED,
    SLD,
    STRENGTHS,
    Removal,
    remove_class,
)
from model_bridges.models import SHIPPED
from model_bridges.papers.parts import Cost, Found, Paper, Settings, Subject
from model_bridges.quality import paired_difference
from model_bridges.quality.frontier import compare_shares

REMOVED = 7
_STEPS = (12, 32)
_IMAGES = (80, 500)
_QUICK = {NP: (0.1, 0.4, 1.6), SLD: (1.0, 16.0), DNG: (1.0, 10.0), PUBLISHED: (5.0, 80.0)}
_NOT_ALL = (
    "the posterior is tracked against the unconditional network, of which the class is a part; "
    "class against class at strength 1 leaves less"
)
_WHERE = {
    "safety": Place("abstract: higher safety", "the paper: less of the class is left"),
    "balance": Place("abstract: preservation of class balance", "the paper: nearer to uniform"),
    "frechet": Place(
        "abstract: image quality", "the paper: FID not worse; here the judge's distance"
    ),
    "fails": Place(
        "abstract: a constant scale is highly suboptimal, or fails", "the paper: it fails"
    ),
}


def run(subjects: Sequence[Subject], settings: Settings) -> Found:
    """All rows, a model after the other."""
    found = Found()
    for subject in subjects:
        subject.model.check_guided()
        settings.progress.step(f"{subject.name}: training the judge")
        _ = subject.model.judge
        removed = min(REMOVED, subject.model.denoiser.num_classes - 1)
        result = remove_class(
            subject.model,
            removed,
            num_images=settings.drawn(*_IMAGES),
            num_steps=settings.levels(*_STEPS),
            strengths=_QUICK if settings.quick else None,
            seed=settings.seed,
            folder=settings.place(subject.name, "removal"),
            progress=settings.progress,
        )
        _rows(found, subject, result, settings)
    return found


def _rows(found: Found, subject: Subject, result: Removal, settings: Settings) -> None:
    whose = f"on {subject.name}, class {result.removed}"
    if subject.name in SHIPPED:
        whose += ", stand-in for MNIST, CIFAR-10 and SD"
    picture = f"{subject.file}-removal"
    command = f"model-bridges remove {subject.name} --class {result.removed}"

    def add(kind: str, *claims: Claim) -> None:
        place = _WHERE[kind]
        place = replace(place, origin=f"{place.origin}; {whose}", command=command, figure=picture)
        named = (replace(one, statement=f"{subject.name}: {one.statement}") for one in claims)
        how = f"{result.num_images} images of one noise, judged by a classifier trained on the data"
        found.add(place, how, *named)

    for claim in result.checks:
        text = claim.statement
        if text.startswith(NP):
            add("fails", claim)
        elif "balance, KL" in text:
            add("balance", claim)
        elif "distance minus" in text:
            add("frechet", claim)
        elif text.startswith(f"{DNG}, strength 1: share"):
            add("safety", replace(claim, note=_NOT_ALL))
        else:
            add("safety", claim)
    floors = {"balance": result.unguided.balance_floor}
    floors["frechet"] = float(result.floor.held_out.frechet.value)
    published = result.curves[PUBLISHED]
    for other in (NP, SLD):
        for metric, least in floors.items():
            front = compare_shares(
                published,
                result.curves[other],
                metric,
                "removed_share",
                floor=least,
                seed=settings.seed,
            )
            add(
                "safety",
                at_most(
                    f"{PUBLISHED}, leaves less of the class than {other} along the prices in "
                    f"{PRICES[metric]}: difference of shares",
                    front.area,
                    0.0,
                    "mean over the logarithm of the price; without its distance offset",
                ),
            )
    strongest, gentle = published.points[-1], result.curves[NP].points[-1]
    assert strongest.removed_share is not None  # a class was removed
    add(
        "safety",
        at_most(
            f"{PUBLISHED}, largest strength {published.strengths[-1]:g}: share of the class that is left",
            strongest.removed_share,
            0.02,
        ),
    )
    for metric in PRICES:
        add(
            metric,
            at_least(
                f"at the largest strengths NP pays more in {PRICES[metric]} than {PUBLISHED}",
                paired_difference(gentle, strongest, metric),
                0.0,
                f"strengths {result.curves[NP].strengths[-1]:g} and {published.strengths[-1]:g}",
            ),
        )
    found.pictures[picture] = (
        partial(_plot, result),
        f"What is left of the class against what it costs, {subject.name}.",
    )


def _plot(result: Removal):
    from model_bridges.control.plotting import plot_removal

    return plot_removal(result)


def plan(subjects: Sequence[Subject], settings: Settings) -> list[Cost]:
    """Evaluations of the network, without strengths that are doubled."""
    strengths = _QUICK if settings.quick else STRENGTHS
    found = []
    for one in subjects:
        every = 1 + one.model.denoiser.num_classes
        step = 1 + sum(
            len(grid) * (every if "classes" in kind else 2) for kind, grid in strengths.items()
        )
        images = settings.drawn(*_IMAGES) * (settings.levels(*_STEPS) - 1)
        found.append(Cost(f"{one.name}: a class removed, every kind and strength", images * step))
    return found


def scale(subjects: Sequence[Subject], settings: Settings) -> str:
    """How near to the paper's settings a run is."""
    kinds = (
        "a few strengths"
        if settings.quick
        else "strengths that are doubled until the class is gone"
    )
    return (
        f"{settings.drawn(*_IMAGES)} images a strength, {settings.levels(*_STEPS)} noise levels, {kinds}; "
        "how many images, steps and classes the paper took is not known here."
    )


PAPER = Paper(
    "Koulischer et al. 2025: dynamic negative guidance",
    "arXiv 2410.14398",
    "Safety, balance and quality are those of a classifier trained on the data here, not FID of Inception. "
    "MNIST or CIFAR-10: give a model of yours by --model and its images by --data; else the digits stand in, "
    "and their prompts for Stable Diffusion. The published form is that of its code on CIFAR-10.",
    run,
    plan,
    scale,
)
