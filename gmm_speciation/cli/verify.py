"""`gmm-speciation verify`: each claim of the theory, predicted and measured on another path."""

from typing import TYPE_CHECKING, Annotated, Any

from gmm_speciation import terminal

# isort: split
import typer

from gmm_speciation.cli.options import app, check_place, stamp
from gmm_speciation.terminal import Out, Quiet, Seed

if TYPE_CHECKING:
    from gmm_speciation.verification import Claim

_RELATIONS = {"equal": "", "at least": "≥ ", "at most": "≤ "}
_VERDICTS = {  # holds, expected to
    (True, True): "yes",
    (False, True): "NO",
    (False, False): "no",
    (True, False): "YES, unexpectedly",
}
_HEADERS = ["claim", "predicted", "measured", "± bar", "holds"]


@app.command()
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
    """Check the theory: claim, predicted, measured, error bar, verdict. Exit code 1 if one fails."""
    terminal.use_float64()
    import jax

    from gmm_speciation.verification import CONFIDENCE, SECTIONS

    check_place(out)
    chosen = {name: one for name, one in SECTIONS.items() if name != "guidance"}
    if guidance and section not in (None, "guidance"):
        raise ValueError(f"--guidance is --section guidance; got --section {section}, too.")
    section = "guidance" if guidance else section
    if section is not None:
        chosen = {section: terminal.pick(section, SECTIONS, "section")}
    key = jax.random.key(seed)
    found: dict[str, list[Claim]] = {}
    studies: dict[str, Any] = {}
    with terminal.progress(len(chosen), quiet) as steps:
        for name, one in chosen.items():
            steps.next(one.title)
            key_section = jax.random.fold_in(key, list(SECTIONS).index(name))
            found[one.title], studies[name] = one.check(key_section, num_samples)
    every = [claim for claims in found.values() for claim in claims]
    false = [claim for claim in every if not claim.holds]
    failed = [claim for claim in every if claim.holds != claim.expected]
    for name, claims in found.items():
        terminal.show(terminal.table(_HEADERS, [_row(one) for one in claims], title=name), quiet)
    verdict = f"{len(every) - len(false)} of {len(every)} claims hold"
    known = len([claim for claim in false if not claim.expected])
    if known:
        verdict += f"; {known} published ones are known not to, and stay"
    terminal.show(verdict + "." if not failed else verdict + "; not as expected: " + "; ".join(
        claim.statement for claim in failed
    ), quiet)  # fmt: skip
    if out is not None:
        from gmm_speciation.cli.pictures import section_pictures
        from gmm_speciation.reports import Report

        report = Report("Claims of the theory, checked").text(
            f"{verdict}. Error bars: {CONFIDENCE:.2%} intervals by Student's t, plus the numerical error "
            "of the measurement itself. The measured side never uses the formula it checks."
        )
        for name, (title, claims) in zip(chosen, found.items(), strict=True):
            headers = [*_HEADERS, "measured by", "source"]
            rows = [[*_row(one), one.how, one.source] for one in claims]
            report.text(f"## {title}").table(headers, rows)
            for file, (figure, caption) in section_pictures(name, studies[name]).items():
                report.figure(figure, file, caption)
        result = {
            "provenance": stamp(seed, {"num_samples": num_samples}),
            "claims": [
                {
                    "claim": one.statement,
                    "source": one.source,
                    "measured_by": one.how,
                    "predicted": one.predicted,
                    "measured": one.measured,
                    "error_bar": one.error_bar,
                    "holds": one.holds,
                    "relation": one.relation,
                    "expected": one.expected,
                }
                for one in every
            ],
        }
        terminal.show(f"Report: {report.write(out, result)}", quiet)
    if failed:
        raise typer.Exit(1)


def _row(claim: "Claim") -> list[str]:
    digits = 6
    return [
        claim.statement,
        f"{_RELATIONS[claim.relation]}{claim.predicted:.{digits}g}",
        f"{float(claim.measured.value):.{digits}g}",
        f"{claim.error_bar:.2g}",
        _VERDICTS[claim.holds, claim.expected],
    ]
