"""`model-bridges crosscheck | entropy | windows | guidance | remove | paper | train | convert | show`.

torch and JAX load inside a command, so `--help` is fast; commands compute in double precision where
precision is asked for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

import gmm_speciation
from gmm_speciation.cli.show import show
from gmm_speciation.lookup import pick
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.terminal import Quiet, Seed
from model_bridges.cli.crosscheck import crosscheck
from model_bridges.cli.entropy import entropy, windows
from model_bridges.cli.guidance import guidance, remove
from model_bridges.cli.paper import paper

app = terminal.application(
    "model-bridges",
    gmm_speciation.__version__,  # type: ignore[attr-defined]
    "Trained diffusion models against the theory of speciation.",
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="digits or digits-text.")]


@app.command(
    examples="""
model-bridges train digits --out out/digits  # nine minutes on two idle cores
model-bridges train digits-text --out out/digits-text
"""
)
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
    note = f"Networks: {result.weights}\nCard: {result.card}"
    record = {"weights": result.weights, "card": result.card}
    terminal.finish({}, lambda: (None, record), None, quiet, note=note)


@app.command(
    examples="""
model-bridges convert edm2-img512-xs-2147483-0.045.pkl cond.safetensors
"""
)
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
    note = (
        f"{target}: {len(read.state_dict)} tensors of {read.name}\n"
        f"SHA-256 of {read.name}: {read.sha256}\n{read.licence}"
    )
    record = {"target": target, "tensors": len(read.state_dict), "sha256": read.sha256}
    terminal.finish({}, lambda: (None, record), None, quiet, note=note)


EXAMPLES = {
    crosscheck: """
model-bridges crosscheck digits --out out/crosscheck
model-bridges crosscheck my_module:denoiser --data pictures --train-data more --out out/mine
""",
    entropy: """
model-bridges entropy digits --images 32 --folder out/run --out out/entropy
model-bridges entropy my_module:denoiser --generate 64 --partition '0, 1 | 2, 3'
model-bridges entropy digits --folder out/run --cluster tcp://host:8786
model-bridges entropy sd:PATH --prompt 'a cat' --prompt 'a dog' --generate 64 --folder run
""",
    windows: """
model-bridges windows digits --images 96
model-bridges windows digits --images 96 --mass 0.5 --out windows.json
model-bridges windows digits-text --images 96 --scheduler DDIMScheduler --steps 50
""",
    guidance: """
model-bridges guidance digits --out out/guidance  # fifteen processor minutes
model-bridges guidance digits --section intervals --scale 3
""",
    remove: """
model-bridges remove digits --class 7 --out out/remove  # ten processor minutes
model-bridges remove digits --kind DNG --kind NP --strengths 0.5,1,2
""",
    paper: """
model-bridges paper handke2026 --quick --out out/handke2026
model-bridges paper handke2026 --edm2 cond.safetensors,uncond.safetensors --plan
model-bridges paper koulischer2025 --model my_module:denoiser --data MNIST --folder run
""",
}
for command, examples in EXAMPLES.items():
    app.command(examples=examples)(command)
app.command(examples="model-bridges show out/crosscheck")(show)
