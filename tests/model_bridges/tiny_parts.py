"""Parts of tiny pipelines, of random weights: encoders that spell, an autoencoder, what steers a UNet."""

import diffusers
import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text_encoder(with_projection: bool = False, **options):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = letters_tokenizer()
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "projection_dim": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = CLIPTextConfig(**settings | options)
    return (CLIPTextModelWithProjection if with_projection else CLIPTextModel)(text)


def controlnet(unet):
    """A ControlNet for a UNet, with weights that say something."""
    from diffusers import ControlNetModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        made = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))
        for value in made.parameters():
            if not value.any():  # its last layers start at zero
                torch.nn.init.normal_(value, std=0.3)
    return made


def t5():
    """A T5 encoder and a tokenizer that spells."""
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = T5TokenizerFast(
        vocab=special + [(letter, -3.0) for letter in LETTERS], extra_ids=0, model_max_length=512
    )
    settings = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
    )
    return tokenizer, T5EncoderModel(settings)


def autoencoder(**options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
        **{"scaling_factor": 0.25, **options},
    )


def letters_tokenizer():
    """A CLIP tokenizer that spells: one token a letter."""
    from transformers import CLIPTokenizer

    tokens = [*LETTERS, *(f"{c}</w>" for c in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


def adapter(unet):
    """A T2I adapter, and a UNet like this one that it fits: it acts within blocks of attention."""
    blocks = ("CrossAttnDownBlock2D",) * 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        return {
            "adapter": diffusers.T2IAdapter(
                in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=2
            ),
            "unet": type(unet).from_config(unet.config, down_block_types=blocks),
        }
