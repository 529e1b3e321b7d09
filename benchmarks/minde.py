"""What MINDE integrates, in parts: the true gap, the errors of its two outputs, and their products.

    python benchmarks/minde.py

With g = D_C - D of the exact denoisers and the errors e_c, e_u of the network's output with the label and
without it, MINDE integrates

    (gamma / 2) |g + e_c - e_u|^2
        = (gamma / 2) (|g|^2 + |e_c|^2 + |e_u|^2 - 2 e_c . e_u + 2 g . (e_c - e_u)).

Networks, states and noise are those of the benchmark, n = 256, seed 0. `boards.py` shows what is stored in
`results/minde.json`.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import typer

from gmm_speciation.benchmark.cells import task_of
from gmm_speciation.benchmark.worker import levels_of
from gmm_speciation.estimators.base import Access, Problem
from gmm_speciation.estimators.learned import MINDE
from gmm_speciation.estimators.path_integral import integrate
from gmm_speciation.estimators.paths import in_batches, noisy_end, path_levels
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reporting import terminal

HERE = Path(__file__).parent
PARTS = ("true gap", "conditional", "unconditional", "conditional × unconditional", "gap × errors")
TASKS = (
    "pair-d16",
    "pair-w0.9",
    "equidistant-k4",
    "tree4-level2",
    "equal-means",
    "diagonal",
    "moons-d64",
    "xor-d16",
    "heavy-d1",
)
app = typer.Typer(name="minde", add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Gets the parts.")] = HERE / "results" / "minde.json",
    task: Annotated[list[str], typer.Option(help="Of these tasks.")] = list(TASKS),  # noqa: B006
    num_samples: Annotated[int, typer.Option(min=8)] = 256,
) -> None:
    """Train MINDE's networks and store its parts, nats up to the cleanest level over H(C), by task."""
    terminal.use_float64()
    found = {}
    for id in task:
        found[id] = parts_of(id, num_samples)
        print(id, {name: round(value, 4) for name, value in found[id].items()}, flush=True)
    content = {"provenance": terminal.stamp(0, {"num_samples": num_samples}), "parts": found}
    content["provenance"]["command"] = "python benchmarks/minde.py"
    out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def parts_of(id: str, num_samples: int) -> dict[str, float]:
    """`PARTS` of a task, whose sum is what MINDE says, as shares of H(C)."""
    task = task_of(id)
    law = task.law
    grid = levels_of(task)
    problem = Problem(law.mixture, law.classes, grid, num_samples, 0, Access.SCORES, id)
    levels, places = path_levels(problem.log_snr, noisy_end(problem))

    def paths(model, held, labels, key):
        noise = jax.random.normal(key, held.shape, held.dtype)

        def rates(x_0, labels, noise, index):
            return rates_of(model, problem.model, x_0, labels, noise, jnp.asarray(levels))

        return in_batches(rates, (held, jnp.asarray(labels), noise), 12 * problem.dim, axis=1)

    def gained(rates) -> float:
        entropy = integrate(rates, levels, places, problem.prior_entropy).entropy
        return 1 - float(entropy.value[0]) / problem.prior_entropy

    found = MINDE()._over_folds(problem, paths)
    return dict(zip(PARTS, map(gained, found), strict=True))


@eqx.filter_jit
def rates_of(model: Any, exact: Any, x_0, labels, noise, levels):
    """`PARTS` of every state at every level, `(S, n)` each."""

    def at(log_snr):
        alpha, sigma = (scale.astype(x_0.dtype) for scale in variance_preserving(log_snr))
        x = alpha * x_0 + sigma * noise
        own, overall = exact.own(x, log_snr, labels), exact.overall(x, log_snr)
        gap = own - overall
        with_label = model.own(x, log_snr, labels) - own
        without = model.overall(x, log_snr) - overall

        def product(a, b):
            return jnp.exp(log_snr) / 2 * jnp.sum(a * b, -1)

        return (
            product(gap, gap),
            product(with_label, with_label),
            product(without, without),
            -2 * product(with_label, without),
            2 * product(gap, with_label - without),
        )

    return jax.lax.map(at, levels)


if __name__ == "__main__":
    sys.exit(terminal.run(app))
