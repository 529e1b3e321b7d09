"""Control: a class removed, strong guidance, time grids in information. Published claims that do not hold on
mixtures stay, marked as such.
"""

import numpy as np
from jaxtyping import PRNGKeyArray

from gmm_speciation import control, families
from gmm_speciation.control.removal import nothing_read
from gmm_speciation.guidance import ClassifierFree
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import VarianceExploding
from gmm_speciation.reporting.claims import Claim, Verdict
from gmm_speciation.samplers import observe
from gmm_speciation.verification.guided_runs import CLOCK, Study
from gmm_speciation.verification.rows import row, with_error

_DNG = "Koulischer et al. 2025, arXiv 2410.14398"
_WU = "Wu et al. 2024, arXiv 2403.01639"
_TIME = "Stančević et al. 2025, arXiv 2504.13612"


def control_claims(key: PRNGKeyArray, num_samples: int, found: Study) -> list[Claim]:
    """Removal, strong guidance, grids."""
    return [*_removal(found), *strong_claims(key, num_samples), *_entropic_time()]


def _removal(found: Study) -> list[Claim]:
    removed = found.removals
    best = removed["dynamic negative, exact"]
    one = removed["negative prompt, 1"]
    near = min(r.distance for name, r in removed.items() if name.startswith("negative"))
    claims = [
        row(
            f"{name}: share of the kept classes, their overlap with the removed one included",
            _DNG,
            "classes of end states, of samples of the mixture without it",
            1 - float(r.target_removed_share.value),
            with_error(r.removed_share.complement, r.target_removed_share),
            tolerance=0.01,
        )
        for name, r in removed.items()
        if name.startswith("dynamic")
    ]
    claims += [
        row(
            f"{name}: shares of its neighbour among the kept",
            _DNG,
            "classes of end states",
            float(r.target_shares[0]),
            r.shares[0],
            tolerance=0.1 * float(r.target_shares[0]),
            expected=Verdict.YES if name.startswith("dynamic") else Verdict.NO,
        )
        for name, r in removed.items()
        if name in ("dynamic negative, exact", "dynamic negative, tracked", "negative prompt, 1")
    ]
    bound = float(best.floor.value + 4 * best.floor.stderr)
    claims += [
        row(
            "dynamic negative guidance with the exact posterior removes a class: sliced W₂",
            _DNG,
            "to a sample of the mixture without it; bound: two samples of it, mean + 4 deviations",
            bound,
            float(best.distance),
            relation="at most",
        ),
        row(
            "negative prompting fails at every constant strength: smallest sliced W₂",
            _DNG,
            "strengths 0.1, 0.3, 1, 3, the same distance; bound: four times that of two samples",
            4 * float(best.floor.value),
            float(near),
            relation="at least",
        ),
        row(
            "negative prompting removes the class and keeps the balance, strength 1: KL of shares",
            "common practice",
            "KL to the shares of the mixture without it, nats",
            0.01,
            float(one.balance),
            relation="at most",
            expected=Verdict.NO,
        ),
    ]
    spent = np.asarray(found.divergence[1.0].value)
    decided = np.cumsum(found.information) >= found.information.sum() / 2
    claims.append(
        row(
            "negative prompting keeps pushing where the class is decided: share of its divergence",
            _DNG,
            "∫½σ²E|ŝ − s_¬c|²dλ, strength 1, at less noise than the half-way point of the class",
            0.8,
            float(spent[decided].sum() / spent.sum()),
            relation="at least",
        )
    )
    return claims


def strong_claims(key, num_samples) -> list[Claim]:
    """Confidence, differential entropy, a component that splits."""
    pair = families.symmetric_pair(4)
    times = np.asarray(CLOCK.time(np.linspace(-9, 6, 121)))
    claims = []
    for method, name in (("sde", "SDE"), ("ode", "ODE")):
        gain = control.confidence_gain(
            pair, CLOCK, times, 0, 3.0, key=key, num_samples=num_samples // 8, method=method
        )
        claims.append(
            row(
                f"guidance raises the confidence on every path, {name}, w = 3",
                _WU,
                "share of paths not below the unguided one of the same noise, two classes",
                1.0,
                gain.share_raised,
            )
        )
    line = GaussianMixture.isotropic([[-1.0], [1.0]], 1.0)
    fine = np.asarray(CLOCK.time(np.linspace(-9, 10, 301)))
    scales = [1.0, 2.0, 4.0]
    entropies = control.output_entropies(line, CLOCK, fine, 0, scales, num_points=1500)
    for index, scale in enumerate(scales[1:]):
        claims.append(
            row(
                f"guidance lowers the differential entropy of the ODE's output, w = {scale:g}",
                _WU,
                f"E log F′ of the flow, against w = {scales[index]:g}, nats",
                0.0,
                float(entropies[index + 1] - entropies[index]),
                relation="at most",
            )
        )
    three = GaussianMixture.isotropic([[-2.0], [0.0], [2.0]], 0.25)
    for steps, modes in ((80, 2), (640, 1)):
        path = observe(
            three,
            CLOCK,
            np.linspace(5, 0.01, steps + 1),
            nothing_read,
            key=key,
            num_samples=2000,
            guidance=ClassifierFree(1, 16.0),
        )
        verb = "splits the middle one" if modes == 2 else "no longer splits it"
        claims.append(
            row(
                f"three aligned components, w = 16: guidance {verb}, {steps} equal steps",
                _WU,
                "modes of the output, σ² = ¼, means −2, 0, 2, t from 5",
                float(modes),
                float(control.num_modes(np.asarray(path.final[:, 0]))),
            )
        )
    return claims


def _entropic_time() -> list[Claim]:
    toy, _ = families.paper_toy(0.05)
    process, steps, low, high = VarianceExploding(), 16, 0.01, 80.0
    grids = {
        "Karras": control.karras_times(process, steps, sigma_min=low, sigma_max=high),
        "H(C|x_σ)": control.entropic_times(
            toy, process, steps, of="class", sigma_min=low, sigma_max=high
        ),
        "H(x_0|x_σ)": control.entropic_times(toy, process, steps, sigma_min=low, sigma_max=high),
    }
    claims = []
    for method, name in (("ddim", "first order"), ("ode", "Heun")):
        errors = {
            grid: control.line_error(toy, process, times, method=method, num_points=1000)
            for grid, times in grids.items()
        }
        claims += [
            row(
                f"steps equal in {grid} beat Karras ρ = 7, {steps} steps, {name}: ratio of W₂",
                _TIME,
                "exact transport of quantiles, means −8, −4, 6, 8, variance 0.05",
                1.0,
                float(errors[grid] / errors["Karras"]),
                relation="at most",
                expected=Verdict.YES if (grid, method) == ("H(C|x_σ)", "ddim") else Verdict.NO,
            )
            for grid in ("H(C|x_σ)", "H(x_0|x_σ)")
        ]
    return claims
