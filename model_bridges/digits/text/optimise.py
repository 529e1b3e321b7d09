"""The two trainings behind the text-to-image model: autoencoder, then diffusion on its latents.

Losses: see `recipe`. How a run takes its steps, averages its weights and continues: `digits.run`.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model_bridges.denoisers.parametrisation import Schedule
from model_bridges.digits.data import Digits
from model_bridges.digits.text.captions import CAPTIONS, caption_tokenizer, draw_captions
from model_bridges.digits.text.data import to_pictures
from model_bridges.digits.text.recipe import ROLES, Recipe
from model_bridges.digits.training.optimise import augment, stratified
from model_bridges.digits.training.run import Report, Run, seed_step
from model_bridges.pipelines.schedules import alphas_cumprod

BANK_STREAM = len(ROLES)
ENCODE_BATCH = 256


def moved_pictures(
    digits: Digits, index: Int[Tensor, " B"], recipe: Recipe
) -> Float[Tensor, "B 1 32 32"]:
    """Pictures of training digits, each moved a little at random."""
    background = -digits.mean / digits.scale
    return to_pictures(digits, augment(digits.train_images[index], background, recipe))


def autoencoder_loss(
    autoencoder: Any, pictures: Float[Tensor, "B 1 32 32"], kl_weight: float
) -> Float[Tensor, ""]:
    """Squared error of a picture through a draw of its latents, and their divergence from N(0, 1)."""
    posterior = autoencoder.encode(pictures).latent_dist
    noise = torch.randn_like(posterior.mean)
    decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample
    divergence = (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean() / 2
    return (decoded - pictures).square().mean() + kl_weight * divergence


def train_autoencoder(
    recipe: Recipe,
    digits: Digits,
    checkpoint: Path,
    *,
    checkpoint_every: int = 500,
    report: Report | None = None,
) -> tuple[Any, float]:
    """The averaged autoencoder, its scaling factor set, and the seconds its steps took in all runs.

    Arguments and errors as `digits.optimise.train_network`.
    """

    def loss() -> Tensor:
        index = torch.randint(len(digits.train_images), (recipe.autoencoder_batch,))
        return autoencoder_loss(
            autoencoder, moved_pictures(digits, index, recipe), recipe.kl_weight
        )

    with torch.random.fork_rng(devices=[]):
        seed_step(recipe.seed, 0, 0)
        autoencoder = build_autoencoder(recipe).train()
        run = Run("autoencoder", 0, autoencoder, recipe, recipe.optimiser("autoencoder"))
        run.train(loss, checkpoint, checkpoint_every=checkpoint_every, report=report)
        averaged = build_autoencoder(recipe)
        averaged.load_state_dict(run.averaged())
        averaged.eval().requires_grad_(False)
        latents = latent_bank(averaged, recipe, digits)
        averaged.register_to_config(scaling_factor=round(float(1 / latents.std()), 6))
    return averaged, run.seconds


@torch.no_grad()
def latent_bank(
    autoencoder: Any, recipe: Recipe, digits: Digits
) -> Float[Tensor, "copies n 4 8 8"]:
    """Unscaled latents of every training digit, `copies` of it moved at random, each drawn once."""
    everything = torch.arange(len(digits.train_images))
    rows = []
    with torch.random.fork_rng(devices=[]):
        seed_step(recipe.seed, BANK_STREAM, 0)
        for _ in range(recipe.copies):
            pictures = moved_pictures(digits, everything, recipe)
            for part in pictures.split(ENCODE_BATCH):
                posterior = autoencoder.encode(part).latent_dist
                rows.append(posterior.mean + posterior.std * torch.randn_like(posterior.mean))
    shape = (recipe.copies, len(everything), *rows[0].shape[1:])
    return torch.cat(rows).reshape(shape)


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


def train_diffusion(
    recipe: Recipe,
    digits: Digits,
    autoencoder: Any,
    checkpoint: Path,
    *,
    checkpoint_every: int = 250,
    report: Report | None = None,
) -> tuple[Any, Any, Any, float]:
    """The averaged UNet and text encoder, the tokenizer, and the seconds the steps took in all runs.

    Arguments and errors as `digits.optimise.train_network`.
    """
    tokenizer = caption_tokenizer(recipe.text_encoder["max_position_embeddings"])
    tokens = tokenizer(list(CAPTIONS), padding="max_length", return_tensors="pt").input_ids
    schedule = Schedule.from_alphas_cumprod(alphas_cumprod(recipe.scheduler()))
    log_sigma = torch.from_numpy(schedule.log_sigma)
    levels = torch.tensor(recipe.level_weights)
    bank = latent_bank(autoencoder, recipe, digits) * autoencoder.config.scaling_factor

    def loss() -> Tensor:
        batch = recipe.batch_size
        index = torch.randint(bank.shape[1], (batch,))
        latents = bank[torch.randint(len(bank), (batch,)), index]
        time = stratified(batch) * (len(log_sigma) - 1)
        below = time.long().clamp(max=len(log_sigma) - 2)
        sigma = torch.lerp(log_sigma[below], log_sigma[below + 1], time.double() - below)
        captions = draw_captions(digits.train_labels[index], levels)
        embedding = networks["text_encoder"](tokens)[0][captions]
        return velocity_loss(networks["unet"], latents, time, sigma.exp().float(), embedding)

    with torch.random.fork_rng(devices=[]):
        seed_step(recipe.seed, 1, 0)
        networks = build_networks(recipe, tokenizer, dropout=recipe.dropout).train()
        run = Run("diffusion", 1, networks, recipe, recipe.optimiser("diffusion"))
        run.train(loss, checkpoint, checkpoint_every=checkpoint_every, report=report)
        averaged = build_networks(recipe, tokenizer)
    averaged.load_state_dict(run.averaged())
    averaged.eval().requires_grad_(False)
    return averaged["unet"], averaged["text_encoder"], tokenizer, run.seconds


def build_autoencoder(recipe: Recipe) -> Any:
    """A fresh autoencoder of the recipe's configuration."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**recipe.autoencoder)


def build_networks(recipe: Recipe, tokenizer: Any, dropout: float = 0.0) -> nn.ModuleDict:
    """A fresh UNet and text encoder of the recipe's configurations."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    configuration = CLIPTextConfig(
        **recipe.text_encoder,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet: Any = UNet2DConditionModel(**recipe.unet, dropout=dropout)
    return nn.ModuleDict({"unet": unet, "text_encoder": CLIPTextModel(configuration)})
