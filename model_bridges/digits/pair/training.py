"""Training of the pair: loss, weights and card.

The weights are `digits.safetensors`, both networks under the prefixes `conditional.` and `unconditional.`
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model_bridges.checkpoints.tensors import write_tensors
from model_bridges.digits.data import NUM_CLASSES, Digits
from model_bridges.digits.pair.recipe import METADATA_KEY, PairRecipe
from model_bridges.digits.training.batches import stratified
from model_bridges.digits.training.card import Page, file_facts, generated_lines, num_parameters
from model_bridges.digits.training.evaluate import GeneratedQuality, denoising_loss, generate, judge
from model_bridges.digits.training.train import LICENCE, Training
from model_bridges.edm2 import EDM2Network

WEIGHTS_NAME = "digits.safetensors"


def edm2_loss(
    network: EDM2Network,
    clean: Float[Tensor, "B *event"],
    noise: Float[Tensor, "B *event"],
    sigma: Float[Tensor, " B"],
    labels: Int[Tensor, " B"] | None,
) -> Float[Tensor, ""]:
    """Mean of `lambda e^{-u} |D - x_0|^2 / pixels + u` over a batch (see `recipe`)."""
    denoised = network(clean + sigma[:, None, None, None] * noise, sigma, labels)
    weight = (sigma**2 + network.sigma_data**2) / (sigma * network.sigma_data) ** 2
    error = weight * (denoised - clean).square().mean((1, 2, 3))
    logvar = network.logvar(sigma)
    return (error * torch.exp(-logvar) + logvar).mean()


def generated_quality(
    network: EDM2Network,
    digits: Digits,
    sigma_range: tuple[float, float],
    *,
    per_class: int = 100,
    seed: int = 0,
) -> GeneratedQuality:
    """Generate `per_class` digits of every class and judge them."""
    labels = torch.arange(NUM_CLASSES).repeat_interleave(per_class)
    shape = (len(labels), *digits.train_images.shape[1:])
    return judge(generate(network, shape, sigma_range, labels, seed=seed), labels, digits)


class PairTraining(Training):
    """The conditional and the unconditional network, apart from each other."""

    name = "digits: a pair of small EDM2 denoisers of 8 x 8 handwritten digits"
    packages = ("torch", "numpy", "scikit-learn", "safetensors")

    recipe: PairRecipe

    def build(self, role: str, dropout: float = 0.0) -> EDM2Network:
        return EDM2Network(**self.recipe.network_kwargs(role), dropout=dropout)

    def loss(self, role: str, network: EDM2Network) -> Callable[[], Tensor]:
        digits, recipe = self.digits, self.recipe

        def loss() -> Tensor:
            index = torch.randint(len(digits.train_images), (recipe.batch_size,))
            clean = self.moved(index)
            labels = digits.train_labels[index] if role == "conditional" else None
            uniform = stratified(recipe.batch_size).double().clamp(1e-9, 1 - 1e-9)
            normal = torch.special.ndtri(uniform).float()
            sigma = torch.exp(recipe.log_sigma_mean + recipe.log_sigma_std * normal)
            return edm2_loss(network, clean, torch.randn_like(clean), sigma, labels)

        return loss

    def write(self, folder: Path) -> Path:
        recipe, path = self.recipe, folder / WEIGHTS_NAME
        tensors = {
            f"{role}.{name}": value
            for role, network in self.networks.items()
            for name, value in network.state_dict().items()
        }
        fields = {
            "licence": LICENCE,
            "network_kwargs": {role: recipe.network_kwargs(role) for role in recipe.roles},
            "mean": self.digits.mean,
            "scale": self.digits.scale,
            "sigma_range": recipe.sigma_range,
            "recipe": recipe.to_dict(),
            "recipe_sha256": recipe.fingerprint(),
        }
        # One entry: safetensors writes several in random order, and equal runs should give equal files.
        write_tensors(path, tensors, {METADATA_KEY: json.dumps(fields, sort_keys=True)})
        return path

    def judge(self, weights: Path, per_class: int) -> tuple[GeneratedQuality, dict]:
        recipe, digits = self.recipe, self.digits
        parts = {
            "train": (digits.train_images, digits.train_labels),
            "held_out": (digits.held_out_images, digits.held_out_labels),
        }
        losses = {
            role: {
                part: denoising_loss(network, images, labels if network.label_dim > 0 else None)
                for part, (images, labels) in parts.items()
            }
            for role, network in self.networks.items()
        }
        conditional = self.networks["conditional"]
        quality = generated_quality(
            conditional, digits, recipe.sigma_range, per_class=per_class, seed=recipe.seed
        )
        return quality, losses

    def facts(self, weights: Path) -> dict:
        architecture = {
            "source": "EDM2, configuration G (Karras et al., 2024, arXiv 2312.02696)",
            "network_kwargs": {role: self.recipe.network_kwargs(role) for role in self.networks},
            "parameters": {role: num_parameters(net) for role, net in self.networks.items()},
        }
        return {"file": file_facts(weights), "architecture": architecture}

    @staticmethod
    def page(card: dict) -> Page:
        data, file, parameters = card["data"], card["file"], card["architecture"]["parameters"]
        return Page(
            files=[f"`{file['name']}`, {file['bytes']:,} bytes, SHA-256 `{file['sha256']}`."],
            states=[
                f"Images are (pixels - {data['mean']:.6f}) / {data['scale']:.6f}: mean 0, standard "
                "deviation 0.5 over the training pixels."
            ],
            networks=[
                f"- {role}: {num:,} parameters, {card['recipe'][f'{role}_steps']} steps in "
                f"{card['training_seconds'][role]:.0f} s"
                for role, num in parameters.items()
            ],
            seed=f"Seed {card['seed']}.",
            remark=[
                "The default recipe is one of about six that were compared by their calibration on "
                "the held-out images; figures on these images are therefore not an untouched test.",
                "",
            ],
            loss="Weighted squared error per pixel, `(sigma^2 + 0.25) / (0.5 sigma)^2 |D - x_0|^2 / 64`.",
            generated=["## Generated digits", "", *generated_lines(card["generated"])],
        )
