"""Pipelines of the released layout with tiny networks of random weights, written to a folder."""

import json
from pathlib import Path

import torch

PROMPTS = ("a cat", "a dog", "a red cat")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write_pipeline(folder: Path, *, prediction: str = "epsilon", **unet_options) -> Path:
    """UNet, autoencoder, text encoder, tokenizer and schedule, as `save_pretrained` writes them."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = letters_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, projection_dim=16,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    settings = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 1,
        "cross_attention_dim": 16, "attention_head_dim": 2, "norm_num_groups": 4,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel(**{**settings, **unet_options}).save_pretrained(folder / "unet")
        AutoencoderKL(
            in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(4, 8),
            layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=16,
            scaling_factor=0.25,
        ).save_pretrained(folder / "vae")  # fmt: skip
        CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type=prediction, clip_sample=False,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    return folder


def letters_tokenizer():
    """A CLIP tokenizer that spells: one token a letter."""
    from transformers import CLIPTokenizer

    tokens = [*LETTERS, *(f"{c}</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def rewrite_json(path: Path, **changes) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
