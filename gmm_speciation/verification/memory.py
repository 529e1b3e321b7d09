"""Modern Hopfield networks: critical temperatures, and retrieval as denoising."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from gmm_speciation import families, hopfield
from gmm_speciation.inference import denoiser
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.verification.rows import row


def critical_claims(counts: Sequence[int]) -> list[Claim]:
    """The three critical temperatures for these numbers of equidistant patterns."""
    found = []
    for num_patterns in counts:
        predicted = hopfield.critical_betas(num_patterns)
        network = hopfield.Network(hopfield.equidistant_patterns(num_patterns, num_patterns))
        tracked = network.pattern(0)
        for name, value in (
            ("appearance", tracked.betas.appearance),
            ("equal_energy", tracked.betas.equal_energy),
            ("stability", tracked.betas.stability),
        ):
            assert value is not None  # equidistant patterns have all three
            found.append(
                row(
                    f"Hopfield, N = {num_patterns}: {name.replace('_', ' ')} at β_eff",
                    "mean-field Potts model; Ramsauer et al. 2021",
                    "minimum of the energy followed over β",
                    float(getattr(predicted, name)),
                    value,
                    tolerance=1e-3,
                )
            )
    return found


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """Critical temperatures and the retrieval step; nothing here is random."""
    rng = np.random.default_rng(2)
    patterns = rng.normal(size=(7, 5))
    patterns /= np.linalg.norm(patterns, axis=-1, keepdims=True)
    state, beta = rng.normal(size=5), 3.0
    step = np.asarray(hopfield.retrieve(patterns, state, beta, 1))
    mean = np.asarray(denoiser(families.empirical(patterns), jnp.asarray(state), 1.0, beta**-0.5))
    worst = int(np.argmax(np.abs(step - mean)))
    return [
        *critical_claims((3, 10)),
        *_potts(),
        row(
            "one retrieval step is the denoiser at σ² = 1/β: the coordinate that differs most",
            "Ramsauer et al. 2021; Tweedie's formula",
            "both on seven random unit patterns in five dimensions",
            float(mean[worst]),
            float(step[worst]),
            tolerance=1e-12,
        ),
    ]


def _potts() -> list[Claim]:
    """Published: the q-state Potts model on the complete graph, free energy by its own minimum.

    With shares `((1 + (q-1) m) / q, (1 - m) / q, ...)` of the q states the free energy is
    `sum_a n_a log n_a - (b / 2) sum_a n_a^2`.
    """

    def free_energy(q: int, m, b: float):
        first, other = (1 + (q - 1) * m) / q, (1 - m) / q
        mixing = first * np.log(first) + (q - 1) * other * np.log(other)
        return mixing - b / 2 * (first**2 + (q - 1) * other**2)

    m = np.linspace(1e-4, 1 - 1e-9, 200_001)
    found = []
    for q in (3, 4, 10):
        uniform = free_energy(q, 0.0, 0.0)
        # F(m) = F(0) at b, and F'(m) = 0 at b: both are straight in b, so each m has one b.
        gained = (free_energy(q, m, 0.0) - uniform) / ((q - 1) * m**2 / (2 * q))
        slope = np.gradient(free_energy(q, m, 0.0), m) / ((q - 1) * m / q)
        published = 2 * (q - 1) * np.log(q - 1) / (q - 2)
        found.append(
            row(
                f"mean-field Potts model, q = {q}: transition at 2(q−1)ln(q−1)/(q−2)",
                "Kihara, Midzuno & Shizume 1954; Wu 1982, Rev. Mod. Phys. 54:235",
                "smallest β at which an ordered state is as deep, by the entropy of the shares",
                published,
                float(gained.min()),
                tolerance=1e-5,
            )
        )
        found.append(
            row(
                f"mean-field Potts model, q = {q}: spinodal of the ordered state",
                "Cuff et al. 2012, J. Stat. Phys. 149:432, β_s(q) as the lowest β with two minima",
                "smallest β at which an ordered state is stationary, by the entropy of the shares",
                float(hopfield.critical_betas(q).appearance),  # type: ignore[arg-type]
                float(slope[2:-2].min()),
                tolerance=1e-5,
            )
        )
    return found
