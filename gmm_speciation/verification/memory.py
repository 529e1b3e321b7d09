"""Modern Hopfield networks: critical temperatures, and retrieval as denoising."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from gmm_speciation import families, hopfield
from gmm_speciation.inference import denoiser
from gmm_speciation.verification.claims import Claim, measured


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """Critical temperatures and the retrieval step; nothing here is random."""
    found = []
    for num_patterns in (3, 10):
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
                Claim(
                    f"Hopfield, N = {num_patterns}: {name.replace('_', ' ')} at β_eff",
                    "mean-field Potts model; Ramsauer et al. 2021",
                    "minimum of the energy followed over β",
                    float(getattr(predicted, name)),
                    *measured(value, 1e-3),
                )
            )
    rng = np.random.default_rng(2)
    patterns = rng.normal(size=(7, 5))
    patterns /= np.linalg.norm(patterns, axis=-1, keepdims=True)
    state, beta = rng.normal(size=5), 3.0
    step = hopfield.retrieve(patterns, state, beta, 1)
    mean = denoiser(families.empirical(patterns), jnp.asarray(state), 1.0, beta**-0.5)
    found.append(
        Claim(
            "one retrieval step is the denoiser at σ² = 1/β: largest difference",
            "Ramsauer et al. 2021; Tweedie's formula",
            "both on seven random unit patterns",
            0.0,
            *measured(np.max(np.abs(np.asarray(step) - np.asarray(mean))), 1e-12),
        )
    )
    return found
