"""Class-against-class tracking on forward-noised data.

A noised image `x_i = x_{i-1} + sqrt(sigma_i^2 - sigma_{i-1}^2) n`, read from sigma_max down, is a
path of the reverse chain of its own class, so tracking needs no generation. From `x` at `t` to `x'`
at `t' < t` the chain of class c has the kernel `N(mu_c, s^2 I)` with

    mu_c = (t'^2 / t^2) x + (1 - t'^2 / t^2) D_c(x; t),    s^2 = (t^2 - t'^2) t'^2 / t^2,

and Bayes' rule moves the class posterior by

    log p_c <- log p_c - [|x' - mu_c|^2 - |x' - mu_ref|^2] / (2 s^2) + const.

It starts from the prior at sigma_max; what x tells there already, about `E|D_c - Dbar|^2 / (2
sigma_max^2)` nats, is left out. `N(mu_c, s^2 I)` leaves out the posterior spread of x_0 inside a step,
so averages err to first order in the step of log sigma. A second chain over every other level, from the
same outputs, errs by twice as much: `2 fine - coarse` removes the first order from every average over
images (Talay & Tubaro 1990), and costs no evaluation of the model. The distances between the denoisers
come from the same outputs too.

Sources: Koulischer et al. 2025 (arXiv 2410.14398, 2506.06085) for the kernel; every class against
every other, on data, here.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from gmm_speciation.checks import as_count, as_values
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.progress import Parts, Progress, listening
from model_bridges.denoisers.arrays import Images, Labels, as_states
from model_bridges.denoisers.base import UNCONDITIONAL, Denoiser, NotFiniteError, class_raw, own_raw
from model_bridges.denoisers.checks import check_data, check_levels, check_named, class_weights
from model_bridges.denoisers.devices import brought
from model_bridges.tracking.distances import Outputs, distances, step_between
from model_bridges.tracking.elimination import among_kept, candidates, moved_on
from model_bridges.tracking.tracked import Chain, TrackedPosterior

A_THREAD = 2**16  # numbers worth one


def forward_paths(
    x0: Float[Tensor, "B *event"], sigmas: Float[np.ndarray, " L"], seed: int, first: int = 0
) -> Float[Tensor, "L B *event"]:
    """States of each image at increasing noise levels, by independent increments, in float64.

    The noise depends on `seed` and the index of the image alone, `first` being that of the first.
    """
    noise = np.empty((len(x0), len(sigmas), *x0.shape[1:]))

    def draw(index: int) -> None:
        np.random.default_rng([seed, first + index]).standard_normal(out=noise[index])

    # An accelerator waits for these numbers; numpy draws them without Python's lock.
    workers = min(torch.get_num_threads(), noise.size // A_THREAD)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(draw, range(len(x0))))
    else:
        for index in range(len(x0)):
            draw(index)
    steps = torch.from_numpy(np.sqrt(np.diff(sigmas**2, prepend=0.0)))
    apart = torch.from_numpy(noise).to(x0.device).swapaxes(0, 1)
    apart *= steps.to(x0.device).reshape(-1, *(1,) * x0.ndim)
    return x0.double() + apart.cumsum(0)


@torch.no_grad()
def track(
    denoiser: Denoiser,
    x0: Images,
    labels: Labels | None = None,
    *,
    sigmas: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    partitions: Mapping[str, Partition | Sequence[int]] | None = None,
    num_paths: int = 1,
    seed: int = 0,
    first: int = 0,
    max_batch: int = 1024,
    progress: Progress | Parts | None = None,
    paths: Float[Tensor, "L N *event"] | Float[np.ndarray, "L N *event"] | None = None,
    drop_below: float = 0.0,
) -> TrackedPosterior:
    """Track every image through the noise, all classes at once, in one pass over the model.

    Memory: the outputs of all classes for one chunk of `max(1, max_batch // K)` images, and the
    path of that chunk. The result does not depend on `max_batch`.

    Args:
        denoiser: The model. One shared noise serves all classes and the unconditional part.
        x0: Clean data.
        labels: True classes, for the cross-entropy and the distances that need them.
        sigmas: Noise levels, monotone, at least two; 64 by default, equally spaced in log sigma
            over the model's range.
        prior: Class weights `(K,)`; by default the model's `class_prior`, else equal.
        partitions: Named groupings of the classes whose gap is measured too.
        num_paths: Noise paths of each image; more of them shrink the errors as far as the images allow.
        seed: Together with the index of image and path it fixes the noise.
        first: Index of the first image, for a part of a larger set.
        max_batch: Largest batch given to the network.
        progress: Told of the steps that are done; a `Progress`, or a function `(done, in all)`.
        paths: States to track along, in the order of increasing levels, in place of noised images.
        drop_below: Classes of a path are left out from where their posterior falls below it
            (`elimination`); 0 keeps all.

    Raises:
        ValueError: If a shape, a level, a label, the prior or a partition does not fit, `num_paths < 1`, or
            `drop_below` is no bound of K probabilities, in [0, 1 / K).
        NotFiniteError: If the network gives NaN or infinity; names level, class, image and dtype.
    """
    weights = class_weights(prior, denoiser)
    levels = check_levels(sigmas, denoiser.sigma_range)
    num_classes = denoiser.num_classes
    check_named(partitions or {})
    chosen = {n: as_partition(p, num_classes) for n, p in (partitions or {}).items()}
    x0, labels = check_data(denoiser, x0, labels)
    num_paths, max_batch = as_count(num_paths, "num_paths"), as_count(max_batch, "max_batch")
    seed = as_count(seed, "seed", 0)
    drop_below = float(
        as_values(
            drop_below,
            "drop_below",
            f"lie in [0, {1 / num_classes:.3g}), below equal odds of {num_classes} classes",
            lambda share: (share >= 0) & (share < 1 / num_classes),
        )
    )
    x0 = x0.repeat_interleave(num_paths, 0)
    labels = None if labels is None else labels.repeat_interleave(num_paths)
    if paths is not None:
        paths = as_states(paths, "`paths`")
        if paths.shape != (len(levels), *x0.shape):
            raise ValueError(
                f"`paths` must hold every image at every level, {(len(levels), *x0.shape)}; got "
                f"{tuple(paths.shape)}."
            )
    step = max(1, max_batch // num_classes)
    starts = range(0, len(x0), step)
    pieces: list[dict[str, np.ndarray]] = []
    told = listening(progress)
    for done, start in enumerate(starts):
        chunk = slice(start, start + step)
        clean, rows = brought(denoiser, x0[chunk]).double(), []
        tracked = _track(
            denoiser,
            forward_paths(clean, levels, seed, first * num_paths + start)
            if paths is None
            else brought(denoiser, paths[:, chunk]).double(),
            clean,
            None if labels is None else labels[chunk].to(clean.device).long(),
            levels,
            torch.from_numpy(weights).log().to(clean.device),
            chosen,
            max_batch,
            drop_below,
        )
        try:
            for row in tracked:
                rows.append(row)
                told.part(done * len(levels) + len(rows), len(starts) * len(levels))
        except NotFiniteError as error:  # named by its place among all images, not in the batch
            raise error.at(first + (start + error.image) // num_paths) from None
        pieces.append({k: torch.stack([r[k] for r in rows[::-1]]).cpu().numpy() for k in rows[0]})
    parts = {k: np.concatenate([piece[k] for piece in pieces], axis=1) for k in pieces[0]}

    def chain(name: str) -> Chain:
        return Chain(
            log_posterior=parts[f"{name} log_posterior"],
            bayes_gap=parts[f"{name} bayes_gap"],
            bayes_error=parts[f"{name} bayes_error"],
            excess=parts.get(f"{name} excess"),
            group_gaps={n: parts[f"{name} group {n}"] for n in chosen},
        )

    return TrackedPosterior(
        sigmas=levels,
        fine=chain("fine"),
        coarse=chain("coarse"),
        prior=weights,
        labels=None if labels is None else labels.cpu().numpy(),
        label_error=parts.get("label_error"),
        labelled_gap=parts.get("labelled_gap"),
        unconditional_error=parts.get("unconditional_error"),
        log_ratio=parts.get("log_ratio"),
        partitions=chosen,
        provenance=denoiser.provenance,
        seed=seed,
        evaluations=int(parts["evaluated"].sum()),
        num_paths=num_paths,
        kept=parts.get("kept"),
    )


def _track(
    denoiser: Denoiser,
    path: Float[Tensor, "L B *event"],
    clean: Float[Tensor, "B *event"],
    labels: Int[Tensor, " B"] | None,
    levels: Float[np.ndarray, " L"],
    log_prior: Float[Tensor, " K"],
    partitions: Mapping[str, Partition],
    max_batch: int,
    drop_below: float = 0.0,
) -> Iterator[dict[str, Tensor]]:
    """What each level says about one chunk, from sigma_max down."""
    top = len(levels) - 1
    fine = torch.log_softmax(log_prior.expand(len(clean), -1), 1)
    coarse = {top: fine}
    ratio = torch.zeros_like(fine)  # of every class to the unconditional model
    kept = torch.ones_like(fine, dtype=torch.bool)
    for i in range(top, -1, -1):
        x, sigma = path[i], float(levels[i])
        skip, out = (float(c) for c in denoiser.coefficients(sigma))
        chains = among = {"fine": fine, "coarse": coarse.pop(i)}
        wanted = None
        if drop_below > 0:
            kept = candidates(kept, list(chains.values()), drop_below)
            among = {name: among_kept(chain, kept) for name, chain in chains.items()}
            wanted = kept if labels is None else kept.scatter(1, labels[:, None], True)
        raw = class_raw(denoiser, x, sigma, max_batch=max_batch, wanted=wanted)
        free = None
        if denoiser.has_unconditional:
            free = own_raw(denoiser, x, sigma, UNCONDITIONAL)
        # To the next level, and to that after it for the coarse chain.
        ahead = [j for j in (i - 1, i - 2) if j >= 0]
        steps = [step_between(x, path[j], skip, sigma, float(levels[j])) for j in ahead]
        outputs = Outputs(raw, out, clean - skip * x, free, labels)
        found = distances(outputs, among, partitions, steps)
        moved = [found.pop(f"step {place}") for place in range(len(steps))]
        moved_free = [found.pop(f"free step {place}", None) for place in range(len(steps))]
        found |= {f"{name} log_posterior": chain for name, chain in chains.items()}
        evaluated = torch.full_like(fine[:, 0], raw.shape[0]) if wanted is None else wanted.sum(1)
        found["evaluated"] = evaluated + denoiser.has_unconditional
        yield (
            found
            | ({} if free is None or wanted is not None else {"log_ratio": ratio})
            | ({} if wanted is None else {"kept": kept})
        )
        if i > 0:
            fine = moved_on(chains["fine"], moved[0], kept)
            if moved_free[0] is not None:
                ratio = ratio + moved[0] - moved_free[0][:, None]
        if i == top:
            coarse[i - 1] = fine  # the other coarse chain starts with one fine step
        if i > 1:
            coarse[i - 2] = moved_on(chains["coarse"], moved[1], kept)
