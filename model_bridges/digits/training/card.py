"""The card that travels with trained weights: what they are, how they came about, how good.

Parts of the plain JSON data of a finished run, and the page made of them. Nothing in a card is typed by
hand.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from model_bridges.digits.data import SPLIT_SEED, Digits

DATA_SOURCE = (
    "UCI Optical Recognition of Handwritten Digits, test part (E. Alpaydin and C. Kaynak, 1998, "
    "CC BY 4.0), as carried by scikit-learn (sklearn.datasets.load_digits)"
)


@dataclass(frozen=True)
class Page:
    """What a card's page says of one model alone, in lines; the rest is the same for all."""

    files: list[str]
    states: list[str]  # what its images are
    networks: list[str]
    seed: str
    remark: list[str]  # on the recipe
    loss: str
    generated: list[str]


def render_card(card: dict, own: Page) -> str:
    """The card as a Markdown page."""
    lines = [f"# {card['name']}", ""]
    lines += [f"Licence of the weights: {card['licence']}.", ""]
    lines += [*own.files, "", *data_lines(card["data"]), *own.states, ""]
    lines += ["## Networks", "", f"{card['architecture']['source']}.", "", *own.networks, ""]
    lines += ["## Recipe", "", own.seed, "", *own.remark, *recipe_lines(card)]
    lines += ["## Denoising loss per noise level", "", own.loss, ""]
    lines += [*loss_lines(card["loss_per_sigma"]), "", *own.generated]
    return "\n".join(lines) + "\n"


def file_facts(path: Path, name: str | None = None) -> dict:
    """Name, size and SHA-256 of a written file."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"name": name or path.name, "bytes": len(content), "sha256": digest}


def data_facts(digits: Digits) -> dict:
    """Source, split and standardisation of the digits."""
    return {
        "source": DATA_SOURCE,
        "train": _part(digits.train_images, digits.train_labels),
        "held_out": _part(digits.held_out_images, digits.held_out_labels),
        "split": f"stratified by class, a fifth held out, split seed {SPLIT_SEED}",
        "mean": digits.mean,
        "scale": digits.scale,
    }


def loss_facts(losses: dict[str, dict[str, dict[float, float]]]) -> dict:
    """Losses by kind, part of the data and noise level."""
    return {
        kind: {
            part: [{"sigma": sigma, "loss": loss} for sigma, loss in values.items()]
            for part, values in parts.items()
        }
        for kind, parts in losses.items()
    }


def num_parameters(network: torch.nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def data_lines(data: dict) -> list[str]:
    """Section of a page: where the digits come from."""
    return [
        "## Data",
        "",
        f"{data['source']}.",
        "",
        f"{data['train']['num_images']} training and {data['held_out']['num_images']} held-out "
        f"images, {data['split']}.",
        "",
    ]


def recipe_lines(card: dict) -> list[str]:
    """Lines of a page: settings, versions, machine."""
    machine = card["machine"]
    return [
        *table(("setting", "value"), list(card["recipe"].items())),
        "",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in card["versions"].items()) + ".",
        f"Machine: {machine['platform']}, {machine['threads']} threads.",
        "",
    ]


def loss_lines(losses: dict) -> list[str]:
    """Table of losses by noise level, one column a role and part of the data."""
    columns = [(role, part) for role in losses for part in losses[role]]
    series = [losses[role][part] for role, part in columns]
    rows = [
        (f"{row[0]['sigma']:g}", *(f"{entry['loss']:.4f}" for entry in row))
        for row in zip(*series, strict=True)
    ]
    head = [f"{role}, {part.replace('_', '-')}" for role, part in columns]
    return table(("sigma", *head), rows)


def generated_lines(generated: dict) -> list[str]:
    """Lines of a page: what the independent classifier and the nearest neighbours say."""
    quantiles = ("quantile_05", "median", "quantile_95")
    return [
        f"{generated['num_generated']} digits, the same number of each class; sampler: "
        f"{generated['sampler']}. An independent classifier (support vector machine, "
        f"{generated['classifier_held_out_accuracy']:.1%} right on held-out real digits) names "
        f"{generated['recognised']:.1%} as the class asked for; "
        f"{generated['num_classes_present']} classes are present.",
        "",
        *table(
            ("class", "recognised"),
            [(c, f"{share:.0%}") for c, share in enumerate(generated["recognised_per_class"])],
        ),
        "",
        "Distance to the nearest training image (Euclidean, standardised units):",
        "",
        *table(
            ("images", "5 %", "median", "95 %"),
            [
                (name, *(f"{generated[key][q]:.3f}" for q in quantiles))
                for name, key in (
                    ("generated", "generated_distance"),
                    ("held-out real", "held_out_distance"),
                )
            ],
        ),
    ]


def _part(images: torch.Tensor, labels: torch.Tensor) -> dict:
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes())
    counts = torch.bincount(labels).tolist()
    return {"num_images": len(labels), "per_class": counts, "sha256": digest.hexdigest()}


def table(head: tuple, rows: list[tuple]) -> list[str]:
    """A Markdown table."""
    body = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in body]
