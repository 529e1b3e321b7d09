"""`gmm-speciation verify`: each claim of the theory, predicted and measured on another path."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmm_speciation.cli.options import app
from gmm_speciation.lookup import pick
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.terminal import Out, Quiet, Seed

if TYPE_CHECKING:
    from gmm_speciation.reporting.claims import Claim

_HEADERS = ["claim", "predicted", "tolerance", "measured", "tells apart", "holds"]
_LEGEND = (
    "A claim holds (yes) where the whole interval lies within the "
    "tolerance of the prediction, fails (no) where it lies wholly outside, and is open otherwise. "
    "Tells apart: the relative error of the prediction from which on it cannot be called yes."
)


@app.command(
    examples="""
gmm-speciation verify  # two minutes
gmm-speciation verify --section pairs --out out/pairs
gmm-speciation verify --guidance
"""
)
def verify(
    section: Annotated[
        str | None,
        typer.Option(
            help="identities, pairs, many, memory, asymptotics, published or guidance; "
            "all but guidance by default."
        ),
    ] = None,
    guidance: Annotated[
        bool, typer.Option("--guidance", help="The same as --section guidance.")
    ] = False,
    num_samples: Annotated[
        int, typer.Option(min=512, help="Draws of X where a claim is sampled.")
    ] = 8192,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Check the theory: claim, predicted, measured, verdict. Exit code 1 if one is not as expected."""
    terminal.use_float64()
    import jax

    from gmm_speciation.reporting.claims import Verdict, claim_record
    from gmm_speciation.reporting.tables import PLUS_MINUS, Table
    from gmm_speciation.verification import SECTIONS

    terminal.check_place(out)
    chosen = {name: one for name, one in SECTIONS.items() if name != "guidance"}
    if guidance and section not in (None, "guidance"):
        raise ValueError(f"--guidance is --section guidance; got --section {section}, too.")
    section = "guidance" if guidance else section
    if section is not None:
        chosen = {section: pick(section, SECTIONS, "section")}
    key = jax.random.key(seed)
    found: dict[str, list[Claim]] = {}
    studies: dict[str, Any] = {}
    with terminal.progress(len(chosen), quiet) as steps:
        for name, one in chosen.items():
            steps.step(one.title)
            key_section = jax.random.fold_in(key, list(SECTIONS).index(name))
            found[one.title], studies[name] = one.check(key_section, num_samples)
    every = [claim for claims in found.values() for claim in claims]
    counts = {one: sum(claim.verdict == one for claim in every) for one in Verdict}
    unexpected = [claim for claim in every if not claim.as_expected]
    tables = {
        # The tolerance is in the report: the words of a claim need the room.
        name: Table(_HEADERS, [_row(one) for one in claims]).columns(0, 1, 3, 4, 5)
        for name, claims in found.items()
    }
    verdict = f"{counts[Verdict.YES]} of {len(every)} claims hold"
    known = sum(claim.as_expected and claim.verdict == Verdict.NO for claim in every)
    if known:
        verdict += f"; {known} published ones are known not to, and stay"
    if counts[Verdict.OPEN]:
        verdict += f"; {counts[Verdict.OPEN]} are open: more --num-samples may decide them"
    note = f"{PLUS_MINUS} {_LEGEND}\n{verdict}"
    note += (
        "; not as expected: " + "; ".join(c.statement for c in unexpected) if unexpected else "."
    )

    def write() -> tuple[Any, dict[str, Any]]:
        from gmm_speciation.cli.pictures import section_pictures
        from gmm_speciation.reporting.report import Report

        report = Report("Claims of the theory, checked").text(
            f"{verdict}. {PLUS_MINUS} {_LEGEND} The measured side never uses the formula it checks."
        )
        for name, (title, claims) in zip(chosen, found.items(), strict=True):
            headers = [*_HEADERS, "measured by", "source"]
            rows = [[*_row(one), one.how, one.source] for one in claims]
            report.text(f"## {title}").table(headers, rows)
            for file, (figure, caption) in section_pictures(name, studies[name]).items():
                report.figure(figure, file, caption)
        result = {
            "provenance": terminal.stamp(seed, {"num_samples": num_samples}),
            "claims": [claim_record(one) for one in every],
        }
        return report, result

    terminal.finish(tables, write, out, quiet, note=note)
    if unexpected:
        raise typer.Exit(1)


def _row(claim: "Claim") -> list[str]:
    from gmm_speciation.reporting.claims import predicted_words

    apart = claim.tells_apart
    return [
        claim.statement,
        predicted_words(claim),
        f"{claim.tolerance:.2g}" if claim.tolerance else "—",
        format(claim.measured),
        "a bound" if apart is None else f"{100 * apart:.2g} %",
        claim.verdict if claim.as_expected else f"{claim.verdict.upper()}, not as expected",
    ]
