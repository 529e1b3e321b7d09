"""Training of the text-to-image model: autoencoder, then diffusion on its latents; the pipeline and the card.

Losses: see `recipe`. The weights are a pipeline in the layout of diffusers, in float16.
"""

import os
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gmm_speciation.files import beside
from model_bridges.denoisers.parametrisation import Schedule
from model_bridges.digits.text import load_denoiser
from model_bridges.digits.text.captions import (
    ANY,
    CAPTIONS,
    PARITY,
    PROMPTS,
    caption_tokenizer,
    draw_captions,
)
from model_bridges.digits.text.data import to_pictures
from model_bridges.digits.text.evaluate import TextQuality, latent_losses, text_quality
from model_bridges.digits.text.recipe import TextRecipe
from model_bridges.digits.training.batches import stratified
from model_bridges.digits.training.card import (
    Page,
    file_facts,
    generated_lines,
    num_parameters,
    table,
)
from model_bridges.digits.training.run import derived_seed
from model_bridges.digits.training.train import Training
from model_bridges.pipelines.schedules import alphas_cumprod

ENCODE_BATCH = 256
PIPELINE = ("model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae")


def autoencoder_loss(
    autoencoder: Any, pictures: Float[Tensor, "B 1 32 32"], kl_weight: float
) -> Float[Tensor, ""]:
    """Squared error of a picture through a draw of its latents, and their divergence from N(0, 1)."""
    posterior = autoencoder.encode(pictures).latent_dist
    noise = torch.randn_like(posterior.mean)
    decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample
    divergence = (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean() / 2
    return (decoded - pictures).square().mean() + kl_weight * divergence


def velocity_loss(
    unet: Any,
    latents: Float[Tensor, "B 4 8 8"],
    time: Float[Tensor, " B"],
    sigma: Float[Tensor, " B"],
    embedding: Float[Tensor, "B S E"],
) -> Float[Tensor, ""]:
    """`|v_net - v|^2` per entry of the latents, with fresh noise."""
    signal = torch.rsqrt(1 + sigma**2)[:, None, None, None]
    noise_scale = sigma[:, None, None, None] * signal
    noise = torch.randn_like(latents)
    predicted = unet(
        signal * latents + noise_scale * noise, time, encoder_hidden_states=embedding
    ).sample
    return (predicted - (signal * noise - noise_scale * latents)).square().mean()


class TextTraining(Training):
    """The autoencoder, and the UNet with its text encoder on latents of it."""

    name = "digits-text: a small text-to-image model of handwritten digits"
    packages = ("torch", "diffusers", "transformers", "numpy", "scikit-learn", "safetensors")

    recipe: TextRecipe

    @cached_property
    def tokenizer(self) -> Any:
        return caption_tokenizer(self.recipe.text_encoder["max_position_embeddings"])

    def build(self, role: str, dropout: float = 0.0) -> Any:
        """The autoencoder, which has no dropout, or the UNet and the text encoder."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        if role == "autoencoder":
            return AutoencoderKL(**self.recipe.autoencoder)
        configuration = CLIPTextConfig(
            **self.recipe.text_encoder,
            vocab_size=len(self.tokenizer),
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        unet: Any = UNet2DConditionModel(**self.recipe.unet, dropout=dropout)
        return nn.ModuleDict({"unet": unet, "text_encoder": CLIPTextModel(configuration)})

    def loss(self, role: str, network: Any) -> Callable[[], Tensor]:
        return (self._autoencoder_loss if role == "autoencoder" else self._diffusion_loss)(network)

    def _autoencoder_loss(self, autoencoder: Any) -> Callable[[], Tensor]:
        num, batch = len(self.digits.train_images), self.recipe.autoencoder_batch

        def loss() -> Tensor:
            pictures = to_pictures(self.digits, self.moved(torch.randint(num, (batch,))))
            return autoencoder_loss(autoencoder, pictures, self.recipe.kl_weight)

        return loss

    def _diffusion_loss(self, networks: Any) -> Callable[[], Tensor]:
        recipe, labels = self.recipe, self.digits.train_labels
        tokens = self.tokenizer(list(CAPTIONS), padding="max_length", return_tensors="pt").input_ids
        schedule = Schedule.from_alphas_cumprod(alphas_cumprod(recipe.scheduler()))
        log_sigma = torch.from_numpy(schedule.log_sigma)
        levels = torch.tensor(recipe.level_weights)
        bank = self.latent_bank() * self.networks["autoencoder"].config.scaling_factor

        def loss() -> Tensor:
            batch = recipe.batch_size
            index = torch.randint(bank.shape[1], (batch,))
            latents = bank[torch.randint(len(bank), (batch,)), index]
            time = stratified(batch) * (len(log_sigma) - 1)
            below = time.long().clamp(max=len(log_sigma) - 2)
            sigma = torch.lerp(log_sigma[below], log_sigma[below + 1], time.double() - below)
            embedding = networks["text_encoder"](tokens)[0][draw_captions(labels[index], levels)]
            return velocity_loss(networks["unet"], latents, time, sigma.exp().float(), embedding)

        return loss

    def train_network(self, role: str, checkpoint: Path, **options: Any) -> Any:
        """As of every model; the autoencoder gets the scaling factor of its latents."""
        network = super().train_network(role, checkpoint, **options)
        if role == "autoencoder":
            scaling_factor = round(float(1 / self.latent_bank().std()), 6)
            network.register_to_config(scaling_factor=scaling_factor)
        return network

    @torch.no_grad()
    def latent_bank(self) -> Float[Tensor, "copies n 4 8 8"]:
        """Unscaled latents of every training digit, `copies` of it moved at random, each drawn once."""
        recipe, everything = self.recipe, torch.arange(len(self.digits.train_images))
        rows = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.seed, len(recipe.roles), 0))
            for _ in range(recipe.copies):
                pictures = to_pictures(self.digits, self.moved(everything))
                for part in pictures.split(ENCODE_BATCH):
                    posterior = self.networks["autoencoder"].encode(part).latent_dist
                    rows.append(posterior.mean + posterior.std * torch.randn_like(posterior.mean))
        return torch.cat(rows).unflatten(0, (recipe.copies, len(everything)))

    def parts(self) -> dict[str, Any]:
        """The networks by their names in a pipeline."""
        diffusion = self.networks["diffusion"]
        return {
            "unet": diffusion["unet"],
            "vae": self.networks["autoencoder"],
            "text_encoder": diffusion["text_encoder"],
        }

    def write(self, folder: Path) -> Path:
        """Write the parts in half precision, each moved into place whole."""
        from diffusers import DDPMScheduler, StableDiffusionPipeline

        pipeline: Any = StableDiffusionPipeline(
            **{name: network.half() for name, network in self.parts().items()},
            tokenizer=self.tokenizer,
            scheduler=DDPMScheduler(**self.recipe.scheduler()),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        with beside(folder / "pipeline") as temporary:
            pipeline.save_pretrained(temporary, safe_serialization=True)
            for name in PIPELINE:
                if (folder / name).is_dir():
                    shutil.rmtree(folder / name)
                os.replace(temporary / name, folder / name)
        return folder

    def judge(self, weights: Path, per_class: int) -> tuple[TextQuality, dict]:
        """Judged as it is shipped: read back, weights rounded to half precision."""
        denoiser = load_denoiser((*PROMPTS, *PARITY, ANY), weights)
        quality = text_quality(denoiser, self.digits, per_prompt=per_class, seed=self.recipe.seed)
        return quality, latent_losses(denoiser, self.digits)

    def facts(self, weights: Path) -> dict:
        files = pipeline_files(weights)
        return {
            "files": [file_facts(path, path.relative_to(weights).as_posix()) for path in files],
            "architecture": {
                "source": "latent diffusion (Rombach et al., 2022, arXiv 2112.10752) in the layout "
                "of diffusers: UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer",
                "parameters": {name: num_parameters(net) for name, net in self.parts().items()},
                "stored_as": "float16",
                "scaling_factor": float(self.networks["autoencoder"].config.scaling_factor),
            },
            "captions": list(CAPTIONS),
        }

    @staticmethod
    def page(card: dict) -> Page:
        architecture, generated, files = card["architecture"], card["generated"], card["files"]
        seconds = card["training_seconds"]
        hashes = [(f"`{f['name']}`", f"{f['bytes']:,}", f"`{f['sha256']}`") for f in files]
        captions = [
            (f'"{row["caption"]}"', row["num_generated"], f"{row['agreement']:.0%}", *row["digits"])
            for row in generated["captions"]
        ]
        parameters = architecture["parameters"].items()
        return Page(
            files=[
                *table(("file", "bytes", "SHA-256"), hashes),
                "",
                f"{sum(file['bytes'] for file in files):,} bytes in all.",
            ],
            states=[
                "Pictures are the digits brought to 32 x 32 by bicubic interpolation, in [-1, 1].",
                "",
                "Captions: " + ", ".join(f'"{text}"' for text in card["captions"]) + ".",
            ],
            networks=[
                *(f"- {name}: {num:,} parameters" for name, num in parameters),
                "",
                f"Stored in {architecture['stored_as']}; latents times "
                f"{architecture['scaling_factor']:g} have standard deviation 1 over the training "
                "pictures.",
            ],
            seed=f"Seed {card['seed']}. Autoencoder {seconds['autoencoder']:.0f} s, diffusion "
            f"{seconds['diffusion']:.0f} s.",
            remark=[],
            loss="Weighted squared error per entry of the latents, "
            "`(sigma^2 + 1) / sigma^2 |D - z|^2 / 256`.",
            generated=[
                "## Pictures of the ten prompts",
                "",
                *generated_lines({**generated["prompts"], "sampler": generated["sampler"]}),
                "",
                "## Pictures of the other captions",
                "",
                *table(("caption", "pictures", "caption is true", *range(10)), captions),
                "",
                "The last ten columns count the digits shown, by the classifier.",
                "",
                f"The autoencoder alone: held-out pictures come back with an error of "
                f"{generated['reconstruction_rms']:.3f} (root mean square, of [-1, 1]); the "
                f"classifier names {generated['reconstruction_accuracy']:.1%} of them right.",
            ],
        )


def pipeline_files(folder: Path) -> list[Path]:
    """Every file of the pipeline, in the order of its name."""
    paths = [path for name in PIPELINE for path in (folder / name, *(folder / name).glob("*"))]
    return sorted(path for path in paths if path.is_file())
