"""Many classes, equal means, and collapse."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy.optimize import brentq

from gmm_speciation import exact, families
from gmm_speciation.entropy import class_entropy
from gmm_speciation.processes import OrnsteinUhlenbeck, variance_preserving
from gmm_speciation.speciation import curvature_point, excess_entropy, index_entropy
from gmm_speciation.verification.claims import Claim, averaged, measured


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """More than two classes, shells, memorisation."""
    return [
        *_equidistant(key, num_samples),
        _many_classes(),
        *_symmetric_point(),
        *_shells(key, num_samples),
        _collapse(key, num_samples),
    ]


def _equidistant(key, num_samples) -> list[Claim]:
    found = []
    for num_classes, s in ((4, 2.0), (10, 4.0), (1000, 8.0)):
        count = max(num_samples * 10 // num_classes, 256)
        key, key_class, key_noise = jax.random.split(key, 3)
        label = jax.random.randint(key_class, (count,), 0, num_classes)
        logits = np.sqrt(s) * jax.random.normal(key_noise, (count, num_classes))
        logits = logits + s * jax.nn.one_hot(label, num_classes)
        log_p = jax.nn.log_softmax(logits, -1)
        found.append(
            Claim(
                f"{num_classes} equidistant classes: H by two nested integrals, s = {s:g}",
                "orthogonal signalling in Gaussian noise",
                "posterior of draws in K dimensions",
                float(exact.equidistant_entropy(num_classes, s)),
                averaged(-jnp.sum(jnp.exp(log_p) * log_p, -1)),
            )
        )
    return found


def _many_classes() -> Claim:
    num_classes = 1e12
    log_k = np.log(num_classes)
    half = brentq(
        lambda s: float(exact.equidistant_entropy(num_classes, s)) - log_k / 2,
        0.5 * log_k, 2 * log_k, xtol=1e-9,
    )  # fmt: skip
    return Claim(
        "many classes: half the entropy is left at s = log K, K = 10¹²",
        "random-energy model (Derrida 1981)",
        "root of the nested integrals over log K; the limit is reached like 1/√log K",
        1.0,
        *measured(half / log_k, 0.01),
    )


def _symmetric_point() -> list[Claim]:
    found = []
    for num_classes in (3, 10):
        law = families.equidistant(num_classes, num_classes, 5.0, variance=0.0)

        @jax.jit
        def curvature(level, law=law, dim=num_classes):
            noisy = law.perturb(*variance_preserving(level))
            return jnp.linalg.eigvalsh(jax.hessian(lambda x: noisy.log_prob(x))(jnp.zeros(dim)))[-1]

        level = brentq(lambda one: float(curvature(jnp.asarray(one))), -5.0, 2.0, xtol=1e-11)
        point = curvature_point(law).log_snr
        assert point is not None  # equal classes have one
        found.append(
            Claim(
                f"the symmetric point of {num_classes} classes turns at s = K, not near log K",
                "Ramsauer et al. 2021; Biroli et al. 2024",
                "root of the top eigenvalue of the dense Hessian",
                float(np.log(2 * num_classes / 25.0)),
                *measured(level, 1e-6),
            )
        )
    return found


def _shells(key, num_samples) -> list[Claim]:
    clock = OrnsteinUhlenbeck()
    found = []
    for dim, time in ((256, 0.8672), (4096, 1.5596)):
        law = families.equal_means(dim, [0.5, 1.5])
        level = np.asarray(clock.log_snr(time))
        found.append(
            Claim(
                f"equal means: H at t = {time}, by one radial integral, d = {dim}",
                "Achilli et al. 2026",
                "draws in d dimensions",
                float(class_entropy(law, level, method="exact").value),
                class_entropy(law, level, method="monte-carlo", num_samples=num_samples, key=key),
            )
        )
    dim = 10**10
    reduced = families.equal_means(dim, [0.5, 1.5], reduced=True)
    limit = clock.log_snr(np.log(dim / 8) / 4)
    found.append(
        Claim(
            "equal means speciate at ¼ log(d Δv²/8): κ = 1 there, d = 10¹⁰",
            "Achilli et al. 2026",
            "radial integral",
            float(exact.binary_entropy(1.0)),
            *measured(class_entropy(reduced, limit).value, 1e-4),
        )
    )
    return found


def _collapse(key, num_samples) -> Claim:
    num_points, dim, level = 1000, 12, -1.0
    draws = []
    for index in range(12):
        points = jax.random.normal(jax.random.fold_in(key, index), (num_points, dim))
        entropy = index_entropy(points, level, num_samples=max(num_samples // 16, 64), key=key)
        draws.append(float(entropy.value) / dim)
    # Before the collapse H(I|X) = log n - I(X_0; X) up to terms exponentially small in d.
    return Claim(
        "excess entropy per dimension (log n)/d − ½ log(1 + s²e^λ), n = 1000, d = 12, λ = −1",
        "Biroli et al. 2024",
        "posterior over the training points, twelve training sets",
        float(excess_entropy(level, num_points, dim)),
        averaged(draws),
        slack=5e-3,
    )
