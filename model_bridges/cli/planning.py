"""`--plan`: what a command will take, shown or as JSON. torch loads inside."""

from collections.abc import Callable
from typing import Any

from gmm_speciation.reporting import terminal
from model_bridges.cli.options import Request, Study


def show_plan(plan: Any, request: Study) -> None:
    """The tables of a plan, or its record."""
    tables = plan.tables()
    terminal.finish(tables, lambda: (None, plan.record()), None, request.quiet, narrow=True)
    if plan.note:
        terminal.show(f"{plan.note}.", request.quiet)


def unseen(denoiser: Any, num: int, seed: int) -> tuple[Any, Any]:
    """States and labels of samples that are not drawn yet: only their number and classes count."""
    import torch

    from model_bridges.entropy.own_samples import SamplingJob

    labels = SamplingJob(denoiser, num, seed=seed).labels()
    return torch.zeros(1, *denoiser.event_shape).expand(num, *denoiser.event_shape), labels


def sampling_work(denoiser: Any, num: int) -> Any:
    """Samples of the model."""
    from model_bridges.entropy.own_samples import SamplingJob
    from model_bridges.entropy.plan import Work

    job = SamplingJob(denoiser, num)
    return Work("samples", 0, num * job.num_steps, job.num_chunks)


def plan_jobs(
    request: Request,
    given: Any,
    jobs: Callable[[Any], dict[str, Any]],
    drawn: int | None,
    note: str = "",
) -> Any:
    """The plan of the jobs of a problem.

    Args:
        request: Batch and devices.
        given: The problem.
        jobs: Its jobs, by kind.
        drawn: Samples that are drawn before; None for none.
        note: What is not counted.
    """
    from model_bridges.entropy.plan import plan_of, planned

    def of(kind: str) -> Callable[[Any], Any]:
        return lambda problem: jobs(problem)[kind]

    works = [planned(kind, of(kind), given) for kind in jobs(given)]
    if drawn is not None:
        works = [sampling_work(given.denoiser, drawn), *works]
    return plan_of(works, given.denoiser, request.max_batch, request.devices, note)
