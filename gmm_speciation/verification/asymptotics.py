"""Laws of large dimension and of many classes, against draws in d and in K dimensions.

Where a law is biased at the dimensions that can be drawn, the prediction is that of the exact integral at
these dimensions, and a claim of its own says how the integral approaches the law.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from gmm_speciation import asymptotics, exact, families
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import class_entropy, entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import OrnsteinUhlenbeck
from gmm_speciation.verification.claims import Claim, averaged, measured

_CLOCK = OrnsteinUhlenbeck()
_COUNTS = (10, 100)  # numbers of classes whose posteriors are drawn


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """Widths, slopes, orders of approach, and the points of many classes."""
    keys = jax.random.split(key, 4)
    return [
        _width(keys[0], num_samples),
        *_slopes(keys[1], num_samples),
        *_orders(),
        *_points(keys[2], num_samples),
        _random_energy(keys[3], num_samples),
    ]


def _drawn(law: GaussianMixture, times: np.ndarray, key, num_samples: int) -> EntropyCurve:
    """A curve from draws in d dimensions."""
    levels = np.asarray(_CLOCK.log_snr(times))
    return entropy_curve(law, levels, method="monte-carlo", num_samples=num_samples, key=key)


def _width(key, num_samples) -> Claim:
    dim = 64
    law = families.symmetric_pair(dim)
    times = np.log(dim) / 2 + np.linspace(-1.3, 1.5, 29)
    widths = []
    for one in jax.random.split(key, 8):
        curve = _drawn(law, times, one, num_samples).on(_CLOCK)
        widths.append(asymptotics.full_width(times, np.asarray(curve.rate.value)))
    return Claim(
        f"dH/dt is 1.31 wide at half maximum on OU, whatever d; d = {dim}",
        "Handke et al. 2026",
        "splines through rates sampled in d dimensions, eight runs",
        asymptotics.SeparatedMeans().half_maximum().width,
        averaged(widths),
        slack=2e-3,  # of the spline through points 0.1 apart
    )


def _slopes(key, num_samples) -> list[Claim]:
    separated, equal = asymptotics.SeparatedMeans(), asymptotics.EqualMeans()
    dims = np.array([64, 256, 1024, 2048])
    runs, draws = 12, max(num_samples // 8, 64)

    def half_time(law, family, dim: int, **options) -> float:
        """When half of the entropy is left."""
        times = float(law.speciation_time(dim)) + np.linspace(-0.4, 0.4, 5) / law.exponent
        curve = entropy_curve(family(dim), np.asarray(_CLOCK.log_snr(times)), **options)
        return float(_CLOCK.time(curve.crossing(np.log(2) / 2).value))

    def slope(law, family, **options) -> float:
        places = [half_time(law, family, dim, **options) for dim in dims.tolist()]
        return float(asymptotics.fit_scaling(dims, places).slope.value)

    def drawn(law, family, key) -> Estimate:
        """Independent lines, each through points drawn in d dimensions."""
        options = {"method": "monte-carlo", "num_samples": draws}
        return averaged(
            [slope(law, family, key=one, **options) for one in jax.random.split(key, runs)]
        )

    def shells(dim: int) -> GaussianMixture:
        return families.equal_means(dim, equal.variances)

    keys = jax.random.split(key)
    return [
        Claim(
            "t_S = ½ log d + const between separated means: slope of the half-entropy times",
            "Biroli et al. 2024",
            f"{runs} lines through points drawn in 64 to 2048 dimensions",
            1 / separated.exponent,
            drawn(separated, families.symmetric_pair, keys[0]),
            slack=1e-4,  # of five noises a curve
        ),
        Claim(
            "t_S = ¼ log d + const between equal means: slope at d = 64 to 2048",
            "Achilli et al. 2026",
            f"{runs} lines through points drawn in d dimensions; predicted by integrals at the same d",
            # Corrections of 1/d remain at these dimensions: the integral has them.
            slope(equal, shells, method="exact"),
            drawn(equal, shells, keys[1]),
            slack=1e-4,
        ),
    ]


def _orders() -> list[Claim]:
    """How fast the integral at finite d approaches the law: the error of H at t_S, d against 16 d."""
    found = []
    for name, law, family, order in (
        (
            "separated means, s² = 3",
            asymptotics.SeparatedMeans(),
            lambda dim: families.symmetric_pair(dim, variance=3.0, reduced=True),
            1.0,
        ),
        (
            "equal means, mean variance 1.5",
            asymptotics.EqualMeans((1.0, 2.0)),
            lambda dim: families.equal_means(dim, (1.0, 2.0), reduced=True),
            0.5,
        ),
    ):
        limit = float(exact.binary_entropy(1.0))
        errors = []
        for dim in (2**22, 2**26):
            level = np.asarray(_CLOCK.log_snr(float(law.speciation_time(dim))))
            errors.append(float(class_entropy(family(dim), level).value) - limit)
        found.append(
            Claim(
                f"the law is approached like d^−{order:g}: {name}",
                "expansion of κ in e^(−2 t_S)",
                "integrals at d = 2²² and 2²⁶",
                order,
                *measured(np.log(errors[0] / errors[1]) / np.log(16), 0.01),
            )
        )
    return found


def _posterior_entropy(
    num_classes: int, log_s: np.ndarray, key: PRNGKeyArray, num_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Batch means `(R, T)` of `H` and of `1 - phi` over draws in K dimensions, one noise for all s."""
    label = jnp.arange(num_samples) % num_classes
    noise = jax.random.normal(key, (num_samples, num_classes))
    own = jax.nn.one_hot(label, num_classes)

    @jax.jit
    def at(x):
        s = jnp.exp(x)
        log_p = jax.nn.log_softmax(jnp.sqrt(s) * noise + s * own, -1)
        p = jnp.exp(log_p)
        rows = -jnp.sum(p * log_p, -1), 1 - jnp.sum(p**2, -1)
        return [row.reshape(16, -1).mean(-1) for row in rows]

    entropy, error = jax.lax.map(at, jnp.asarray(log_s))
    return np.asarray(entropy).T, np.asarray(error).T


def _points(key, num_samples) -> list[Claim]:
    predicted = asymptotics.criteria_by_classes(_COUNTS)
    found = []
    for index, count in enumerate(_COUNTS):
        draws = 16 * max(num_samples // 16, 2)
        log_s = np.log(np.log(count)) + np.linspace(-0.6, 1.2, 37)
        entropy, error = _posterior_entropy(count, log_s, jax.random.fold_in(key, index), draws)
        rates = np.exp(log_s)[None, :] * error / 2
        share = 1 - error / (1 - 1 / count)

        def of_batches(read, *rows) -> Estimate:
            """A point and its jackknife error."""
            whole = read(*(row.mean(0) for row in rows))
            without = [read(*(np.delete(row, r, 0).mean(0) for row in rows)) for r in range(16)]
            return Estimate.jackknife(whole, np.asarray(without))

        def crossing(values, level, log_s=log_s) -> float:
            return float(np.exp(np.interp(level, values, log_s)))

        def top(values, log_s=log_s) -> float:
            best = slice(max(int(np.argmax(values)) - 5, 0), int(np.argmax(values)) + 6)
            bend = np.polyfit(log_s[best], values[best], 4)
            fine = np.linspace(log_s[best][0], log_s[best][-1], 2001)
            return float(np.exp(fine[int(np.argmax(np.polyval(bend, fine)))]))

        points = {
            "half the entropy is left": (
                predicted.half_entropy[index],
                of_batches(lambda gained: crossing(gained, 0.5), 1 - entropy / np.log(count)),
            ),
            "s |dH/ds| is largest": (predicted.entropic_peak[index], of_batches(top, rates)),
            "clones agree by 0.55": (
                predicted.cloning[index],
                of_batches(lambda phi: crossing(phi, 0.55), share),
            ),
        }
        found += [
            Claim(
                f"{count} equidistant classes: {name} at s",
                "orthogonal signalling in Gaussian noise",
                "posteriors of draws in K dimensions",
                float(point),
                seen,
                slack=5e-3
                * float(point),  # of straight lines and a quartic through points 0.05 apart
            )
            for name, (point, seen) in points.items()
        ]
    return found


def _random_energy(key, num_samples) -> Claim:
    num_classes, u = 4096, 1.0
    s = u * np.log(num_classes)
    entropy, _ = _posterior_entropy(
        num_classes, np.array([np.log(s)]), key, 16 * max(num_samples // 256, 2)
    )
    # The limit is 1/2; what K = 4096 leaves of it is in the integral.
    left = float(exact.equidistant_entropy(num_classes, s)) / np.log(num_classes)
    return Claim(
        "I / log K → min(1, u/2): at u = s/log K = 1 and K = 4096",
        "random-energy model (Derrida 1981)",
        "posteriors of draws in K dimensions; predicted by the integral at the same K",
        1 - left,
        averaged(1 - entropy[:, 0] / np.log(num_classes)),
    )
