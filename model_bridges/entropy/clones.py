"""Clone agreement: two reverse runs from one noisy state, and whether they end in one class.

The state `x_t` of an image is run backwards twice by the stochastic sampler (the ancestral kernel, noise
independent), with the unconditional model, or, where there is none or other class weights are asked for than
the model's, the Bayes mixture `sum_c p_c D_c` with the posterior that ELBO differences give at `x_t` and
tracking carries on. The two ends agree with probability

    phi(sigma) = E sum_c p(c | x_t)^2        (Biroli et al. 2024, arXiv 2402.18491)

and phi bounds the entropy from both sides (`gmm_speciation.agreement`). The curve is the middle of the two;
its error holds that H may be either of them, beside the noise of phi, but no error of steps. Ends are named
by a posterior of their classes: tracked along a fresh noise path of the end, or given as a function; two soft
names agree by the product of their probabilities. Tracking errs by its steps, most where classes differ in
covariance, so that the levels of a name are even in log sigma over all that the pilot gains, and not where it
gains most. The kernel of the runs leaves out the spread of x_0 inside a step, so phi errs to first order in
the step: with `check_steps` every state is also run through every other level, and
`phi(all) - phi(every other)` is that error's size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.agreement import entropy_bounds, entropy_lower_bound, entropy_upper_bound
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition
from gmm_speciation.shares import Share
from gmm_speciation.tracking import reverse_kernel
from model_bridges.denoisers.base import UNCONDITIONAL, Denoiser, class_raw
from model_bridges.denoisers.checks import class_weights
from model_bridges.entropy.elbo_posterior import elbo_posterior
from model_bridges.entropy.evidence import Evidence, evidence
from model_bridges.entropy.levels import pilot_posterior, place_levels, rate_of
from model_bridges.entropy.problem import Problem, ProblemJob
from model_bridges.entropy.tracking import merged_posterior
from model_bridges.runs.jobs import BatchSums, ChunkSums, Means, counted
from model_bridges.samplers import karras_sigmas
from model_bridges.tracking.distances import Outputs, bayes_output, distances, step_between
from model_bridges.tracking.forward import track
from model_bridges.tracking.tracked import group_log_sum

METHOD = "clones (middle of the bounds on H)"
DEFAULT_NUM_LEVELS, DEFAULT_NUM_STEPS = 8, 64
NAMING_LEVELS, NAMING_STEP = 12, 0.5  # at least so many, and the largest step in log sigma
_BEYOND = 1e-3  # share of the information that may lie beyond either end of them
Classifier = Callable[[Tensor], Float[np.ndarray, "N K"]]


@dataclass(frozen=True, eq=False)
class CloneAgreement:
    """Agreement of clones against the noise, `(L,)`, and what it says about H(C|X), in nats."""

    sigmas: Float[np.ndarray, " L"]
    agreement: Share  # phi
    lower: Estimate  # bound on H
    upper: Estimate
    step_error: Estimate | None  # phi of all levels minus phi of every other one
    curve: EntropyCurve  # the middle of the bounds

    @property
    def log_snr(self) -> Float[np.ndarray, " L"]:
        """`lambda = -2 ln sigma` of the levels."""
        return -2 * np.log(self.sigmas)


def naming_levels(
    sigmas: Float[np.ndarray, " M"], rate: Float[np.ndarray, " M"]
) -> Float[np.ndarray, " L"]:
    """Levels to name clean states with, increasing; of the pilot's rate per unit log sigma."""
    gained = np.cumsum((rate[1:] + rate[:-1]) * np.diff(np.log(sigmas)))
    low, high = sigmas[[0, -1]]
    if gained[-1] > 0:
        first, last = np.searchsorted(gained, gained[-1] * np.array([_BEYOND, 1 - _BEYOND]))
        low, high = sigmas[[first, last + 1]]
    steps = int(np.ceil(np.log(high / low) / NAMING_STEP))
    return np.geomspace(low, high, max(NAMING_LEVELS, steps + 1))


@torch.no_grad()
def run_back(
    denoiser: Denoiser,
    states: list[Tensor],
    levels: list[Float[np.ndarray, " _"]],
    rng: np.random.Generator,
    *,
    max_batch: int = 1024,
) -> Float[Tensor, "B *event"]:
    """Groups of states, each at the first of its decreasing levels, brought to the end together.

    All groups end at one level; those that meet at a level go on in one batch.

    Returns:
        Posterior means of the unconditional model at the last level, group after group.
    """
    groups, left = list(states), [[float(level) for level in own] for own in levels]
    while True:
        top = max(own[0] for own in left)
        active = [g for g, own in enumerate(left) if own[0] == top]
        x = torch.cat([groups[g] for g in active])
        denoised = torch.cat([denoiser(p, top, UNCONDITIONAL) for p in x.split(max_batch)])
        if len(left[active[0]]) == 1:
            return denoised  # every group is at the last level now, in order
        sizes = [len(groups[g]) for g in active]
        for g, own, ends in zip(active, x.split(sizes), denoised.split(sizes), strict=True):
            left[g].pop(0)
            mean, variance = reverse_kernel(own, ends, top, left[g][0])
            noise = torch.from_numpy(rng.standard_normal(mean.shape)).to(x)
            groups[g] = mean + variance**0.5 * noise


@torch.no_grad()
def run_back_as_mixture(
    problem: Problem,
    x: Float[Tensor, "B *event"],
    levels: Float[np.ndarray, " T"],
    log_posterior: Float[Tensor, "B K"],
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "B *event"], Float[np.ndarray, "B K"]]:
    """States brought down by the Bayes mixture of the classes, whose posterior is tracked on the way.

    Returns:
        The states at the last level, and the log-posterior of their classes.
    """
    denoiser, log_p, size = problem.denoiser, log_posterior, problem.max_batch
    for sigma, cleaner in pairwise(map(float, levels)):
        skip, out = (float(c) for c in denoiser.coefficients(sigma))
        noise = torch.from_numpy(rng.standard_normal(x.shape)).to(x)
        states, moved = [], []
        for rows in torch.arange(len(x), device=x.device).split(
            max(1, size // denoiser.num_classes)
        ):
            here, own = x[rows], log_p[rows]
            raw = class_raw(denoiser, here, sigma, max_batch=size)
            denoised = skip * here + out * bayes_output(raw, own)
            mean, variance = reverse_kernel(here, denoised, sigma, cleaner)
            states.append(mean + variance**0.5 * noise[rows])
            step = step_between(here, states[-1], skip, sigma, cleaner)
            found = distances(Outputs(raw, out), {"bayes": own}, {}, [step])
            moved.append(torch.log_softmax(own + found["step 0"], 1))
        x, log_p = torch.cat(states), torch.cat(moved)
    return x, log_p.cpu().numpy()


@dataclass(frozen=True, eq=False)
class CloneJob(ProblemJob):
    """Clones of every image of a problem at every level.

    Levels of the problem are moved to the nearest of the sampler's; 8 placed by the pilot by default.

    Args:
        problem: Model and images.
        num_steps: Levels of the sampler from the largest down, `rho = 7` (Karras et al. 2022).
        check_steps: Also run through every other level.
        classifier: Log-probabilities of the classes of clean states; tracking by default.
        classifier_name: What to call it.
    """

    kind = "clones"

    num_steps: int = DEFAULT_NUM_STEPS
    check_steps: bool = False
    classifier: Classifier | None = None
    classifier_name: str = "tracked posterior"

    def settings(self) -> dict[str, Any]:
        return self.problem.settings(
            self.kind,
            num_steps=self.num_steps,
            check_steps=self.check_steps,
            named_by=self.classifier_name,
            naming_step=NAMING_STEP,
        )

    def grid(self) -> Float[np.ndarray, " T"]:
        """Levels of the sampler, decreasing."""
        low, high = self.problem.denoiser.sigma_range
        return karras_sigmas(self.num_steps, low, high).numpy()

    @counted
    def pilot(self) -> ChunkSums:
        """Branching levels, as indices into the sampler's grid, and levels to name classes with."""
        p = self.problem
        record, images = pilot_posterior(p.denoiser, p.x0, p.labels, **p.options)
        sigmas, rate = rate_of(record)
        seen = merged_posterior(record, images, p.partitions)
        wanted = p.sigmas
        if wanted is None:
            wanted = place_levels(sigmas, rate, DEFAULT_NUM_LEVELS + 2)[1:-1]
        grid = self.grid()
        if not (grid[-1] * (1 - 1e-6) <= min(wanted) and max(wanted) <= grid[0] * (1 + 1e-6)):
            raise ValueError(
                f"`sigmas` must lie in the trained range [{grid[-1]:g}, {grid[0]:g}]; got {min(wanted):g} to "
                f"{max(wanted):g}."
            )
        nearest = np.abs(np.log(grid[:, None] / wanted)).argmin(0)
        # A branch needs two steps, so that every other level is a shorter run of the same kind.
        branch = np.unique(np.minimum(nearest, len(grid) - 3))[::-1]
        return ChunkSums(
            0,
            {
                "branch": branch,
                "levels": grid[branch],
                "sigmas": sigmas,
                "rate": rate,
                "naming": naming_levels(sigmas, rate),
                "seen": seen.counts,
                **{f"seen {key}": total for key, total in seen.totals.items()},
            },
        )

    @counted
    def chunk(self, index: int, pilot: ChunkSums) -> ChunkSums:
        """Sums of the agreement over the images of one chunk."""
        p = self.problem
        clean = p.clean(p.images(index))
        grid = self.grid()
        totals = {
            f"{kind} {name}": np.zeros(len(pilot.totals["branch"]))
            for name in p.partitions
            for kind in (("agreement", "coarse") if self.check_steps else ("agreement",))
        }
        branches = [int(b) for b in pilot.totals["branch"]]
        rng = p.rng("clones", index)
        noise = [torch.from_numpy(rng.standard_normal(clean.shape)).to(clean) for _ in branches]
        pairs = [torch.cat([clean + grid[b] * n] * 2) for b, n in zip(branches, noise, strict=True)]
        runs = {"agreement": {b: grid[b:] for b in branches}}
        if self.check_steps:
            # From the same states; an odd step, where one is left over, comes first.
            last = len(grid) - 1
            runs["coarse"] = {b: grid[[b, *range(last, b, -2)[::-1]]] for b in branches}
        for kind, levels in runs.items():
            ends = self._ends(pairs, list(levels.values()), rng, pilot)
            for name, partition in p.partitions.items():
                for place, one in enumerate(np.split(ends, len(branches))):
                    totals[f"{kind} {name}"][place] += _agreement(one, partition).sum()
        return ChunkSums(len(clean), totals)

    def _ends(
        self,
        states: list[Tensor],
        levels: list[Float[np.ndarray, " _"]],
        rng: np.random.Generator,
        pilot: ChunkSums,
    ) -> Float[np.ndarray, "B K"]:
        """Log-posteriors of the classes at the ends of one run of every state, branch by branch."""
        p = self.problem
        weights = class_weights(None, p.denoiser)  # by which the unconditional model draws
        if not p.denoiser.has_unconditional or not np.allclose(p.prior, weights):
            known = (pilot.totals["sigmas"], pilot.totals["rate"])
            found = []
            for x, own in zip(states, levels, strict=True):
                start = elbo_posterior(
                    p.denoiser,
                    x,
                    float(own[0]),
                    prior=p.prior,
                    rate=known,
                    rng=rng,
                    max_batch=p.max_batch,
                )
                log_p = torch.from_numpy(start.log_posterior).to(x)
                found.append(run_back_as_mixture(p, x, own, log_p, rng))
            if self.classifier is None:
                return np.concatenate([log_posterior for _, log_posterior in found])
            ends = torch.cat([end for end, _ in found])
        else:
            ends = run_back(p.denoiser, states, levels, rng, max_batch=p.max_batch)
        if self.classifier is not None:
            return self.classifier(ends)
        record = track(
            p.denoiser,
            ends,
            sigmas=pilot.totals["naming"],
            prior=p.prior,
            seed=int(rng.integers(2**31)),
            max_batch=p.max_batch,
        )
        return record.log_posterior[0]

    def evidence(self, merged: BatchSums, name: str) -> Evidence:
        """What the pilot's images say about the model: the clones' own clean states are not known."""
        found = merged.pilot.totals
        totals = {k.removeprefix("seen "): v for k, v in found.items() if k.startswith("seen ")}
        seen = BatchSums(found["seen"], totals, {}, 0, merged.pilot)
        own = evidence(seen, name, found["sigmas"], self.problem.partitions[name].is_trivial)
        # Ends are named from the model's noisiest level on, which its clones' own slope says little of.
        beyond, _ = seen.evaluate(lambda means: means[f"bayes {name}"][-1:] / 2)
        return replace(own, beyond=beyond)

    def agreement(self, merged: BatchSums, name: str) -> CloneAgreement:
        """Agreement, bounds and curve of one partition.

        Raises:
            ValueError: As `BatchSums.evaluate`.
        """
        partition = self.problem.partitions[name]
        classes, sigmas = partition.num_classes, merged.pilot.totals["levels"]
        log_snr = -2 * np.log(sigmas)

        def middle(means: Means) -> np.ndarray:
            phi = means[f"agreement {name}"]
            return (entropy_lower_bound(phi, classes) + entropy_upper_bound(phi, classes)) / 2

        phi = Share.of(
            merged.evaluate(lambda means: means[f"agreement {name}"])[0], merged.num_images
        )
        lower, upper = entropy_bounds(phi, classes)
        step_error = None
        if self.check_steps:
            step_error, _ = merged.evaluate(
                lambda means: means[f"agreement {name}"] - means[f"coarse {name}"]
            )
        curve = merged.curve(
            log_snr,
            middle,
            lambda means: -np.gradient(middle(means), log_snr),
            self.problem.prior_entropy(partition),
            METHOD,
        )
        # H may be either bound: two standard errors reach from the middle to both, and as far beyond.
        stderr = np.maximum(lower.stderr, upper.stderr) + (upper.value - lower.value) / 4
        entropy = Estimate(curve.entropy.value, stderr, curve.entropy.dof)
        curve = replace(curve, entropy=entropy)
        return CloneAgreement(sigmas, phi, lower, upper, step_error, curve)

    def curve(self, merged: BatchSums, name: str) -> EntropyCurve:
        """The middle of the bounds on H for one partition, with its slope as rate."""
        return self.agreement(merged, name).curve


def _agreement(
    log_posterior: Float[np.ndarray, "B K"], partition: Partition
) -> Float[np.ndarray, " N"]:
    """Probability that the two ends of each state are of one class; the second half holds the others."""
    p = np.exp(group_log_sum(log_posterior, partition))
    first, second = np.split(p, 2)
    return (first * second).sum(-1)
