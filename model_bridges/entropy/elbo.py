"""Class entropy from ELBO differences, as a job in chunks.

At every level each image of a chunk is noised once, on its own, and its posterior estimated there without
a path (`elbo_posterior`). The rate is the denoiser gap `E sum_c p_c |D_c - Dbar|^2 / (2 sigma^2)` per unit
log-SNR at the same states with these posteriors. Averages are freed of the first-order bias that the
noise of a posterior gives to a nonlinear function of it. At the model's largest level the posterior is
the prior.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gmm_speciation.curves import EntropyCurve
from model_bridges.denoisers.base import class_raw
from model_bridges.entropy.elbo_posterior import DEFAULT_NUM_STRATA, ElboPosterior, elbo_posterior
from model_bridges.entropy.evidence import UNDECIDED, Evidence, evidence, image_moments
from model_bridges.entropy.levels import place_levels
from model_bridges.entropy.problem import ProblemJob
from model_bridges.runs.jobs import Arrays, BatchSums, ChunkSums, counted
from model_bridges.tracking.distances import Outputs, distances
from model_bridges.tracking.readouts import doubts, label_cross_entropy, posterior_entropy
from model_bridges.tracking.tracked import group_log_sum

METHOD = "ELBO differences"
DEFAULT_NUM_LEVELS = 16


@dataclass(frozen=True, eq=False)
class ElboJob(ProblemJob):
    """ELBO differences of every image at every level; 16 levels placed by the pilot by default."""

    kind = "elbo"

    num_strata: int = DEFAULT_NUM_STRATA

    @counted
    def pilot(self) -> ChunkSums:
        """The rate on a coarse grid, and the levels of the curve."""
        p = self.problem
        sigmas, rate = p.rate()
        levels = place_levels(sigmas, rate, DEFAULT_NUM_LEVELS) if p.sigmas is None else p.sigmas
        return ChunkSums(0, {"sigmas": sigmas, "rate": rate, **p.bounded(levels)})

    @counted
    def chunk(self, index: int, pilot: ChunkSums) -> ChunkSums:
        """Sums over the images of one chunk."""
        p = self.problem
        images = p.images(index)
        clean = p.clean(images)
        levels = pilot.totals["levels"]
        rows: list[Arrays] = []
        for number, sigma in enumerate(map(float, levels)):
            rng = p.rng("elbo", index, number)
            x = clean + sigma * torch.from_numpy(rng.standard_normal(clean.shape)).to(clean)
            posterior = elbo_posterior(
                p.denoiser,
                x,
                sigma,
                prior=p.prior,
                rate=(pilot.totals["sigmas"], pilot.totals["rate"]),
                num_strata=self.num_strata,
                rng=rng,
                max_batch=p.max_batch,
            )
            rows.append(self._quantities(x, sigma, posterior, images))
        totals = {name: np.array([row[name].sum() for row in rows]) for name in rows[0]}
        totals |= image_moments(clean)
        if "wiener" in pilot.totals:
            totals["wiener"] = pilot.totals["wiener"][:, images].sum(1)
        return ChunkSums(len(clean), totals)

    def _quantities(
        self, x: Tensor, sigma: float, posterior: ElboPosterior, images: slice
    ) -> Arrays:
        """Entropy, rate and, with labels, cross-entropy of every image at one level."""
        p, result = self.problem, {}
        skip, out = (float(c) for c in p.denoiser.coefficients(sigma))
        raw = class_raw(p.denoiser, x, sigma, max_batch=p.max_batch)
        given = {"both": posterior.log_posterior, "first": posterior.halves[0]}
        given["second"] = posterior.halves[1]
        chains = {key: torch.from_numpy(log_p).to(x) for key, log_p in given.items()}
        found = distances(Outputs(raw, out, p.clean(images) - skip * x), chains, p.partitions)
        apart = {key: values.cpu().numpy() for key, values in found.items()}
        result["error bayes"] = apart["both bayes_error"]
        labels = None if p.labels is None else p.labels[images].cpu().numpy()
        for name, partition in p.partitions.items():
            both, *halves = (apart[f"{key} group {name}"] for key in chains)
            entropy = partial(posterior_entropy, partition=partition)
            result[f"entropy {name}"] = posterior.unbias(entropy)
            result[f"bayes {name}"] = (2 * both - np.mean(halves, 0)) / sigma**2
            own = doubts(posterior.log_posterior, partition)
            result |= {f"{kind} {name}": values for kind, values in own.items()}
            result[f"undecided {name}"] = (own["confidence"] < UNDECIDED).astype(float)
            if labels is not None:
                group = np.asarray(partition.labels)[labels]
                cross = partial(label_cross_entropy, partition=partition, labels=group)
                result[f"cross_entropy {name}"] = posterior.unbias(cross)
                named = group_log_sum(posterior.log_posterior, partition).argmax(-1)
                result[f"accuracy {name}"] = (named == group).astype(float)
        return result

    def evidence(self, merged: BatchSums, name: str) -> Evidence:
        """What the states at the levels say about the model, for one partition."""
        single = self.problem.partitions[name].is_trivial
        found = evidence(merged, name, merged.pilot.totals["levels"], single)
        return replace(found, start=self.problem.denoiser.sigma_range[1])

    def curve(self, merged: BatchSums, name: str) -> EntropyCurve:
        """The curve of one partition.

        Raises:
            ValueError: As `BatchSums.evaluate`.
        """
        return merged.curve(
            -2 * np.log(merged.pilot.totals["levels"]),
            lambda means: means[f"entropy {name}"],
            lambda means: means[f"bayes {name}"] / 2,
            self.problem.prior_entropy(self.problem.partitions[name]),
            METHOD,
        )
