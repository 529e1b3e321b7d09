"""Every family of diffusers' pipelines: our posterior mean is what the pipeline's own scheduler says it is.

Pipelines are tiny, of random weights. What the scheduler calls `pred_original_sample` is taken at every step
of a real run of the pipeline, without guidance; a flow's scheduler has no word for it: there it is
x_t - t v of the state and the output that its step is given.
"""

import functools
import inspect
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from PIL import Image
from tiny_pipeline import (
    dit,
    draw,
    flux,
    pixart,
    pixels,
    rewrite_json,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
)

import model_bridges as mb
from model_bridges.classes.groups import read_selection
from model_bridges.cli.inputs import studied_model
from model_bridges.cli.options import Study
from model_bridges.pipelines import FAMILIES

pytestmark = [
    pytest.mark.usefixtures("offline"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
PROMPTS = ("a cat", "a dog")
SIZE = (16, 16)


def steps_of(pipe, run):
    """`(sigma, x, posterior mean)` in EDM coordinates at every step of a run, as the scheduler has them."""
    found, kind = [], type(pipe.scheduler)
    own = kind.step

    @functools.wraps(own)
    def step(self, output, time, state, *args, **options):
        result = own(self, output, time, state, *args, **{**options, "return_dict": True})
        if hasattr(self, "alphas_cumprod"):
            signal = self.alphas_cumprod[int(time)].double()
            sigma, scale = ((1 - signal) / signal) ** 0.5, signal**0.5
            clean = result.pred_original_sample
        else:
            level = (time / self.config.num_train_timesteps).double()
            sigma, scale, clean = level / (1 - level), 1 - level, state - level.to(state) * output
        if state.ndim == 3:  # FLUX packs its latents
            unpack = functools.partial(
                FluxPipeline._unpack_latents, height=16, width=16, vae_scale_factor=2
            )
            state, clean = unpack(state), unpack(clean)
        if float(scale) > 0:  # a flow starts without signal, which is no level of x_0 + sigma eps
            found.append((float(sigma), state.double() / scale, clean))
        return (result.prev_sample,) if options.get("return_dict") is False else result

    with mock.patch.object(kind, "step", step):
        run(pipe)
    assert len(found) > 4
    return found


def check_steps(pipe, denoiser, label, run):
    for sigma, x, clean in steps_of(pipe, run):
        ours = denoiser(x.float(), sigma, label(len(x)))
        scale = float(clean.abs().max())
        torch.testing.assert_close(ours, clean.float(), rtol=1e-5, atol=1e-5 * scale)


def close(first, second):
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


def drawn(scale, prompts, **options):
    return lambda pipe: draw(pipe, scale, prompts, **options)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_stable_diffusion(folder, prediction):
    from diffusers import DDIMScheduler

    pipe = stable_diffusion(folder)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, prediction_type=prediction)
    denoiser = mb.from_pipeline(pipe, PROMPTS)
    check_steps(pipe, denoiser, lambda n: torch.arange(n), drawn(1.0, PROMPTS))
    check_steps(pipe, denoiser, lambda n: mb.UNCONDITIONAL, drawn(1.0, ["", ""]))
    if prediction == "epsilon":
        x, label = torch.randn(2, 4, 8, 8), torch.arange(2)
        from_disk = mb.load(f"diffusers:{folder}", prompts=PROMPTS)
        close(from_disk(x, 1.0, label), denoiser(x, 1.0, label))
        assert torch.equal(mb.load(pipe, prompts=PROMPTS)(x, 1.0, label), denoiser(x, 1.0, label))
        assert from_disk.class_names == denoiser.class_names == PROMPTS


def of_labels(pipe, labels):
    pipe(class_labels=labels, guidance_scale=1.0, num_inference_steps=6, generator=_seeded())


def of_pixels(pipe):
    pipe(batch_size=2, num_inference_steps=6, generator=_seeded(), output_type="np")


def _seeded():
    return torch.Generator().manual_seed(0)


def of_sizes(pipe):
    drawn(1.0, PROMPTS, height=16, width=24)(pipe)


UNBINNED = {"use_resolution_binning": False}
MADE = {
    "StableDiffusionXLPipeline": (stable_diffusion_xl, {}),
    "StableDiffusion3Pipeline": (stable_diffusion_3, {}),
    "FluxPipeline": (flux, {"max_sequence_length": 512}),
    "PixArtAlphaPipeline": (lambda: pixart("PixArtAlphaPipeline"), UNBINNED),
    "PixArtSigmaPipeline": (lambda: pixart("PixArtSigmaPipeline"), UNBINNED),
    "DiTPipeline": (dit, {}),
    "DDPMPipeline": (pixels, {}),
    "DDIMPipeline": (lambda: pixels(name="DDIMPipeline"), {}),
}


TEXTS = {"StableDiffusionPipeline": None} | {
    name: made for name, made in MADE.items() if FAMILIES[name].conditions is not None
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_prompt_becomes_what_a_call_makes_of_it(name, folder):
    """Every option of the encoding is that of a call by default, not that of `encode_prompt`."""
    pipe = TEXTS[name][0]() if TEXTS[name] else stable_diffusion(folder)
    encode, seen = pipe.encode_prompt, []

    @functools.wraps(encode)
    def recorded(*args, **kwargs):
        bound = inspect.signature(encode).bind(*args, **kwargs)
        bound.apply_defaults()
        options = ("clip_skip", "max_sequence_length", "clean_caption")
        seen.append({key: bound.arguments[key] for key in options if key in bound.arguments})
        return encode(*args, **kwargs)

    pipe.encode_prompt = recorded
    mb.from_pipeline(pipe, ["a cat", "a dog"], size=SIZE)
    measured = seen.copy()
    options = TEXTS[name][1] if TEXTS[name] else {}
    pipe(
        "a cat",
        num_inference_steps=2,
        output_type="latent",
        height=SIZE[0],
        width=SIZE[1],
        **options,
    )
    assert len(seen) > len(measured) > 0
    assert all(one == seen[-1] for one in measured)


@pytest.mark.parametrize("name", list(MADE))
def test_every_family(name, tmp_path):
    """Each step of a run with each class; the folder that it is saved to is the same model."""
    make, options = MADE[name]
    pipe, given = make(), {}
    if FAMILIES[name].conditions is not None:
        given = {"prompts": PROMPTS}
        runs = [(lambda n: torch.arange(n), drawn(1.0, PROMPTS, **options))]
        # The empty prompt of XL and of PixArt is not what an empty prompt becomes as a prompt.
        if name in ("StableDiffusion3Pipeline", "FluxPipeline"):
            runs.append((lambda n: mb.UNCONDITIONAL, drawn(1.0, ["", ""], **options)))
    elif name == "DiTPipeline":
        given = {"classes": [3, 0]}
        runs = [
            (lambda n: torch.arange(n), functools.partial(of_labels, labels=[3, 0])),
            (lambda n: mb.UNCONDITIONAL, functools.partial(of_labels, labels=[5, 5])),
        ]
    else:
        runs = [(lambda n: torch.zeros(n, dtype=int), of_pixels)]
        runs.append((lambda n: mb.UNCONDITIONAL, of_pixels))
    if name == "FluxPipeline":
        given["size"] = SIZE
    denoiser = mb.from_pipeline(pipe, **given)
    assert denoiser.has_unconditional
    for label, run in runs:
        check_steps(pipe, denoiser, label, run)
    pipe.save_pretrained(tmp_path)
    if name == "DiTPipeline":  # as the released ones have it
        names = {str(k): f"class {k}, number {k}" for k in range(5)}
        rewrite_json(tmp_path / "model_index.json", id2label=names)
    read = mb.load(f"diffusers:{tmp_path}", **given)
    x, label = 2 * torch.randn(3, *denoiser.event_shape), torch.arange(3) % denoiser.num_classes
    for each in (label, mb.UNCONDITIONAL):
        close(read(x, 1.0, each), denoiser(x, 1.0, each))
    assert read.class_names == denoiser.class_names
    if denoiser.num_classes > 1:
        assert (denoiser(x, 1.0, label) - denoiser(x, 1.0, 1 - label)).abs().max() > 1e-4
        check_curves(denoiser, read)
    else:
        labelled = pixels(num_classes=4, name=name)
        labelled.save_pretrained(tmp_path / "labelled")
        check_curves(
            mb.from_pipeline(labelled), mb.load(f"diffusers:{tmp_path / 'labelled'}", null_class=3)
        )


def check_curves(first, second):
    """A curve with its trust block, of the object and of its folder. Random weights are not trusted."""
    x0 = torch.randn(4, *first.event_shape, generator=torch.Generator().manual_seed(2))
    sigmas = np.geomspace(max(first.sigma_range[0], 0.05), min(first.sigma_range[1], 10.0), 9)
    curves = []
    for denoiser in (first, second):
        classes = range(min(first.num_classes, 2))
        kept = mb.ClassSubset(denoiser, tuple(classes), (0.5, 0.5))
        with pytest.warns(mb.TrustWarning):
            curves.append(mb.entropy_curve(kept, x0, torch.arange(4) % 2, sigmas=sigmas))
    for curve in curves:
        assert curve.trust.checks
        assert not curve.trust.ok
        assert np.isfinite(curve.entropy.value).all()
    np.testing.assert_allclose(
        curves[0].entropy.value, curves[1].entropy.value, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "mix"),
    [
        (stable_diffusion_xl, {}),
        (lambda: pixart("PixArtAlphaPipeline"), UNBINNED),
        (lambda: pixart("PixArtSigmaPipeline"), UNBINNED),
    ],
)
def test_the_empty_prompt_is_the_pipelines_own(make, mix):
    """A run at guidance w is of D_u + w (D_p - D_u)."""
    pipe = make()
    denoiser = mb.from_pipeline(pipe, PROMPTS)
    for sigma, x, clean in steps_of(pipe, drawn(2.0, PROMPTS, **mix)):
        prompt, empty = (denoiser(x.float(), sigma, c) for c in (torch.arange(2), mb.UNCONDITIONAL))
        scale = float(clean.abs().max())
        torch.testing.assert_close(2 * prompt - empty, clean.float(), rtol=1e-5, atol=2e-5 * scale)


def test_networks_of_1024_pixels_are_told_their_size():
    pipe = pixart("PixArtAlphaPipeline", sample_size=128)
    denoiser = mb.from_pipeline(pipe, PROMPTS, size=(16, 24))
    assert denoiser.event_shape == (4, 8, 12)
    run = drawn(1.0, PROMPTS, height=16, width=24, **UNBINNED)
    check_steps(pipe, denoiser, lambda n: torch.arange(n), run)


def test_another_size_of_xl():
    pipe = stable_diffusion_xl()
    denoiser = mb.from_pipeline(pipe, PROMPTS, size=(16, 24))
    check_steps(pipe, denoiser, lambda n: torch.arange(n), of_sizes)


def test_labels_of_pixels():
    """Diffusers has no pipeline of them: the network's own output at the nearest step of its table."""
    pipe = pixels(num_classes=4)
    x, label = torch.randn(2, 3, 8, 8), torch.arange(2)
    abar = pipe.scheduler.alphas_cumprod[500].double()
    sigma = float(((1 - abar) / abar) ** 0.5)
    denoiser = mb.from_pipeline(pipe, classes=[2, 0], null_class=3, class_names=["two", "zero"])
    with torch.no_grad():
        for ours, own in ((label, torch.tensor([2, 0])), (mb.UNCONDITIONAL, torch.tensor([3, 3]))):
            eps = pipe.unet((abar**0.5 * x).float(), 500, class_labels=own).sample
            torch.testing.assert_close(
                denoiser(x, sigma, ours), x - sigma * eps, rtol=1e-5, atol=1e-4
            )
    assert denoiser.class_names == ("two", "zero")
    assert mb.from_pipeline(pipe, null_class=0).num_classes == 3
    assert not mb.from_pipeline(pipe).has_unconditional


def test_folders_of_labels_are_those_of_the_network(tmp_path):
    """The network's label 0 is no class: its folder is refused, and no two folders are one class."""
    for label in (1, 2, 3):
        (tmp_path / str(label)).mkdir()
        Image.new("RGB", (8, 8), (60 * label,) * 3).save(tmp_path / str(label) / "a.png")
    pipe = pixels(num_classes=4)
    averaged = mb.study(pipe, data=tmp_path, null_class=0).averaged
    given = zip(averaged.read()[:, 0, 0, 0].tolist(), averaged.labels.tolist(), strict=True)
    assert sorted(given) == [(60, 0), (120, 1), (180, 2)]
    groups = read_selection("1 | 3", mb.vocabulary_of(mb.from_pipeline(pipe, null_class=0)))
    assert groups.groups == ((0,), (2,))
    (tmp_path / "class_3").mkdir()
    with pytest.raises(ValueError, match=r"'3' and 'class_3' in .* name one class"):
        mb.study(pipe, data=tmp_path, null_class=0)
    (tmp_path / "class_3").rename(tmp_path / "0")
    with pytest.raises(ValueError, match=r"folder '0' in .* names no class"):
        mb.study(pipe, data=tmp_path, null_class=0)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (dit, {"classes": [0, 5]}, r"0\.\.4"),
        (dit, {"classes": [1, 1]}, "different labels"),
        (dit, {"classes": []}, "different labels"),
        (dit, {"prompts": PROMPTS}, "reads no prompts"),
        (pixels, {"classes": [0]}, "without classes"),
    ],
)
def test_labels_that_do_not_fit(make, options, message):
    with pytest.raises(ValueError, match=message):
        mb.from_pipeline(make(), **options)


def test_names_of_labels():
    assert mb.from_pipeline(dit()).class_names == tuple(f"class {k}" for k in range(5))
    model = mb.study(dit(), classes=[3, 1])
    assert model.class_names == ("class 3", "class 1")


def test_zero_terminal_snr_ends_a_step_before(folder):
    from diffusers import DDIMScheduler

    pipe = stable_diffusion(folder)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    with pytest.warns(UserWarning, match="no signal"):
        denoiser = mb.from_pipeline(pipe, PROMPTS)
    check_steps(pipe, denoiser, lambda n: torch.arange(n), drawn(1.0, PROMPTS))


def test_a_lora_is_seen(folder):
    from peft import LoraConfig

    pipe = stable_diffusion(folder)
    x, label = torch.randn(2, 4, 8, 8), torch.arange(2)
    before = mb.from_pipeline(pipe, PROMPTS)(x, 1.0, label)
    config = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipe.unet.add_adapter(config)
    denoiser = mb.from_pipeline(pipe, PROMPTS)
    assert (denoiser(x, 1.0, label) - before).abs().max() > 1e-4
    check_steps(pipe, denoiser, lambda n: torch.arange(n), drawn(1.0, PROMPTS))
    pipe.unet.disable_adapters()
    assert torch.equal(denoiser(x, 1.0, label), before)


def test_what_is_in_no_family_is_refused_by_name(pipe, tmp_path):
    import diffusers

    image_to_image = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    for other in (
        image_to_image,
        diffusers.StableDiffusionXLModularPipeline(),
        torch.nn.Linear(1, 1),
    ):
        with pytest.raises(
            ValueError, match=rf"got {type(other).__name__},.*from_epsilon.*from_flow"
        ):
            mb.from_pipeline(other, PROMPTS)
    (tmp_path / "model_index.json").write_text('{"_class_name": "KandinskyPipeline"}')
    with pytest.raises(ValueError, match=r"got KandinskyPipeline,.*from_epsilon"):
        mb.load(f"diffusers:{tmp_path}", prompts=PROMPTS)


def test_a_folder_of_one_variant_says_so_and_is_read(copy):
    for part in ("unet", "vae", "text_encoder"):
        for file in (copy / part).glob("*.safetensors"):
            file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    with pytest.raises(ValueError, match=r"variant='fp16'"):
        mb.load(f"sd:{copy}", prompts=PROMPTS)
    x, label = torch.randn(2, 4, 8, 8), torch.arange(2)
    read = mb.load(f"sd:{copy}", prompts=PROMPTS, variant="fp16")
    pipe = stable_diffusion(copy, variant="fp16")
    close(read(x, 1.0, label), mb.from_pipeline(pipe, PROMPTS)(x, 1.0, label))
    assert read.decode(x).shape == (2, 3, 16, 16)
    given = {"prompt": list(PROMPTS), "variant": "fp16", "generate": 2}
    by_command = studied_model(Study(model=f"diffusers:{copy}", **given)).denoiser
    close(by_command(x, 1.0, label), read(x, 1.0, label))
    with pytest.raises(ValueError, match="'digits' is no pipeline, and takes no 'variant'"):
        studied_model(Study(model="digits", variant="fp16", generate=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs `prompts`"),
        ({"prompts": PROMPTS, "classes": [0]}, "are `prompts`"),
        ({"prompts": PROMPTS, "class_names": ["one"]}, "2 different names"),
        ({"prompts": PROMPTS, "size": (15, 16)}, "multiples of 2"),
    ],
)
def test_classes_of_prompts_that_do_not_fit(pipe, options, message):
    with pytest.raises(ValueError, match=message):
        mb.from_pipeline(pipe, **options)
