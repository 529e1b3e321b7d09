"""`model-bridges paper`: the claims of one paper on trained models as rows."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gmm_speciation.reporting import terminal

# isort: split
import typer

from gmm_speciation.cli.paper import PlanOption, QuickOption
from gmm_speciation.lookup import pick
from gmm_speciation.reporting.terminal import Out, Quiet, Seed
from model_bridges.cli.options import MODEL, PACKAGES, PATHS, Study

if TYPE_CHECKING:
    from model_bridges.papers import Subject

STAND_INS = {
    "handke2026": ("digits", "digits-text"),
    "handke2025": ("digits",),
    "koulischer2025": ("digits", "digits-text"),
}
_SECONDS = {"digits": 4e-4, "digits-text": 8e-4}  # of one evaluation on one processor, about


def paper(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="handke2026, handke2025 or koulischer2025.")
    ],
    *,
    edm2: Annotated[
        str | None, typer.Option(metavar="COND,UNCOND", help="handke2026: files of EDM2-XS.")
    ] = None,
    sd: Annotated[
        str | None, typer.Option(metavar="REPO", help="handke2026: Stable Diffusion 1.5.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help=f"The others: {MODEL}")] = None,
    data: Annotated[str | None, typer.Option(metavar="PATH", help=f"Of --model: {PATHS}.")] = None,
    train_data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Of --model: what is fitted.")
    ] = None,
    quick: QuickOption = False,
    plan: PlanOption = False,
    samples: Annotated[
        int | None,
        typer.Option(
            min=4, metavar="N", help="Trajectories and images of a run; as the paper, few if quick."
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(min=4, metavar="N", help="Noise levels of a trajectory; as above."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", "--run", metavar="DIR", help="Killed, a run continues there."),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch --sd where it is not here.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ... or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """What a paper claims of trained models, beside what is measured; shipped ones stand in."""
    terminal.use_float64()
    from gmm_speciation.reporting.paper_pages import finish_paper, show_plan
    from model_bridges.papers import PAPERS, Settings
    from model_bridges.papers.selections import one_a_family

    terminal.check_place(out, folder)
    chosen = pick(name, PAPERS, "paper")
    if (edm2 or sd) and name != "handke2026":
        raise ValueError(f"--edm2 and --sd belong to handke2026; give {name} a --model.")
    if model is not None and name == "handke2026":
        raise ValueError("handke2026 takes --edm2 and --sd; --model belongs to the other papers.")
    if model is None and (data or train_data):
        raise ValueError("--data and --train-data belong to --model; give one.")
    study = Study(
        model=model or "",
        data=data,
        train_data=train_data,
        fetch=fetch,
        folder=folder,
        device=device,
        dtype=dtype,
        seed=seed,
        quiet=quiet,
    )
    with terminal.progress(quiet=quiet) as bar:
        bar.step("loading the models")
        subjects = _subjects(name, study, edm2, sd, bar.say)
        if quick and samples is None:
            subjects = [replace(one, pairs=one_a_family(one.pairs)) for one in subjects]
        settings = Settings(quick, seed, folder, samples, levels, bar)
        if not plan:
            found = chosen.run(subjects, settings)
    if plan:
        costs = chosen.plan(subjects, settings)
        rows = [(one.part, f"{one.evaluations:,}", _time(one)) for one in costs]
        headers = ("part", "evaluations of the network", "one processor, about")
        show_plan(chosen.title, headers, rows, quiet)
        return
    arguments = {"paper": name, "models": [one.name for one in subjects], "quick": quick}
    arguments |= {"samples": samples, "levels": levels, "device": device, "dtype": dtype}
    finish_paper(
        f"{chosen.title} ({chosen.reference})",
        f"{chosen.about} {chosen.scale(subjects, settings)}",
        found.rows,
        lambda: {key: (draw(), words) for key, (draw, words) in found.pictures.items()},
        terminal.stamp(seed, arguments, PACKAGES),
        quick=quick,
        out=out,
        quiet=quiet,
    )


def _time(cost: Any) -> str:
    """Seconds of a shipped model; of another one only its evaluations are known."""
    each = _SECONDS.get(cost.part.partition(":")[0])
    return "" if each is None else f"{cost.evaluations * each:.0f} s"


def _subjects(
    paper: str, study: Study, edm2: str | None, sd: str | None, say: Any
) -> list["Subject"]:
    """The models of a paper with their decisions; the shipped ones where none was given."""
    from model_bridges.models import SHIPPED
    from model_bridges.models import study as open_model
    from model_bridges.papers import Subject
    from model_bridges.papers.selections import choices, one_a_family, prompts

    placed: dict[str, Any] = {"device": study.device, "dtype": study.dtype, "say": say}
    if edm2 or sd:
        found = []
        if edm2:
            opened = open_model(f"edm2:{edm2}", **placed)
            pairs, groups = choices("imagenet"), choices("imagenet groups")
            found.append(Subject("EDM2-XS", opened, pairs, groups, "handke2026-edm2"))
        if sd:
            fetch: dict[str, Any] = {"fetch": True} if study.fetch else {}
            opened = open_model(f"sd:{sd}", prompts=prompts(), **placed, **fetch)
            found.append(Subject("SD 1.5", opened, choices("prompts"), (), "handke2026-sd15"))
        return found
    names = (study.model,) if study.model else STAND_INS[paper]
    read: dict[str, Any] = {
        "data": study.data,
        "train_data": study.train_data,
        "split": study.data is not None,
    }
    found = []
    for name in names:
        opened = open_model(name, **placed, **read)
        pairs = choices("digits") if name in SHIPPED else []
        found.append(Subject(name, opened, pairs if name == "digits" else one_a_family(pairs)))
    return found
