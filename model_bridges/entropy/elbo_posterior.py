"""Class posteriors at one noisy state, without a path: differences of ELBOs.

From `x_t` at noise sigma, more noise is added: `x' = x_t + sqrt(u) n`, `sigma'^2 = sigma^2 + u`. A
denoiser of class c predicts `x_t` from `x'`,

    m_c = (sigma^2 x' + u D_c(x'; sigma')) / sigma'^2,

and with `lambda' = -log u` the log-likelihoods of two classes differ by

    log p(x_t|c) - log p(x_t|c') = -1/2 int E_n [|m_c - x_t|^2 - |m_c' - x_t|^2] / u dlambda'
                                 = -int E_n (D_c - D_c') . (m_c + m_c' - 2 x_t) / (2 sigma'^2) dlambda'.

At sigma -> 0 this is the diffusion classifier with the weight of the true likelihood (Kong et al. 2023,
arXiv 2302.03792; Li et al. 2023, arXiv 2303.16203; Kingma et al. 2021 for the bound).

The integral is sampled: `log u` in strata of a density shaped by a pilot, with `n` and `-n`, the same
for all classes. It runs up to the model's largest level; what x tells about the class there already,
about `E|D_c - Dbar|^2 / (2 sigma_max^2)` nats, is left out, as in tracking, and below `u = 1e-4 sigma^2`
another 5e-5 of the rate. Of log-likelihoods at x_t that is about `x_t . (D_c - Dbar) / sigma_max^2`, of the
size of `sigma / sigma_max` times the root of the rate at sigma_max: it is in their errors.
Posteriors come from two independent halves: errors are those between them stratum by stratum, and
`2 f(both) - mean f(half)` frees averages of the first-order bias of a nonlinear f. Nats throughout.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from gmm_speciation.checks import as_count, as_values
from model_bridges.denoisers.arrays import Images
from model_bridges.denoisers.base import Denoiser, class_raw, per_image
from model_bridges.denoisers.checks import check_data, class_weights
from model_bridges.denoisers.devices import brought
from model_bridges.entropy.importance import FLOOR, Proposal
from model_bridges.entropy.levels import pilot_rate
from model_bridges.tracking.distances import Outputs, Step, distances

DEFAULT_NUM_STRATA = 6
SMALLEST_STEP = 1e-4  # u / sigma^2 from which the integral runs
Rate = tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]


@dataclass(frozen=True, eq=False)
class ElboPosterior:
    """Log-posteriors at given states, those of the two halves, and the error of the log-likelihoods.

    `stderr` is that of a class's log-likelihood relative to the average of all classes, pooled over
    the classes of each state: one class alone has few strata that matter. It holds what is left out.
    """

    log_posterior: Float[np.ndarray, "B K"]
    halves: Float[np.ndarray, "2 B K"]
    stderr: Float[np.ndarray, " B"]
    evaluations: int

    def unbias(self, quantity) -> np.ndarray:
        """`2 q(both halves) - mean q(half)` of a function of log-posteriors `(..., B, K)`."""
        return 2 * quantity(self.log_posterior) - quantity(self.halves).mean(0)


@torch.no_grad()
def elbo_posterior(
    denoiser: Denoiser,
    x: Images,
    sigma: float,
    *,
    prior: ArrayLike | None = None,
    rate: Rate | None = None,
    num_strata: int = DEFAULT_NUM_STRATA,
    rng: np.random.Generator | int = 0,
    max_batch: int = 1024,
) -> ElboPosterior:
    """Posterior of every class at noisy states, from `4 K num_strata` evaluations a state.

    Args:
        denoiser: The model.
        x: Noisy states, all at one level.
        sigma: Their level, inside the model's range.
        prior: Class weights `(K,)`; by default the model's `class_prior`, else equal.
        rate: Increasing levels, and the rate per unit log sigma of a pilot there; a pilot on `x` itself by
            default.
        num_strata: Draws of `log u` in each half, every one with two opposite noises.
        rng: Source of all randomness.
        max_batch: Largest batch given to the network.

    Raises:
        ValueError: If a number, the states, the prior or the pilot does not fit.
    """
    x, _ = check_data(denoiser, x, None, "`x`")
    high, num_strata = denoiser.sigma_range[1], as_count(num_strata, "num_strata")
    given = as_values(sigma, "sigma", f"be one number in (0, {high:g}], the model's largest level")
    if given.size != 1 or not 0 < (sigma := float(given.item())) <= high * (1 + 1e-6):
        raise ValueError(
            f"`sigma` must be one number in (0, {high:g}], the model's largest level; got {sigma}."
        )
    weights = class_weights(prior, denoiser)
    if rate is None:
        rate = pilot_rate(denoiser, x, prior=weights, max_batch=max_batch)
    elif (
        np.shape(rate[0]) != np.shape(rate[1])
        or not np.all(np.diff(rate[0]) > 0)
        or not np.all(np.isfinite(rate[1]) & (np.asarray(rate[1]) >= 0))
    ):
        raise ValueError(
            "`rate` must be two vectors of one length, levels that increase and the rate there, not "
            f"negative; got shapes {np.shape(rate[0])} and {np.shape(rate[1])}, levels "
            f"{np.ravel(rate[0])[:5]}, rates {np.ravel(rate[1])[:5]}."
        )
    omitted = (sigma / high) ** 2 * float(np.interp(np.log(high), np.log(rate[0]), rate[1]))
    if (sigma / high) ** 2 * (1 + SMALLEST_STEP) >= 1:
        return _prior_alone(weights, len(x), omitted**0.5)
    x, rng = brought(denoiser, x).double(), np.random.default_rng(rng)
    proposal = step_proposal(sigma, high, rate)
    shape = (2, len(x), num_strata)
    log_step, importance = proposal.stratified(rng.random(shape))
    noise = torch.from_numpy(rng.standard_normal((*shape, *x.shape[1:])))
    parts = torch.stack(
        [
            _contributions(
                denoiser,
                x,
                sigma,
                torch.from_numpy(np.exp(log_step[half])),
                noise[half].to(x.device),
                max_batch,
            )
            * torch.from_numpy(importance[half]).to(x.device)[..., None]
            for half in range(2)
        ]
    )  # 2 B J K
    log_prior = torch.from_numpy(weights).log().to(x.device)
    halves = torch.log_softmax(parts.sum(2) + log_prior, -1)
    both = torch.log_softmax(parts.mean(0).sum(1) + log_prior, -1)
    variance = ((parts[0] - parts[1]) / 2).square().sum(1).mean(-1) + omitted
    return ElboPosterior(
        both.cpu().numpy(),
        halves.cpu().numpy(),
        variance.sqrt().cpu().numpy(),
        4 * len(x) * num_strata * denoiser.num_classes,
    )


def _prior_alone(weights: Float[np.ndarray, " K"], batch: int, stderr: float) -> ElboPosterior:
    """At the largest level there is no noisier one to compare with: the posterior is the prior."""
    with np.errstate(divide="ignore"):
        rows = np.tile(np.log(weights), (batch, 1))
    return ElboPosterior(rows, np.stack([rows] * 2), np.full(batch, stderr), 0)


def step_proposal(sigma: float, sigma_max: float, rate: Rate) -> Proposal:
    """Density of `log u` for states at `sigma`: the size of the integrand that a rate lets expect.

    Per unit `log u` the mean is of the size of `w r / 2` and the scatter of `sqrt(w r)`, where
    `w = u / sigma'^2` and r is the rate at `sigma'`.
    """
    sigmas, values = rate
    nodes = np.linspace(np.log(SMALLEST_STEP * sigma**2), np.log(sigma_max**2 - sigma**2), 257)
    step = np.exp(nodes)
    total = sigma**2 + step
    found = np.interp(np.log(total) / 2, np.log(sigmas), values)
    return Proposal.from_shape(nodes, np.sqrt(step / total * found), FLOOR)


def _contributions(
    denoiser: Denoiser,
    x: Float[Tensor, "B *event"],
    sigma: float,
    step: Float[Tensor, "B J"],
    noise: Float[Tensor, "B J *event"],
    max_batch: int,
) -> Float[Tensor, "B J K"]:
    """The integrand per unit `log u` of every class, relative to the average class."""
    # Noise and its opposite are rows of one batch.
    batch, strata = step.shape
    u = step.repeat(1, 2).reshape(-1).to(x)
    added = torch.cat([noise, -noise], 1).reshape(-1, *x.shape[1:])
    total = u + sigma**2
    # Rounding may lift the largest level over the end of the range.
    level = total.sqrt().clamp(max=denoiser.sigma_range[1])
    skip, out = (c.to(x) for c in denoiser.coefficients(level))
    size, values = denoiser.num_classes, []
    even = torch.full((1, size), -float(np.log(size)), dtype=x.dtype, device=x.device)
    for rows in torch.arange(len(u), device=x.device).split(max(1, max_batch // size)):
        clean = x[rows // (2 * strata)]
        further = clean + per_image(u[rows].sqrt(), clean) * added[rows]
        raw = class_raw(denoiser, further, level[rows], max_batch=max_batch)
        # -|m_c - x_t|^2 / (2 u) is the likelihood of a step with the variance u.
        share = u[rows] / total[rows]
        shared = per_image(sigma**2 / total[rows] + share * skip[rows], clean) * further
        back = Step(clean - shared, share, u[rows])
        chain = {"even": even.expand(len(rows), -1)}
        values.append(distances(Outputs(raw, out[rows]), chain, {}, [back])["step 0"])
    return torch.cat(values).reshape(batch, 2, strata, size).mean(1)
