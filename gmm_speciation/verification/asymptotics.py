"""Laws of large dimension and of many classes, against draws in d and in K dimensions.

Where a law is biased at the dimensions that can be drawn, the prediction is that of the exact integral at
these dimensions, and a claim of its own says how the integral approaches the law.
"""

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy.interpolate import CubicSpline, PPoly, make_interp_spline

from gmm_speciation import asymptotics, bootstrap, exact, families
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import class_entropy, entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import OrnsteinUhlenbeck
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.verification import clocks
from gmm_speciation.verification.draws import NUM_REPLICATES, averaged, axes_of, curve, normals
from gmm_speciation.verification.rows import row
from gmm_speciation.verification.signals import open_and_missed

_CLOCK = OrnsteinUhlenbeck()
_COUNTS = (10, 100)  # numbers of classes whose posteriors are drawn


def claims(key: PRNGKeyArray, num_samples: int) -> list[Claim]:
    """Widths, slopes, orders of approach, and the points of many classes."""
    keys = jax.random.split(key, 4)
    return [
        width_claim(keys[0], num_samples),
        *slope_claims(keys[1], num_samples),
        *_orders(),
        *_points(keys[2], num_samples),
        _random_energy(keys[3], num_samples),
        *clocks.claims(jax.random.fold_in(key, 4), num_samples),
    ]


def _drawn(law: GaussianMixture, times: np.ndarray, key, num_points: int) -> EntropyCurve:
    """A curve from draws in d dimensions, quasi-random along the means and in the radius of the rest."""
    means = np.asarray(law.means)
    axes = axes_of(means) if np.ptp(means, axis=0).any() else np.zeros((law.dim, 0))
    return curve(law, np.asarray(_CLOCK.log_snr(times)), normals(num_points, axes), key)


def width_claim(key, num_samples) -> Claim:
    """The width of dH/dt on the clock, whatever d."""
    dim = 64
    times = np.log(dim) / 2 + np.linspace(-1.3, 1.5, 29)
    drawn = _drawn(families.symmetric_pair(dim), times, key, num_samples // 16).on(_CLOCK)
    assert drawn.curve.batches is not None  # it was drawn
    slope = np.asarray(drawn.rate.value) / np.asarray(drawn.curve.rate.value)  # -dlambda/dt
    widths = [
        asymptotics.full_width(times, rate * slope) for rate in np.asarray(drawn.curve.batches.rate)
    ]
    return row(
        f"dH/dt is 1.31 wide at half maximum on OU, whatever d; d = {dim}",
        "Handke et al. 2026",
        "splines through rates of draws in d dimensions",
        asymptotics.SeparatedMeans().half_maximum().width,
        averaged(widths),
    )


def slope_claims(key, num_samples) -> list[Claim]:
    """How speciation times grow with log d."""
    separated, equal = asymptotics.SeparatedMeans(), asymptotics.EqualMeans()
    dims = np.array([64, 256, 1024, 2048])
    lever = np.log(dims) - np.log(dims).mean()
    lever /= np.sum(lever**2)  # least squares: slope = lever . times

    def times_around(law, dim: int) -> np.ndarray:
        return float(law.speciation_time(dim)) + np.linspace(-0.4, 0.4, 9) / law.exponent

    def half_time(sampled: EntropyCurve) -> Estimate:
        """When half of the entropy is left."""
        return sampled.crossing(np.log(2) / 2).map(lambda level: np.asarray(_CLOCK.time(level)))

    def slope(law, family, drawn) -> Estimate:
        places = [half_time(drawn(family(dim), times_around(law, dim))) for dim in dims.tolist()]
        value = lever @ np.array([float(place.value) for place in places])
        error = np.linalg.norm(lever * np.array([float(place.stderr) for place in places]))
        return Estimate(np.asarray(value), np.asarray(error), places[0].dof)

    def shells(dim: int) -> GaussianMixture:
        return families.equal_means(dim, equal.variances)

    def integrals(law: GaussianMixture, times: np.ndarray) -> EntropyCurve:
        return entropy_curve(law, np.asarray(_CLOCK.log_snr(times)), method="exact")

    def draws(key):
        return lambda law, times: _drawn(law, times, jax.random.fold_in(key, law.dim), points)

    points = max(num_samples // 32, 64)
    keys = jax.random.split(key)
    return [
        row(
            "t_S = ½ log d + const between separated means: slope of the half-entropy times",
            "Biroli et al. 2024",
            "line through points drawn in 64 to 2048 dimensions",
            1 / separated.exponent,
            slope(separated, families.symmetric_pair, draws(keys[0])),
        ),
        row(
            "t_S = ¼ log d + const between equal means: slope at d = 64 to 2048",
            "Achilli et al. 2026",
            "line through points drawn in d dimensions; predicted by integrals at the same d",
            # Corrections of 1/d remain at these dimensions: the integral has them.
            float(slope(equal, shells, integrals).value),
            slope(equal, shells, draws(keys[1])),
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
            row(
                f"the law is approached like d^−{order:g}: {name}",
                "expansion of κ in e^(−2 t_S)",
                "integrals at d = 2²² and 2²⁶",
                order,
                float(np.log(errors[0] / errors[1]) / np.log(16)),
                tolerance=0.002 * order,
            )
        )
    return found


def _points(key, num_samples) -> list[Claim]:
    predicted = asymptotics.criteria_by_classes(_COUNTS)
    found = []
    for index, count in enumerate(_COUNTS):
        log_s = np.log(np.log(count)) + np.linspace(-0.6, 1.2, 37)
        entropy, error = open_and_missed(
            count, np.exp(log_s), jax.random.fold_in(key, index), num_samples // 8
        )

        def resampled(read, rows) -> Estimate:
            mean = np.asarray(rows.mean(0))
            again = [read(row) for row in bootstrap.replicates(mean, np.asarray(rows))]
            return bootstrap.error(read(mean), np.array(again), NUM_REPLICATES)

        def crossing(values, level, log_s=log_s) -> float:
            return float(np.exp(CubicSpline(values, log_s)(level)))

        def top(values, log_s=log_s) -> float:
            bend = make_interp_spline(log_s, values, k=5).derivative()
            places = PPoly.from_spline(bend).roots(extrapolate=False)
            return float(np.exp(places[np.argmin(abs(places - log_s[np.argmax(values)]))]))

        points = {
            "half the entropy is left": (
                predicted.half_entropy[index],
                resampled(lambda gained: crossing(gained, 0.5), 1 - entropy / np.log(count)),
            ),
            "s |dH/ds| is largest": (
                predicted.entropic_peak[index],
                resampled(top, np.exp(log_s)[None, :] * error / 2),
            ),
            "clones agree by 0.55": (
                predicted.cloning[index],
                resampled(lambda phi: crossing(phi, 0.55), 1 - error / (1 - 1 / count)),
            ),
        }
        found += [
            row(
                f"{count} equidistant classes: {name} at s",
                "orthogonal signalling in Gaussian noise",
                "posteriors of draws in K dimensions",
                float(point),
                seen,
            )
            for name, (point, seen) in points.items()
        ]
    return found


def _random_energy(key, num_samples) -> Claim:
    num_classes, u = 4096, 1.0
    s = u * np.log(num_classes)
    entropy, _ = open_and_missed(num_classes, np.array([s]), key, num_samples // 16)
    # The limit is 1/2; what K = 4096 leaves of it is in the integral.
    left = float(exact.equidistant_entropy(num_classes, s)) / np.log(num_classes)
    return row(
        "I / log K → min(1, u/2): at u = s/log K = 1 and K = 4096",
        "random-energy model (Derrida 1981)",
        "posteriors of draws in K dimensions; predicted by the integral at the same K",
        1 - left,
        averaged(1 - entropy[:, 0] / np.log(num_classes)),
    )
