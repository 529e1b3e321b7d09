"""What removing a class evaluates, counted before it begins (`entropy.plan`)."""

from collections.abc import Mapping, Sequence

import torch

from model_bridges.control.removal import DOUBLINGS, STRENGTHS, chosen_kinds, make_kind
from model_bridges.denoisers.checks import class_weights
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.entropy.plan import WithoutNetwork, Work
from model_bridges.guidance import Guidance, Unguided
from model_bridges.samplers import karras_sigmas, sample
from model_bridges.studied import NUM_STEPS, StudiedModel


def removal_works(
    model: StudiedModel,
    removed: int,
    *,
    num_images: int = 500,
    num_steps: int = NUM_STEPS,
    strengths: Mapping[str, Sequence[float] | None] | None = None,
) -> list[Work]:
    """What the runs of `remove_class` evaluate, with as many doublings as there may be at most.

    Counted on one image of a model of the same classes without a network. Arguments as `remove_class`.
    """
    free = CountingDenoiser(WithoutNetwork(model.denoiser.denoiser))
    levels = karras_sigmas(num_steps, *free.sigma_range)
    shares = class_weights(None, free)

    def work(title: str, kind: Guidance, runs: int) -> Work:
        before = free.evaluations
        shape, generator = (1, *free.event_shape), torch.Generator().manual_seed(0)
        sample(free, shape, levels, guidance=kind, generator=generator)
        return Work(title, 0, runs * num_images * (free.evaluations - before), runs)

    works = [work("unguided", Unguided(), 1)]
    for name, grid in chosen_kinds(strengths, free.num_classes).items():
        runs = len(STRENGTHS[name]) + DOUBLINGS if grid is None else len(grid)
        most = "at most " if grid is None else ""
        kind = make_kind(name, 1.0, removed, shares)
        works.append(work(f"{name}, {most}{runs} strengths", kind, runs))
    return works
