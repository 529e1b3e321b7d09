"""Pipelines of the released layout with tiny networks of random weights, written to a folder."""

import inspect
import json
import threading
from pathlib import Path

import diffusers
import torch
from tiny_parts import adapter, autoencoder, controlnet, letters_tokenizer, t5, text_encoder

PROMPTS = ("a cat", "a dog", "a red cat")
PARTS = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
    "scheduler": "DDPMScheduler",
}
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}
UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
XL_UNET = {
    "cross_attention_dim": 32,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
}


def write_pipeline(folder: Path, *, prediction: str = "epsilon", **unet_options) -> Path:
    """UNet, autoencoder, text encoder, tokenizer and schedule, as `save_pretrained` writes a pipeline."""
    from diffusers import DDPMScheduler, UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel(**{**UNET, **unet_options}).save_pretrained(folder / "unet")
        autoencoder().save_pretrained(folder / "vae")
        text_encoder().save_pretrained(folder / "text_encoder")
    letters_tokenizer().save_pretrained(folder / "tokenizer")
    DDPMScheduler(prediction_type=prediction, **SCHEDULE).save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1"}
    for part, kind in PARTS.items():
        index[part] = ["transformers" if "CLIP" in kind else "diffusers", kind]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def stable_diffusion(folder: Path, scheduler=None, **options):
    """The pipeline of a written folder."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    used = scheduler or DDIMScheduler.from_pretrained(folder / "scheduler")
    pipe = StableDiffusionPipeline.from_pretrained(
        folder,
        scheduler=used,
        use_safetensors=True,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
        **options,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion_xl():
    """Two text encoders, their pooled embedding and the sizes as further inputs."""
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pipe = StableDiffusionXLPipeline(
            vae=autoencoder(),
            text_encoder=text_encoder(),
            text_encoder_2=text_encoder(with_projection=True),
            tokenizer=letters_tokenizer(),
            tokenizer_2=letters_tokenizer(),
            unet=UNet2DConditionModel(**UNET | XL_UNET),
            scheduler=DDIMScheduler(**SCHEDULE),
            add_watermarker=False,
        )
    return _quiet(pipe)


def stable_diffusion_3():
    """A flow of a transformer, without its largest text encoder."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        pipe = StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=8,
                patch_size=1,
                in_channels=4,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=32,
                caption_projection_dim=16,
                pooled_projection_dim=32,
                out_channels=4,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=autoencoder(shift_factor=0.1),
            text_encoder=text_encoder(with_projection=True),
            text_encoder_2=text_encoder(with_projection=True),
            text_encoder_3=None,
            tokenizer=letters_tokenizer(),
            tokenizer_2=letters_tokenizer(),
            tokenizer_3=None,
        )
    return _quiet(pipe)


def flux(guidance_embeds=True):
    """A flow of packed latents, with the scale of a distilled guidance."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        tokenizer, encoder = t5()
        return _quiet(
            FluxPipeline(
                transformer=FluxTransformer2DModel(
                    in_channels=16,
                    num_layers=1,
                    num_single_layers=1,
                    attention_head_dim=16,
                    num_attention_heads=2,
                    joint_attention_dim=32,
                    pooled_projection_dim=16,
                    guidance_embeds=guidance_embeds,
                    axes_dims_rope=(4, 4, 8),
                ),
                scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
                vae=autoencoder(shift_factor=0.1),
                text_encoder=text_encoder(),
                tokenizer=letters_tokenizer(),
                text_encoder_2=encoder,
                tokenizer_2=tokenizer,
            )
        )


def pixart(name, sample_size=8):
    """A transformer of T5's text, with a learned variance."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        tokenizer, encoder = t5()
        network = diffusers.PixArtTransformer2DModel(
            sample_size=sample_size,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=3,
            cross_attention_dim=24,
            caption_channels=32,
        )
        _shake(network)
        return _quiet(
            getattr(diffusers, name)(
                tokenizer=tokenizer,
                text_encoder=encoder,
                vae=autoencoder(),
                transformer=network,
                scheduler=diffusers.DDIMScheduler(**SCHEDULE),
            )
        )


def dit(num_classes=5):
    """A transformer of labels, with a learned variance and names of its labels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        network = diffusers.DiTTransformer2DModel(
            sample_size=8,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            out_channels=8,
            num_embeds_ada_norm=num_classes,
        )
        _shake(network)
        names = {k: f"class {k}, number {k}" for k in range(num_classes)}
        scheduler = diffusers.DDIMScheduler(**SCHEDULE)
        return _quiet(diffusers.DiTPipeline(network, autoencoder(), scheduler, id2label=names))


def pixels(num_classes=None, name="DDPMPipeline"):
    """A UNet of pictures themselves, with labels or without."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            num_class_embeds=num_classes,
        )
        kind = "DDPMScheduler" if name == "DDPMPipeline" else "DDIMScheduler"
        scheduler = getattr(diffusers, kind)(clip_sample=False)
        return _quiet(getattr(diffusers, name)(network, scheduler))


def _shake(network):
    """Weights that start at zero say something."""
    for value in network.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.1)


def _quiet(pipe):
    """As `from_pretrained` gives it: nothing is dropped at random."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


LABELS = {"a cat": 1, "a dog": 2}


def side_by_side(run, pipes):
    """What `run(pipe, callback_on_step_end=...)` gives of two pipelines that take turns, step by step."""
    turn, found = threading.Barrier(2, timeout=60), {}

    def wait(pipe, index, step, given):
        turn.wait()
        return given

    def go(one):
        found[one] = run(one, callback_on_step_end=wait)

    threads = [threading.Thread(target=go, args=(one,)) for one in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def draw(pipe, scale=3.0, prompts=("a cat", "a dog"), **options):
    """Latents of prompts; of a pipeline of labels the pictures of theirs."""
    generator = torch.Generator().manual_seed(0)
    taken = inspect.signature(type(pipe).__call__).parameters
    given = {"height": 16, "width": 16, "prompt": list(prompts), "output_type": "latent"}
    if "prompt" not in taken:
        given |= {"class_labels": [LABELS[prompt] for prompt in prompts], "output_type": "pt"}
    given = {key: value for key, value in given.items() if key in taken}
    given |= {"guidance_scale": scale}
    if "true_cfg_scale" in taken:  # FLUX: its `guidance_scale` is an input of the network
        given |= {
            "guidance_scale": 1.0,
            "true_cfg_scale": scale,
            "negative_prompt": [""] * len(prompts),
        }
    found = pipe(generator=generator, **{"num_inference_steps": 6, **given, **options})
    # Older versions give the pictures of labels as numpy arrays.
    return torch.as_tensor(found.images)


def further(pipe, prompt):
    """A prompt as `unwanted`; a label, where the pipeline has labels."""
    return prompt if hasattr(pipe, "encode_prompt") else LABELS[prompt]


def change(pipe, name, **settings):
    if name == "DPMSolverSDEScheduler":  # it draws from a seed of its own
        settings["noise_sampler_seed"] = 0
    kind = getattr(diffusers, name)
    pipe.scheduler = kind.from_config(dict(pipe.scheduler.config) | settings)


def close(ours, own):
    torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-4 * float(own.abs().max()))


PICTURE = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def made_as(name, pipe):
    """A pipeline of this class with the parts of a tiny one, and what else its call needs."""
    if name in ("DDPMPipeline", "DDIMPipeline"):
        return pixels(name=name), {}
    if name == "FluxPipeline":
        return flux(), {}
    if name == "DiTPipeline":
        return dit(1000), {}  # the pipeline's null class is number 1000
    if name.startswith("PixArt"):
        return pixart(name), {"use_resolution_binning": False}
    base = stable_diffusion_xl() if "XL" in name else pipe
    if "Diffusion3" in name:
        base = stable_diffusion_3()
    parts = {key: part for key, part in base.components.items() if key != "image_encoder"}
    options = {"add_watermarker": False, "requires_safety_checker": False}
    given = {}
    if "ControlNet" in name:
        parts["controlnet"] = controlnet(base.unet)
        changes = "Img2Img" in name or "Inpaint" in name
        given["control_image" if changes else "image"] = PICTURE
    if "Adapter" in name:
        parts |= adapter(base.unet)
        given["image"] = PICTURE
    if "Img2Img" in name or "Inpaint" in name:
        given |= {"image": PICTURE, "strength": 0.7}
    if "Inpaint" in name:
        given["mask_image"] = (PICTURE[:, :1] > 0.5).float()
    taken = inspect.signature(getattr(diffusers, name).__init__).parameters
    parts = {key: part for key, part in (parts | options).items() if key in taken}
    return _quiet(getattr(diffusers, name)(**parts)), given


def rewrite_json(path: Path, **changes) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def states(num, sigma, event_shape=(4, 8, 8)):
    """States of unit spread at this noise, the same at every call."""
    generator = torch.Generator().manual_seed(1)
    return (1 + sigma) * torch.randn(num, *event_shape, generator=generator)


def levels_of(pipe, **options):
    """Noise of the steps of a run."""
    from model_bridges.guidance import PROMPT, Guidance, on_pipeline

    found = []

    class Note(Guidance):
        def step(self, state, x, sigma, denoise):
            found.append(sigma)
            return denoise(PROMPT), state

    with on_pipeline(pipe, Note()):
        draw(pipe, **options)
    return found
