"""`model-bridges crosscheck`: a model by every estimator, with the closed-form theory beside it."""

import warnings
from typing import Annotated, Any

from gmm_speciation.reporting import terminal

# isort: split
import typer

from gmm_speciation.lookup import pick
from gmm_speciation.reporting.terminal import Out
from model_bridges.cli.options import PACKAGES, Request, with_options
from model_bridges.cli.planning import show_plan

COVARIANCES = ("isotropic", "diagonal", "full")


def _check(request: Request, *, covariance: str | None, **_: Any) -> Request:
    """The request; what no model makes possible is refused."""
    if covariance is not None:
        pick(covariance, dict.fromkeys(COVARIANCES), "covariance")
    _settings(request, covariance)
    return request


def _settings(request: Request, covariance: str | None) -> Any:
    from model_bridges.crosscheck.study import Settings

    given = {"num_levels": request.levels, "num_paths": request.paths}
    return Settings(
        **{name: value for name, value in given.items() if value is not None},
        covariance=covariance,
        seed=request.seed,
    )


def _load(request: Request, **_: Any) -> None:
    from model_bridges.cli.inputs import studied_model

    studied_model(request, split=True)


@with_options(Request, _check, _load)
def crosscheck(
    request: Request,
    *,
    covariance: Annotated[
        str | None,
        typer.Option(
            help="Of the theory's mixture: isotropic, diagonal or full; by default the model's own "
            "choice, else the likeliest of these and of low ranks."
        ),
    ] = None,
    out: Out = None,
) -> None:
    """Class entropy of a trained model by every estimator, with the closed-form theory beside it."""
    terminal.use_float64()
    from gmm_speciation.reporting.claims import check_rows
    from gmm_speciation.reporting.tables import ERRORS
    from gmm_speciation.reporting.trust import TrustWarning, trust_rows
    from model_bridges.cli.inputs import chosen, own_rank, studied_model, with_samples
    from model_bridges.crosscheck.frames import frames
    from model_bridges.crosscheck.report import (
        chosen_images,
        crosscheck_record,
        crosscheck_report,
        pairs_rows,
        points_rows,
        summary_rows,
        tree_rows,
    )
    from model_bridges.crosscheck.study import crosscheck_model

    terminal.check_place(out)
    settings = _settings(request, covariance)
    rank = own_rank(request)
    with terminal.progress(quiet=request.quiet, shown=rank == 0) as bar:
        bar.step("loading the model")
        model = studied_model(request, split=True, say=bar.say)
        model, partitions, _ = chosen(
            model, request.partition, request.max_classes, seed=request.seed, say=bar.say
        )
        least = 2 * model.denoiser.num_classes
        if request.generate is not None and request.generate < least:
            raise ValueError(
                f"Generate at least {least} images, every class twice; got {request.generate}."
            )
        if request.plan:
            plan = _plan(model, partitions, request, settings, bar)
            show_plan(plan, request)
            return
        model = with_samples(model, request, bar, split=True)
        model = model.first(request.images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrustWarning)  # printed in full
            result = crosscheck_model(
                model,
                partitions=partitions,
                settings=settings,
                folder=request.folder,
                progress=bar,
            )
    if rank > 0:  # the first process of a launch reports for all
        return
    names = list(model.class_names)

    def write() -> tuple[Any, dict[str, Any]]:
        title = f"Cross-check of the {model.name} model on {result.law}"
        record = crosscheck_record(result)
        arguments = vars(request) | vars(settings)
        record["provenance"] = terminal.stamp(request.seed, arguments, PACKAGES)
        images = model.states(model.averaged, settings.seed).images
        shown = None
        if images.shape == result.pictures.shape:  # latents are shown as what they decode to
            chosen = chosen_images(result)
            shown = frames(model.denoiser, images, result.posterior, chosen, names)
        return crosscheck_report(result, title, names, model.units, shown), record

    tables = {
        f"{model.name}, {result.law}; noise σ, {model.units}": summary_rows(result),
        "checks": check_rows(result.checks),
        "trust; checks that are not a plain yes": trust_rows(result.trusts),
        "half-entropy points λ of all pairs of classes": pairs_rows(result),
        "told apart from the outside in": tree_rows(result, names),
        f"speciation criteria of the {result.main.name}": points_rows(result.main),
    }
    terminal.finish(tables, write, out, request.quiet, note=ERRORS, narrow=True)


def _plan(model: Any, partitions: dict[str, Any], request: Request, settings: Any, bar: Any) -> Any:
    """The plan of the tracking pass, and of the samples that it averages over."""
    import numpy as np

    from model_bridges.cli.planning import plan_jobs, unseen
    from model_bridges.crosscheck.tracked_job import TrackedJob
    from model_bridges.entropy.problem import problem

    if request.generate is None:
        found = model.first(request.images)
        data = model.states(found.averaged, request.seed)
        states, labels = data.images, data.labels
    else:  # half of the samples are fitted, unless something else is
        fitted = model.data is not None and model.data.train is not None
        count = request.generate if fitted else (request.generate + 1) // 2
        states, labels = unseen(model.denoiser, min(count, request.images or count), request.seed)
    bar.step("timing the network")
    low, high = map(float, model.denoiser.sigma_range)
    given = problem(
        model.denoiser,
        states,
        labels,
        sigmas=np.geomspace(low, high, settings.num_levels),
        partitions=partitions,
        seed=request.seed,
        max_batch=request.max_batch,
    )
    note = "Fitting the mixture, a classifier of noisy images and the theory's curves come on top"
    jobs = lambda p: {"tracking": TrackedJob(p, settings.num_paths)}  # noqa: E731
    return plan_jobs(request, given, jobs, request.generate, note)
