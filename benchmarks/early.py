"""Why networks reach half entropy early: their class denoisers mended by the exact ones.

    python benchmarks/early.py --dim 64 --dim 256 --dim 1024

Of two classes with one mean the network's D_0 and D_1 are replaced by

    M +- (D_0 - D_1) / 2r

with r(lambda) = E[(D_0 - D_1) . G] / E |G|^2 on states held out, G the exact gap (or r = 1), and M the middle
of the network's or of the exact denoisers. What is no longer early was the fault of the part mended. Printed
are r at the exact half-entropy point and t - t exact, with the standard error of the paths.
"""

import sys
from pathlib import Path
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import typer
from jaxtyping import Array, Float

from gmm_speciation.benchmark import log_law
from gmm_speciation.estimators.model import Denoisers, ExactDenoisers
from gmm_speciation.partitions import as_partition
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reporting import terminal

FAMILY, POINT = "equal means", "half entropy"
app = typer.Typer(name="early", add_completion=False, pretty_exceptions_enable=False)


class Mended(eqx.Module):
    """A network with its gap as long as the exact one, about its own or the exact middle."""

    network: Denoisers
    exact: Denoisers
    levels: Float[Array, " S"]
    ratio: Float[Array, " S"]
    own_middle: bool = eqx.field(static=True)

    def classes(self, x, log_snr):
        denoised = self.network.classes(x, log_snr)
        middle = denoised.mean(1, keepdims=True)
        gap = (denoised - middle) / jnp.interp(log_snr, self.levels, self.ratio)
        if not self.own_middle:
            middle = self.exact.classes(x.astype(float), log_snr).mean(1, keepdims=True)
        return (middle + gap).astype(x.dtype)


def ratios(network: Denoisers, exact: Denoisers, x_0: Float[Array, "n d"], levels: Array) -> Array:
    """r at each level."""

    def at(log_snr):
        alpha, sigma = variance_preserving(log_snr)
        x = alpha * x_0 + sigma * jax.random.normal(jax.random.key(1), x_0.shape)
        gap, own = (jnp.diff(of.classes(x, log_snr), axis=1) for of in (exact, network))
        return jnp.sum(gap * own) / jnp.sum(gap**2)

    return jax.jit(lambda of: jax.lax.map(at, of))(levels)


@app.command()
def main(
    dim: Annotated[list[int], typer.Option()],
    seed: int = 0,
    steps: int = 2000,
    samples: int = 4096,
    width: int = 32,
    cache: Annotated[Path, typer.Option(help="Weights of `log-law`.")] = Path(
        "out/log-law/trained"
    ),
) -> None:
    """Print how early every mended network is."""
    terminal.use_float64()
    settings = log_law.Settings(steps, width, samples)
    for d in dim:
        mixture = log_law.FAMILIES[FAMILY].mixture(d)
        network, held, log_prior = log_law.trained(mixture, seed, settings, cache)
        exact = ExactDenoisers(mixture, as_partition(None, 2))
        time = float(log_law.predictions(FAMILY, [d])[0][POINT].value)
        half = -np.log(np.expm1(2 * time))
        levels = jnp.linspace(half - 6, half + 2, 65)
        ratio = ratios(network, exact, held.astype(float), levels)
        one = jnp.ones_like(ratio)
        print(f"d = {d}: r = {jnp.interp(half, levels, ratio):.2f}")
        for name, model in {
            "network": network,
            "gap": Mended(network, exact, levels, ratio, True),
            "middle": Mended(network, exact, levels, one, False),
            "both": Mended(network, exact, levels, ratio, False),
        }.items():
            found = log_law.points_of(model, held, log_prior, seed)[POINT]
            print(
                f"  {name:8}{float(found.value) - time:+.4f} ± {float(found.stderr):.4f}",
                flush=True,
            )
        found = log_law.points_of(exact, held.astype(float), log_prior.astype(float), seed)[POINT]
        print(
            f"  {'exact':8}{float(found.value) - time:+.4f} ± {float(found.stderr):.4f}", flush=True
        )


if __name__ == "__main__":
    sys.exit(terminal.run(app))
