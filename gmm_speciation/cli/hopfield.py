"""`gmm-speciation hopfield`: transitions of a modern Hopfield network, predicted and measured."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gmm_speciation.cli.options import app
from gmm_speciation.lookup import pick
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.terminal import Out, Quiet, Seed

if TYPE_CHECKING:
    import numpy as np

    from gmm_speciation.hopfield import EntropicTransitions, PatternBifurcations

_DEFAULTS = {"equidistant": 0, "random": 64, "digits": 64}  # dimension; 0 stands for N


class _Patterns(NamedTuple):
    rows: "np.ndarray"
    words: str  # what they are
    alike: bool  # one stands for all


@app.command(
    examples="""
gmm-speciation hopfield --num-patterns 10
gmm-speciation hopfield --kind digits --num-patterns 20 --out out/digits
gmm-speciation hopfield --patterns stored.npy --track 5
"""
)
def hopfield(
    num_patterns: Annotated[
        int | None, typer.Option(help="How many patterns N; 10 by default.")
    ] = None,
    dim: Annotated[
        int | None, typer.Option(help="Their dimension; N by default, 64 if random.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="equidistant (by default), random or digits; of unit norm.")
    ] = None,
    patterns: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .npy (N, d), or a .npz with such `patterns`."),
    ] = None,
    track: Annotated[
        int, typer.Option(min=1, help="How many of them to follow; one if equidistant.")
    ] = 10,
    num_samples: Annotated[
        int, typer.Option(min=32, help="Draws of X where entropy is sampled.")
    ] = 4096,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Where the energy of stored patterns bifurcates, beside the entropy of diffusion."""
    terminal.use_float64()
    import jax

    from gmm_speciation import hopfield as networks
    from gmm_speciation.reporting.tables import PLUS_MINUS, Table

    terminal.check_place(out)
    stored = _patterns(patterns, kind, num_patterns, dim, seed)
    count = len(stored.rows)
    tracked = 1 if stored.alike else min(track, count)
    network = networks.Network(stored.rows)
    found = []
    with terminal.progress(3, quiet) as steps:
        steps.step("branches of minima")
        for index in range(tracked):
            found.append(network.pattern(index))
            steps.part(index + 1, tracked)
        steps.step("entropy, equidistant")
        ideal = networks.equidistant_transitions(count)
        steps.step("entropy, patterns")
        key = jax.random.key(seed)
        actual = networks.pattern_transitions(stored.rows, num_samples=num_samples, key=key)
    critical = networks.critical_betas(count)
    predicted = {**vars(critical), **_entropic(ideal)}
    measured = {**_tracked(found, network.stability), **_entropic(actual)}
    predicted, measured = (
        {name.replace("_", " "): value for name, value in values.items()}
        for values in (predicted, measured)
    )
    headers = ["β_eff", "equidistant", "measured"]
    table = [[name, _shown(predicted[name]), _shown(measured[name])] for name in predicted]
    if tracked > 1:
        headers.append(f"of {tracked} patterns")
        many = {name: str(len(v)) for name, v in measured.items() if isinstance(v, list)}
        table = [[*row, many.get(row[0], "")] for row in table]
    title = f"Transitions of {stored.words}"

    def write() -> tuple[Any, dict[str, Any]]:
        from gmm_speciation import plotting
        from gmm_speciation.reporting.report import Report

        scale = float(networks.mean_squared_distance(stored.rows))
        report = Report(title).text(
            f"{count} patterns in {stored.rows.shape[1]} dimensions, mean squared distance δ² = "
            f"{scale:.6g}; β_eff = βδ²/2. {_tracked_words(stored.alike, tracked, count)}"
        )
        report.table(headers, table).text(PLUS_MINUS)
        report.figure(
            plotting.plot_bifurcations(found, critical, network.largest),
            "bifurcations",
            "Overlap of the followed fixed points with their pattern: minima of the energy solid, "
            "saddles dashed. Vertical lines: critical values of equidistant patterns.",
        )
        report.text("## One axis for the energy and for diffusion").figure(
            plotting.plot_transitions(predicted, measured, ideal, actual),
            "transitions",
            "Above, the share of log N that the noisy state leaves open about its pattern; below, every "
            "transition. Dotted lines: the critical values of equidistant patterns, for which stability is "
            "the spectral point.",
        )
        arguments = {
            "patterns": patterns or kind or "equidistant",
            "num_patterns": count,
            "dim": stored.rows.shape[1],
            "tracked": tracked,
            "num_samples": num_samples,
        }
        result = {
            "provenance": terminal.stamp(seed, arguments),
            "mean_squared_distance": scale,
            "predicted": predicted,
            "measured": measured,
            "bifurcations": found,
            "curves": {"equidistant": ideal.curve, "patterns": actual.curve},
        }
        return report, result

    terminal.finish({title: Table(headers, table)}, write, out, quiet, note=PLUS_MINUS)


def _patterns(
    file: Path | None, kind: str | None, num_patterns: int | None, dim: int | None, seed: int
) -> _Patterns:
    from gmm_speciation import hopfield as networks

    if file is not None:
        if (kind, num_patterns, dim) != (None, None, None):
            raise ValueError(
                "Give `--patterns` or `--kind`, `--num-patterns`, `--dim`, not both: a file "
                "says how many there are."
            )
        rows = networks.load_patterns(file)
        return _Patterns(rows, f"{len(rows)} patterns of {file.name}", False)
    kind = "equidistant" if kind is None else kind
    count = 10 if num_patterns is None else num_patterns
    usual = pick(kind, _DEFAULTS, "kind")
    width = dim if dim is not None else usual or count
    words = f"{count} {kind.removesuffix('s')} patterns"
    if kind == "equidistant":
        # In N - 1 dimensions only the simplex around the origin fits.
        lowest = -1 / max(count - 1, 1) if width == count - 1 else 0.0
        return _Patterns(networks.equidistant_patterns(count, width, lowest), words, True)
    if kind == "random":
        return _Patterns(networks.random_patterns(count, width, seed), words, False)
    if width != _DEFAULTS["digits"]:
        raise ValueError(f"Digit patterns have 64 dimensions; got --dim {dim}.")
    return _Patterns(networks.digit_patterns(count, seed), words, False)


def _tracked(
    found: "Sequence[PatternBifurcations]", stability: float | None
) -> dict[str, float | list[float] | None]:
    """The measured critical values: one number where one pattern was followed, else all that exist."""

    def values(field: str) -> float | list[float] | None:
        each = [value for one in found if (value := getattr(one.betas, field)) is not None]
        return (each[0] if each else None) if len(found) == 1 else each

    return {
        "appearance": values("appearance"),
        "equal_energy": values("equal_energy"),
        "stability": stability,
    }


def _entropic(found: "EntropicTransitions") -> dict[str, Any]:
    return {
        "spectral": found.spectral,
        "half entropy": found.half_entropy,
        "entropic peak": found.peak,
        "collapse, 1 % left": found.collapse,
    }


def _shown(value: Any) -> str:
    from gmm_speciation.reporting.records import format_estimate

    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        ends = min(value), max(value)
        return f"{statistics.median(value):.4g} ({ends[0]:.4g} … {ends[1]:.4g})"
    return format_estimate(value, 6)


def _tracked_words(alike: bool, tracked: int, count: int) -> str:
    if alike:
        return "All patterns are alike; one was followed."
    return (
        f"{tracked} of {count} patterns were followed: the table gives the median, the range and "
        "how many of them have such a transition. β_eff is exact for equidistant patterns and a definition "
        "for these."
    )
