"""`gmm-speciation paper`: the claims of one paper as rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gmm_speciation.cli.options import app
from gmm_speciation.lookup import pick
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.terminal import Out, Quiet, Seed

QuickOption = Annotated[
    bool, typer.Option("--quick", help="Small: minutes, wide intervals, open verdicts.")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what it would cost, and do nothing.")]


@app.command(
    examples="""
gmm-speciation paper koulischer2023 --out out/koulischer2023
gmm-speciation paper biroli2024 --plan
gmm-speciation paper koulischer2023 --patterns images.npy
"""
)
def paper(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="biroli2024, handke2026, koulischer2023 or wu2024."),
    ],
    quick: QuickOption = False,
    plan: PlanOption = False,
    num_samples: Annotated[
        int | None,
        typer.Option(min=512, help="Draws where a claim is sampled; 8192, 1024 if quick."),
    ] = None,
    patterns: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="koulischer2023: a .npy (N, d) of patterns of yours."),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """What a paper claims, beside what is measured: one row a claim, also where it does not hold."""
    terminal.use_float64()
    import jax

    from gmm_speciation.papers import PAPERS, Settings
    from gmm_speciation.reporting.paper_pages import finish_paper, show_plan

    terminal.check_place(out)
    chosen = pick(name, PAPERS, "paper")
    if patterns is not None and name != "koulischer2023":
        raise ValueError(f"--patterns belongs to koulischer2023; got the paper {name}.")
    if plan:
        costs = [(part.name, f"{part.seconds[not quick]} s") for part in chosen.parts]
        total = sum(part.seconds[not quick] for part in chosen.parts)
        show_plan(
            chosen.title, ("part", "one processor, about"), [*costs, ("all", f"{total} s")], quiet
        )
        return
    count = num_samples or (1024 if quick else 8192)
    settings = Settings(jax.random.key(seed), count, quick, patterns)
    rows: list[Any] = []
    studies: dict[str, Any] = {}
    with terminal.progress(len(chosen.parts), quiet) as steps:
        for part in chosen.parts:
            steps.step(part.name)
            found = part.run(settings)
            rows += found.rows
            studies |= found.studies

    def pictures() -> Any:
        from gmm_speciation.cli.pictures import study_pictures

        return {k: v for one in studies.items() for k, v in study_pictures(*one).items()}

    arguments = {"paper": name, "quick": quick, "num_samples": count, "patterns": patterns}
    finish_paper(
        f"{chosen.title} ({chosen.reference})",
        chosen.about,
        rows,
        pictures,
        terminal.stamp(seed, arguments),
        quick=quick,
        out=out,
        quiet=quiet,
    )
