"""`model-bridges crosscheck | entropy | windows | guidance | remove | train | convert` from the shell.

torch and JAX load inside a command, so `--help` is fast; commands compute in double precision where
precision is asked for.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import gmm_speciation
from gmm_speciation.lookup import pick
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.terminal import Out, Quiet, Seed
from model_bridges.cli.entropy import entropy, windows
from model_bridges.cli.guidance import guidance, remove

app = terminal.application(
    "model-bridges",
    gmm_speciation.__version__,  # type: ignore[attr-defined]
    "Trained diffusion models against the theory of speciation.",
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="digits or digits-text.")]
SHIPPED = {
    "digits": "data standard deviation 0.5",
    "digits-text": "latents of standard deviation 1",
}


@app.command()
def crosscheck(
    model: Model,
    data: Annotated[
        str,
        typer.Option(
            help="Distribution to average over: held-out, train, or a .npz of images and labels."
        ),
    ] = "held-out",
    generate: Annotated[
        int | None,
        typer.Option(metavar="N", help="Average over N images of the model's own instead."),
    ] = None,
    levels: Annotated[int, typer.Option(help="Noise levels, equally spaced in log sigma.")] = 40,
    paths: Annotated[int, typer.Option(help="Noise paths of each image.")] = 2,
    seed: Seed = 0,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Class entropy of a trained model by every estimator, with the closed-form theory beside it."""
    terminal.use_float64()
    units = pick(model, SHIPPED, "model")
    if generate is not None and data != "held-out":
        raise ValueError(
            "Give `--data` or `--generate`, not both: an average has one distribution."
        )
    from gmm_speciation.reporting.claims import check_rows
    from gmm_speciation.reporting.tables import ERRORS
    from model_bridges.crosscheck.digits import crosscheck_digits
    from model_bridges.crosscheck.report import (
        crosscheck_record,
        crosscheck_report,
        summary_rows,
    )
    from model_bridges.digits.subject import digits_subject
    from model_bridges.digits.text.subject import text_subject
    from model_bridges.entropy.trust import TrustWarning, trust_rows

    terminal.check_place(out)
    with terminal.progress(5, quiet) as steps, warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)  # printed in full
        result = crosscheck_digits(
            data,
            subject=digits_subject() if model == "digits" else text_subject(),
            generate=generate,
            num_levels=levels,
            num_paths=paths,
            seed=seed,
            progress=steps,
        )

    def write() -> tuple[Any, dict[str, Any]]:
        title = f"Cross-check of the {model} model on {result.law}"
        arguments = {"model": model, "data": data, "generate": generate}
        arguments |= {"levels": levels, "paths": paths}
        packages = ("torch", "diffusers", "transformers", "scikit-learn", "safetensors")
        record = crosscheck_record(result)
        record["provenance"] = terminal.stamp(seed, arguments, packages)
        names = [str(digit) for digit in range(10)]
        return crosscheck_report(result, title, names, units), record

    tables = {
        f"{model}, {result.law}; noise σ, {units}": summary_rows(result),
        "checks": check_rows(result.checks),
        "trust; checks that are not a plain yes": trust_rows(result.trusts),
    }
    terminal.finish(tables, write, out, quiet, note=ERRORS, narrow=True)


@app.command()
def train(
    model: Model,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the networks go.")],
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train the shipped networks again, with a card; continues where a killed run stopped."""
    from model_bridges.digits.pair.recipe import PairRecipe
    from model_bridges.digits.pair.training import PairTraining
    from model_bridges.digits.text.recipe import TextRecipe
    from model_bridges.digits.text.training import TextTraining
    from model_bridges.digits.training.train import Training
    from model_bridges.digits.training.train import train as train_networks

    trainings: dict[str, Callable[[], Training]] = {
        "digits": lambda: PairTraining(PairRecipe(seed=seed)),
        "digits-text": lambda: TextTraining(TextRecipe(seed=seed)),
    }
    training = pick(model, trainings, "model")()
    result = train_networks(training, out, progress=not quiet)
    terminal.show(f"Networks: {result.weights}\nCard: {result.card}", quiet)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN.pkl", help="Official EDM2 pickle.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The new file.")],
    sha256: Annotated[
        str | None, typer.Option(help="Refuse a pickle with another SHA-256.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Turn an official EDM2 pickle into safetensors; nothing in the pickle is run."""
    from model_bridges.checkpoints import convert as convert_checkpoint

    read = convert_checkpoint(source, target, expected_sha256=sha256)
    terminal.show(
        f"{target}: {len(read.state_dict)} tensors of {read.name}\n"
        f"SHA-256 of {read.name}: {read.sha256}\n{read.licence}",
        quiet,
    )


app.command()(entropy)
app.command()(windows)
app.command()(guidance)
app.command()(remove)
