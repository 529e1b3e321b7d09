"""The denoiser gap with the noise sampled where the integrand is.

    H(C|X_sigma) = H(C) - int_sigma^max r(s) dlog s,     r(s) = s^-2 E |D_y(x) - D_u(x)|^2,   x = x_0 + s eps

with the true class y of each image and the unconditional model: two evaluations a draw, both at one noisy
state, where following a path costs K a level. Every draw has an image, a noise and a level of its own. A
pilot of draws spread evenly over log s measures `E r^2`; then the levels come from strata of the
density `~ sqrt(E r^2)`, mixed with a uniform part, one draw in each. The entropy at sigma is H(C) minus
the weighted draws above it, without bias at any number of draws. Single classes only: the denoiser of a
group needs the posterior inside it ("gap" along a path has that). For networks trained apart this form
holds their disagreement, too.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from model_bridges.denoisers.base import UNCONDITIONAL, per_image
from model_bridges.entropy.evidence import Evidence, image_moments
from model_bridges.entropy.importance import FLOOR, Proposal
from model_bridges.entropy.linear_bounds import scalar_bound
from model_bridges.entropy.problem import ProblemJob
from model_bridges.runs.jobs import NUM_BATCHES, BatchSums, ChunkSums, Means, counted

METHOD = "denoiser gap (unconditional, adaptive levels)"
PILOT_CELLS, PILOT_DRAWS = 24, 24
NUM_BLOCKS = 8  # of levels, for what is checked
DEFAULT_NUM_LEVELS, DEFAULT_NUM_STRATA, DEFAULT_DRAWS = 48, 128, 32


@dataclass(frozen=True, eq=False)
class SampledGapJob(ProblemJob):
    """The gap of the labelled class from independent draws of level, image and noise.

    Batches use different images, as far as there are 16 of them, so that their means are independent.

    Args:
        problem: Model, images and labels; its levels, 48 by default, are where the curve is given.
        num_draws: Chunks of `num_strata` draws.
        num_strata: Draws of one chunk, one in each stratum of log sigma.
    """

    kind = "sampled gap"

    num_draws: int = DEFAULT_DRAWS
    num_strata: int = DEFAULT_NUM_STRATA

    def __post_init__(self) -> None:
        p = self.problem
        if p.labels is None or not p.denoiser.has_unconditional:
            raise ValueError(
                "The sampled gap compares the denoiser of each image's class with the unconditional "
                "one: it needs `labels` and an unconditional model. Use `estimator='gap'`."
            )
        if self.num_draws < 2 or self.num_strata < 2:
            raise ValueError(
                f"`num_draws` and `num_strata` must be at least 2; got {self.num_draws} and "
                f"{self.num_strata}."
            )
        if not any(partition.is_trivial for partition in p.partitions.values()):
            raise ValueError(
                "The sampled gap knows single classes only; for groups use `estimator='gap'`."
            )

    @property
    def num_chunks(self) -> int:
        return self.num_draws

    def levels(self) -> Float[np.ndarray, " L"]:
        """Levels of the curve."""
        given = self.problem.sigmas
        if given is not None:
            return given
        return np.geomspace(*self.problem.denoiser.sigma_range, DEFAULT_NUM_LEVELS)

    @counted
    def pilot(self) -> ChunkSums:
        """Density of the levels, by its distribution function."""
        p = self.problem
        # The integral runs up to the model's largest level, wherever the curve ends.
        levels, top = self.levels(), self.problem.denoiser.sigma_range[1]
        ends = np.log(levels[0]), np.log(max(levels[-1], top))
        edges = np.linspace(*ends, PILOT_CELLS + 1)
        rng = p.rng("sampled gap pilot")
        places = edges[:-1, None] + np.diff(edges)[:, None] * rng.random((PILOT_CELLS, PILOT_DRAWS))
        images = rng.integers(len(p.x0), size=places.size)
        gaps = self._draws(places.ravel(), images, rng)["gap"].reshape(places.shape)
        size = np.sqrt((gaps**2).mean(1))
        # Wide: where large gaps are rare, a cell may have seen none, and its neighbours know better.
        kernel = np.array([1, 2, 3, 2, 1]) / 9
        smooth = np.convolve(np.pad(size, 2, mode="edge"), kernel, mode="valid")
        at_edges = np.interp(edges, (edges[1:] + edges[:-1]) / 2, smooth)
        proposal = Proposal.from_shape(edges, at_edges, FLOOR)
        return ChunkSums(0, {"nodes": proposal.nodes, "cdf": proposal.cdf})

    @counted
    def chunk(self, index: int, pilot: ChunkSums) -> ChunkSums:
        """One draw in every stratum: its part of the integral above each level, and of each cell."""
        rng = self.problem.rng("sampled gap", index)
        proposal = Proposal(pilot.totals["nodes"], pilot.totals["cdf"])
        places, weights = proposal.stratified(rng.random(self.num_strata))
        images = self._images(index)
        found = self._draws(places, images, rng)
        gaps = found["gap"]
        position = np.log(self.levels())
        above = places[None, :] > position[:, None]
        middle = (position[1:] + position[:-1]) / 2
        ends = [2 * position[0] - middle[0], *middle, 2 * position[-1] - middle[-1]]
        cell = np.digitize(places, ends)[None, :] - 1 == np.arange(len(position))[:, None]
        return ChunkSums(
            1,
            {
                "integral": (above * weights * gaps).sum(1),
                "mmse": (above * weights * found["mmse"]).sum(1),
                **{
                    f"cell {key}": (cell * weights * found[key]).sum(1)
                    for key in ("gap", "labelled error", "unconditional error")
                },
                "cell width": (cell * weights).sum(1),
            },
        )

    def _images(self, index: int) -> Int[np.ndarray, " J"]:
        """Images of a chunk: those of its batch in turn, in random order."""
        p = self.problem
        own = p.rng("sampled gap images").permutation(len(p.x0))
        if len(own) >= NUM_BATCHES:
            own = own[index % NUM_BATCHES :: NUM_BATCHES]
        first = index // NUM_BATCHES * self.num_strata
        # Without this the order of the images would be that of the strata.
        turn = p.rng("sampled gap strata", index).permutation(self.num_strata)
        return own[(first + turn) % len(own)]

    def _draws(
        self,
        places: Float[np.ndarray, " M"],
        images: Int[np.ndarray, " M"],
        rng: np.random.Generator,
    ) -> dict[str, Float[np.ndarray, " M"]]:
        """The gap of each draw, and the errors of D_y and D_u.

        Errors are over the scalar linear bound; "mmse" is `|x_0 - D_u|^2 - |x_0 - D_y|^2` over `sigma^2`.
        """
        p = self.problem
        assert p.labels is not None  # checked at the start
        index = torch.from_numpy(images).to(p.x0.device)
        clean = p.clean(index)
        label = p.labels.to(p.x0.device)[index].to(clean.device).long()
        sigma = torch.from_numpy(np.exp(places)).to(clean)
        noise = torch.from_numpy(rng.standard_normal(clean.shape)).to(clean)
        x = clean + per_image(sigma, clean) * noise
        skip, out = p.denoiser.coefficients(sigma)
        rest = (clean - per_image(skip, x) * x).flatten(1)
        scale, distances = out.to(x)[:, None], []
        for here in torch.arange(len(x), device=x.device).split(p.max_batch):
            outputs = [
                p.denoiser.raw(x[here], sigma[here], which).to(x).flatten(1)
                for which in (label[here], UNCONDITIONAL)
            ]
            errors = [rest[here] - scale[here] * output for output in outputs]
            gap = scale[here] * (outputs[0] - outputs[1])
            distances.append(torch.stack([e.square().sum(1) for e in (gap, *errors)]))
        noise = np.exp(2 * places)
        gap, labelled, free = torch.cat(distances, 1).cpu().numpy()
        bound = scalar_bound(*self._moments, len(p.x0), np.exp(places))
        inverse = np.divide(1, bound, out=np.zeros_like(bound), where=bound > 0)
        return {
            "gap": gap / noise,
            "mmse": (free - labelled) / noise,
            "labelled error": labelled * inverse,
            "unconditional error": free * inverse,
        }

    @cached_property
    def _moments(self) -> tuple[Float[np.ndarray, " d"], float]:
        """Mean of the images, and of their square norm."""
        totals = image_moments(self.problem.x0)
        num_images = len(self.problem.x0)
        return totals["clean"] / num_images, float(totals["square"][0]) / num_images

    def evidence(self, merged: BatchSums, name: str) -> Evidence:
        """What the draws say about the model, from blocks of cells: one has too few for an error bar."""
        levels = self.levels()
        first = [
            block[0] for block in np.array_split(np.arange(len(levels)), NUM_BLOCKS) if len(block)
        ]

        def mean(key: str) -> Estimate:
            def ratio(means: Means) -> np.ndarray:
                error, width = (np.add.reduceat(means[k], first) for k in (key, "cell width"))
                return error / np.maximum(width, 1e-12)

            return merged.evaluate(ratio)[0]

        errors = {
            f"{denoiser}, scalar": mean(f"cell {denoiser} error")
            for denoiser in ("labelled", "unconditional")
        }
        closure, _ = merged.evaluate(lambda m: (m["integral"] - m["mmse"])[first])
        return Evidence(
            levels[first], errors, budgets={"mmse": closure}, num_images=len(self.problem.x0)
        )

    def curve(self, merged: BatchSums, name: str) -> EntropyCurve:
        """The curve of the single classes; the rate is the mean gap around each level.

        Raises:
            ValueError: If the partition groups classes, and as `BatchSums.evaluate`.
        """
        partition = self.problem.partitions[name]
        if not partition.is_trivial:
            raise ValueError(
                f"The sampled gap knows single classes only, and {name!r} groups them; use 'gap'."
            )
        total = self.problem.prior_entropy(partition)

        def rate(means: Means) -> np.ndarray:
            return means["cell gap"] / np.maximum(means["cell width"], 1e-12) / 2

        return merged.curve(
            -2 * np.log(self.levels()),
            lambda means: total - means["integral"],
            rate,
            total,
            METHOD,
        )
