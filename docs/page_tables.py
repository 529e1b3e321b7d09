"""Tables of the pages, from the results that are stored."""

import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gmm_speciation.shares import Share, error_words

DOCS = Path(__file__).parent


class Paper(NamedTuple):
    """What a paper claims here, where its page is, and the words by which rows name it."""

    title: str
    page: str
    claim: str
    command: str
    words: tuple[str, ...]


THEORY = "gmm-speciation verify"
GUIDED = f"{THEORY} --guidance"
PAPERS = (
    Paper(
        "Biroli et al. 2024",
        "biroli2024",
        "speciation at t_S = ½ log Λ, clones part there; collapse",
        THEORY,
        ("Biroli et al. 2024",),
    ),
    Paper(
        "Raya & Ambrogioni 2023",
        "raya2023",
        "the fixed point of the drift loses its stability",
        THEORY,
        ("Raya & Ambrogioni 2023",),
    ),
    Paper(
        "Handke et al. 2025, 2026",
        "handke2026",
        "the entropy rate peaks on the logarithmic time scale of speciation",
        GUIDED,
        ("Handke et al. 2025", "Handke et al. 2026"),
    ),
    Paper(
        "Achilli et al. 2026",
        "achilli2026",
        "classes of equal means: t_S = ¼ log(d Δv²/8)",
        THEORY,
        ("Achilli et al. 2026",),
    ),
    Paper(
        "Sclocchi et al. 2025",
        "sclocchi2025",
        "levels of a hierarchy are decided one after the other",
        THEORY,
        ("Sclocchi et al. 2025",),
    ),
    Paper(
        "Guo, Shamai & Verdú 2005",
        "guo2005",
        "the rate of information is half the error of the denoiser",
        THEORY,
        ("Guo, Shamai & Verdú 2005",),
    ),
    Paper(
        "Ramsauer et al. 2021",
        "ramsauer2021",
        "retrieval of a Hopfield network is a denoising step",
        THEORY,
        ("Ramsauer et al. 2021",),
    ),
    Paper(
        "Koulischer et al. 2025",
        "koulischer2025",
        "dynamic negative guidance removes a class, a constant scale does not",
        GUIDED,
        ("Koulischer et al. 2025",),
    ),
    Paper(
        "Kynkäänniemi et al. 2024",
        "kynkaanniemi2024",
        "guidance pays inside an interval of noise alone",
        GUIDED,
        ("Kynkäänniemi et al. 2024",),
    ),
    Paper(
        "Wu et al. 2024",
        "wu2024",
        "what strong guidance does to confidence and spread",
        GUIDED,
        ("Wu et al. 2024",),
    ),
    Paper(
        "Stančević et al. 2025",
        "stancevic2025",
        "sampler steps equally spaced in entropy",
        GUIDED,
        ("Stančević et al. 2025",),
    ),
)


def make(name: str) -> str:
    """The table of this name, Markdown without a last newline."""
    kind, _, argument = name.partition(":")
    return TABLES[kind](argument)


def claims_of(paper: Paper) -> list[dict]:
    """Rows of `verify` whose source names the paper."""
    stored = json.loads((DOCS / "results" / "claims.json").read_text(encoding="utf-8"))
    return [one for one in stored["claims"] if any(word in one["source"] for word in paper.words)]


def _papers(where: str) -> str:
    rows = []
    for paper in PAPERS:
        page = f"docs/papers/{paper.page}.md" if where == "readme" else f"{paper.page}.md"
        verdicts = [one["verdict"] for one in claims_of(paper)]
        counts = [f"{verdicts.count(v)} {v}" for v in ("yes", "no", "open") if v in verdicts]
        command = paper.command.removeprefix("gmm-speciation ")
        rows.append([f"[{paper.title}]({page})", paper.claim, f"`{command}`", ", ".join(counts)])
    return _markdown(["paper", "claim", "`gmm-speciation …`", "verdict"], rows)


def _paper(page: str) -> str:
    (paper,) = (one for one in PAPERS if one.page == page)
    rows = []
    for one in claims_of(paper):
        predicted, measured, tolerance = _numbers(one)
        rows.append([one["claim"], predicted, measured, tolerance, _verdict(one)])
    return _markdown(["claim", "predicted", "measured, ± 95 %", "tolerance", "holds"], rows)


def _numbers(claim: dict) -> tuple[str, str, str]:
    """Predicted, measured and tolerance in words."""
    relation = {"equal": "", "at least": "≥ ", "at most": "≤ "}[claim["relation"]]
    ends = (np.nan if end is None else float(end) for end in claim["measured"]["interval_95"])
    value, (low, high) = claim["measured"]["value"], ends
    measured = "not defined" if value is None else f"{value:.6g}"
    if value is not None and high > low:
        error = error_words(value, low, high, ".2g")
        if error.startswith("("):  # ends are told apart by the digits of the width
            digits = max(0, 1 - math.floor(math.log10((high - low) / 2)))
            error = error_words(value, low, high, f".{digits}f")
        measured += f" {error}"
    return f"{relation}{claim['predicted']:.6g}", measured, f"{claim['tolerance']:.2g}"


def _verdict(claim: dict) -> str:
    return claim["verdict"] + (", as is known" if claim["expected"] == "no" else "")


def runs() -> dict[str, dict]:
    """Stored runs of `paper`, by file name."""
    folder = DOCS.parent / "benchmarks" / "results" / "papers"
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def _runs(_: str) -> str:
    rows = []
    for content in runs().values():
        verdicts = [one["verdict"] for one in content["claims"]]
        counts = [f"{verdicts.count(v)} {v}" for v in ("yes", "no", "open") if v in verdicts]
        rows.append([content["title"], f"`{content['provenance']['command']}`", ", ".join(counts)])
    return _markdown(["paper", "command", "verdict"], rows)


def _run(name: str) -> str:
    """One stored run: its rows, those of `verify` for the page of its name, what does not hold, its pictures.

    A claim of both is one row, that of the run; another verdict in `verify` is said in it.
    """
    content = runs()[name]
    page = [paper for paper in PAPERS if paper.page == name]
    verified = {one["claim"]: one for paper in page for one in claims_of(paper)}
    own = {one["claim"] for one in content["claims"]}
    alone = [
        one | {"where": one["source"], "predicted_by": "theory", "note": "", "figure": ""}
        for claim, one in verified.items()
        if claim not in own
    ]
    claims, rows, failed = [*content["claims"], *alone], [], []
    for one in claims:
        predicted, measured, tolerance = _numbers(one)
        verdict, again = _verdict(one), _verdict(verified.get(one["claim"], one))
        if again != verdict:
            verdict += f"; `verify`: {again}"
        row = [one["claim"], one["where"], predicted, one["predicted_by"], measured, tolerance]
        rows.append([*row, verdict])
        if one["verdict"] == "no":
            failed.append(f"- {one['claim']}" + (f": {one['note']}" if one["note"] else ""))
    headers = [
        "claim",
        "where",
        "predicted",
        "predicted by",
        "measured, ± 95 %",
        "tolerance",
        "holds",
    ]
    origin = content["provenance"]
    parts = [f"`{origin['command']}`, {origin['date'][:10]}. {content['about']}"]
    for paper in page:
        if shared := len(verified) - len(alone):
            parts.append(f"{shared} rows are rows of `{paper.command}`, too, which draws anew.")
        if alone:
            parts.append(f"The last {len(alone)} rows are those of `{paper.command}` alone.")
    parts.append(_markdown(headers, rows))
    if failed:
        parts.append("What does not hold:\n\n" + "\n".join(failed))
    pictures = dict.fromkeys(one["figure"] for one in claims)
    where = DOCS / "pictures" / "papers"
    parts += [
        f"![{figure}](../pictures/papers/{figure}.png)"
        for figure in pictures
        if figure and (where / f"{figure}.png").exists()
    ]
    return "\n\n".join(parts)


def _overhead(_: str) -> str:
    results = DOCS.parent / "benchmarks" / "results"
    return "\n\n".join(map(_overhead_on, sorted(results.glob("overhead-*.json"))))


def _overhead_on(path: Path) -> str:
    """What stands beside the network on one device."""
    content = json.loads(path.read_text(encoding="utf-8"))
    stamp = content["stamp"]
    rows = [
        [
            f"{row['classes']:,}",
            row["work"],
            f"{1e3 * row['seconds_beside_an_evaluation']:.2f} ms",
            f"{100 * row['overhead']:.2g} %",
            f"{1e3 * row.get('seconds_an_image_and_level', math.nan):.1f} ms".replace("nan ms", ""),
            f"{row['peak_mb'] - stamp['bare_peak_mb']:,.0f} MB",
        ]
        for row in content["rows"]
    ]
    headers = ["K", "estimator", "beside an evaluation", "of a bare one", "an image and level"]
    bare, threads = stamp["bare_evaluations_a_second"], stamp["threads"]
    return (
        f"**{stamp['device']}**, {stamp['date']}; torch {stamp['torch']}, {threads} "
        f"thread{'s' * (threads > 1)}: the bare network does {bare:,.{0 if bare > 100 else 2}f} evaluations "
        f"a second in batches of {stamp['settings']['batch']}, in {stamp['bare_peak_mb']:,.0f} MB.\n\n"
        + _markdown([*headers, "memory above bare"], rows)
    )


def _mnist(part: str) -> str:
    """A third-party network on MNIST: against the fitted mixture, and with a class removed."""
    results = DOCS.parent / "benchmarks" / "results"
    content = json.loads((results / "mnist-cpu.json").read_text(encoding="utf-8"))
    points, pairs, trees = content["points"], content["pairs"], content["trees"]
    checks = {check["claim"]: check for check in content["checks"]}
    if part == "checks":
        return _checks(content["checks"])
    if part.startswith("removal"):
        removal = json.loads((results / "mnist-removal-cpu.json").read_text(encoding="utf-8"))
        if part == "removal-checks":
            return _checks(removal["checks"])
        runs = [("unguided", removal["unguided"])]
        runs += [
            (f"{k}, {r['strength']:g}", r) for k, kind in removal["kinds"].items() for r in kind
        ]
        headers = [
            "",
            f"images of class {removal['removed']}",
            "balance KL, nats",
            "Fréchet distance",
        ]
        return _markdown(
            headers,
            [
                [
                    name,
                    f"{Share.counted(run['removed_share']['value'], removal['num_images']):.3f}",
                    *(_estimate(run[measure]) for measure in ("balance", "frechet")),
                ]
                for name, run in runs
            ],
        )
    if part == "made":
        stamp = content["stamp"]
        spent = [one["processor_seconds"] / 60 for one in (stamp["training"], stamp)]
        checked = f"{content['law']}, {content['evaluations']:,} evaluations"
        return (
            f"{content['model']} on {stamp['training']['images']:,} images, {spent[0]:.0f} processor "
            f"minutes; checked on {checked}, {spent[1]:.0f} processor minutes; {stamp['date'][:10]}, torch "
            f"{stamp['versions']['torch']}."
        )
    if part == "pairs":
        against = {"the fitted mixture": "", "the spectral law": "spectral_"}
        rows = [
            [name, *(_estimate(pairs[key + one]) for one in ("slope", "residual", "correlation"))]
            for name, key in against.items()
        ]
        return _markdown(["against", "slope", "rms difference of λ", "correlation"], rows)
    if part == "points":
        rows = []
        for name in dict.fromkeys(name.rpartition(", ")[0] for name in points):
            sides = (points[f"{name}, {side}"] for side in ("theory", "model"))
            rows.append([name, *(_sigma(point) or f"— {point['reason']}" for point in sides)])
        return _markdown(["criterion", "σ, fitted mixture", "σ, network"], rows)
    peaks, halves = (
        [_sigma(points[f"{name}, {side}"]) for side in ("model", "theory")]
        for name in ("entropic peak", "half entropy")
    )
    own, fitted = (_forks(trees[side]) for side in ("model", "theory"))
    much = next(
        one["measured"] for claim, one in checks.items() if "unconditional form: int" in claim
    )
    refused = "" if content["trust"]["class"]["ok"] else " and its trust block says *no*"
    said = f"""
        On MNIST a `UNet2DModel` of diffusers and a mixture fitted to the images peak at σ = {peaks[0]} and
        {peaks[1]}, have half of H at {halves[0]} and {halves[1]} and {len(own & fitted)} of {len(own)}
        forks of their trees in common. Half-entropy points of {len(pairs["a"])} pairs: slope
        {_estimate(pairs["slope"])}, correlation {_estimate(pairs["correlation"])} (by the means alone
        {_estimate(pairs["spectral_correlation"])}). Its unconditional branch claims {much:.1f} times the
        information{refused} ([more](docs/benchmarks/mnist.md)).
    """
    return textwrap.fill(" ".join(said.split()), 120, break_long_words=False)


def _sigma(point: Mapping[str, Any]) -> str:
    """A speciation point on the scale of the noise, with the half-width of its interval."""
    if point["log_snr"] is None:
        return ""
    value, (low, high) = point["log_snr"]["value"], point["log_snr"]["interval_95"]
    sigma = math.exp(-value / 2)
    return f"{sigma:.2f}" + (f" ± {sigma * (high - low) / 4:.2f}" if high > low else "")


def _checks(checks: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            one["claim"],
            one["expected"],
            f"{one['measured']:.3f} {_error(one)}".replace("-", "−"),
            one["verdict"],
        ]
        for one in checks
    ]
    return _markdown(["claim", "expected", "measured, ± 95 %", "holds"], rows)


def _error(check: Mapping[str, Any]) -> str:
    value, half = check["measured"], check["half_width"]
    ends = check.get("interval_95", (value - half, value + half))
    return error_words(value, *ends, ".3f")


def _estimate(one: Mapping[str, Any]) -> str:
    low, high = one["interval_95"]
    return f"{one['value']:.3g} ± {(high - low) / 2:.2g}"


def _forks(tree: Mapping[str, Any]) -> set[frozenset[int]]:
    """The classes below each fork, all of them left out."""
    below = [frozenset([leaf]) for leaf in tree["classes"]]
    for one, other in tree["merges"]:
        below.append(below[one] | below[other])
    return set(below[len(tree["classes"]) : -1])


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *([c.replace("|", "\\|") for c in r] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES: dict[str, Callable[[str], str]] = {
    "papers": _papers,
    "paper": _paper,
    "runs": _runs,
    "run": _run,
    "overhead": _overhead,
    "mnist": _mnist,
}
