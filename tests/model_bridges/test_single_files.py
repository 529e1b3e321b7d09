"""Pipelines in a single file of weights: the same model as the folder, and nothing is fetched unasked.

The file is written under the names of the original code (`original_names`), the folder that goes with it has
configurations and tokenizers alone.
"""

import shutil
import socket

import huggingface_hub
import pytest
import torch
from diffusers import StableDiffusionPipeline
from original_names import original, write_file
from safetensors.torch import load_file
from tiny_parts import text_encoder
from tiny_pipeline import (
    PROMPTS,
    flux,
    rewrite_json,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    states,
)

import model_bridges as mb
from model_bridges.cli.inputs import studied_model
from model_bridges.cli.options import Study
from model_bridges.pipelines.parts import open_source
from model_bridges.pipelines.single_files import read_shapes, repository_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PROMPTS = PROMPTS[:2]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A connection is an error, and no variable says that there is none."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def refuse(*args, **options):
        raise AssertionError("something was to be fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def without_weights(folder):
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    return folder


MAKE = {"xl": stable_diffusion_xl, 3: stable_diffusion_3}


@pytest.fixture
def written(folder, tmp_path):
    """A file, its pipeline's folder, and that folder without weights."""

    def write(form=1):
        pipe = MAKE[form]() if form in MAKE else stable_diffusion(folder)
        if form == "xl":  # the encoders are told apart by their width
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(9)
                pipe.text_encoder = text_encoder(hidden_size=8)
                pipe.unet = type(pipe.unet).from_config(pipe.unet.config, cross_attention_dim=24)
        if form == 3:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(9)
                pipe.text_encoder = text_encoder(
                    with_projection=True, hidden_size=8, projection_dim=8
                ).eval()
                # The original code has none: what is pooled is used as it is.
                torch.nn.init.eye_(pipe.text_encoder.text_projection.weight)
                pipe.transformer = type(pipe.transformer).from_config(
                    pipe.transformer.config, pooled_projection_dim=24
                )
        pipe.save_pretrained(tmp_path / "whole")
        file = write_file(tmp_path / "one.safetensors", original(pipe, form))
        bare = without_weights(shutil.copytree(tmp_path / "whole", tmp_path / "bare"))
        return file, tmp_path / "whole", bare

    return write


def check_same(read, folder, label=(0, 1)):
    """Posterior means, encoder and decoder, to 1e-6."""
    whole = mb.load(f"sd:{folder}", prompts=PROMPTS)
    x = states(2, 1.0, read.event_shape)
    for sigma in (0.2, 1.0, 5.0):
        for each in (torch.tensor(label), mb.UNCONDITIONAL):
            close(read(x, sigma, each), whole(x, sigma, each))
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    close(read.encode(pictures), whole.encode(pictures))
    close(read.decode(x), whole.decode(x))


def close(ours, own):
    torch.testing.assert_close(ours, own, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", [1, 2, "xl", 3])
def test_a_file_is_the_model_of_its_folder(form, written):
    file, whole, bare = written(form)
    check_same(mb.load(f"sd:{file}", prompts=PROMPTS, config=bare), whole)
    given = {"prompt": list(PROMPTS), "config": str(bare), "generate": 2}
    by_command = studied_model(Study(model=f"diffusers:{file}", **given)).denoiser
    x = states(2, 1.0, (4, 8, 8))
    read = mb.load(f"sd:{file}", prompts=PROMPTS, config=str(bare))
    assert torch.equal(by_command(x, 1.0, torch.arange(2)), read(x, 1.0, torch.arange(2)))
    assert str(file) in read.provenance


def test_it_is_what_diffusers_makes_of_the_file(written):
    file, _, bare = written()
    parts = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"))
    pipe = StableDiffusionPipeline.from_single_file(
        str(file), config=str(bare), local_files_only=True, **parts
    )
    x, label = states(2, 1.0), torch.arange(2)
    read = mb.load(f"sd:{file}", prompts=PROMPTS, config=bare)
    close(read(x, 1.0, label), mb.from_pipeline(pipe, PROMPTS)(x, 1.0, label))


def test_the_file_counts_before_the_folder_and_what_it_lacks_is_the_folders(written):
    file, whole, bare = written()
    tensors = load_file(file)
    changed = {name: 1.1 * value for name, value in tensors.items()}
    write_file(file, changed)
    x, label = states(2, 1.0), torch.arange(2)
    with_weights = mb.load(f"sd:{file}", prompts=PROMPTS, config=whole)
    without = mb.load(f"sd:{file}", prompts=PROMPTS, config=bare)
    assert torch.equal(with_weights(x, 1.0, label), without(x, 1.0, label))
    own = mb.load(f"sd:{whole}", prompts=PROMPTS)
    assert (with_weights(x, 1.0, label) - own(x, 1.0, label)).abs().max() > 1e-3
    network = {name: value for name, value in tensors.items() if name.startswith("model.")}
    write_file(file, network)
    close(mb.load(f"sd:{file}", prompts=PROMPTS, config=whole)(x, 1.0, label), own(x, 1.0, label))
    with pytest.raises(ValueError, match="could not read `text_encoder`"):
        mb.load(f"sd:{file}", prompts=PROMPTS, config=bare)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.diffusion_model.out.2.bias"), "do not belong together"),
        (  # the scales of a quantised file, which the renaming drops
            lambda t: t.update({"model.diffusion_model.out.2.scale_weight": torch.ones(())}),
            "quantised",
        ),
        (lambda t: t.update(v_pred=torch.zeros(0)), r"prediction_type = 'v_prediction'"),
        (lambda t: t.update(ztsnr=torch.zeros(0)), "rescale_betas_zero_snr = True"),
        (
            lambda t: t.pop("cond_stage_model.transformer.text_model.final_layer_norm.bias"),
            r"`text_encoder` .*every tensor; 1 are missing, final_layer_norm\.bias",
        ),
        (  # as many numbers, under another name
            lambda t: t.update(
                {
                    "model.diffusion_model.out.2.mine": t.pop("model.diffusion_model.out.2.bias"),
                }
            ),
            r"`unet` .*every tensor; some are missing",
        ),
        (
            lambda t: t["model.diffusion_model.out.2.bias"].fill_(float("nan")),
            "must hold finite weights",
        ),
    ],
)
def test_what_would_be_another_model_is_refused(change, message, written):
    file, _, bare = written()
    tensors = load_file(file)
    change(tensors)
    write_file(file, tensors)
    with pytest.raises(ValueError, match=message) as caught:
        mb.load(f"sd:{file}", prompts=PROMPTS, config=bare)
    assert "\n" not in str(caught.value)


def test_another_configuration_is_refused(written):
    file, _, bare = written()
    rewrite_json(bare / "unet" / "config.json", block_out_channels=[8, 12])
    with pytest.raises(ValueError, match="do not belong together"):
        mb.load(f"sd:{file}", prompts=PROMPTS, config=bare)
    rewrite_json(bare / "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    with pytest.raises(ValueError, match="got StableDiffusionInpaintPipeline"):
        mb.load(f"sd:{file}", prompts=PROMPTS, config=bare)


def test_nothing_is_fetched_unasked(written, tmp_path, monkeypatch):
    file, whole, _ = written()
    with pytest.raises(ValueError, match=r"config.*--config FOLDER.*--fetch"):
        mb.load(f"sd:{file}", prompts=PROMPTS)
    with pytest.raises(ValueError, match="could not read 'nobody/nothing-at-all'"):
        mb.load(f"sd:{file}", prompts=PROMPTS, config="nobody/nothing-at-all")
    with pytest.raises(ValueError, match="goes with a single file"):
        mb.load(f"sd:{whole}", prompts=PROMPTS, config=whole)
    with pytest.raises(ValueError, match="hf download"):
        mb.load("sd:some/model.safetensors", prompts=PROMPTS, config=whole)
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        mb.load(f"sd:{tmp_path / 'text.safetensors'}", prompts=PROMPTS, config=whole)
    for ending in ("ckpt", "bin"):
        with pytest.raises(ValueError, match=r"pickles are not read.*from_single_file"):
            mb.load(f"sd:some/model.{ending}", prompts=PROMPTS, config=whole)


def test_what_is_fetched_is_what_diffusers_takes_the_file_for(written, monkeypatch):
    """Configurations alone are asked for; a Stable Diffusion 2 may be either of two."""
    file, _, bare = written()
    asked = []

    def snapshot(name, *, allow_patterns, local_files_only, **options):
        asked.append((name, local_files_only))
        assert not any("safetensors" in pattern or "*.bin" in pattern for pattern in allow_patterns)
        return str(bare)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    shapes = read_shapes(file)
    source = open_source(str(file), local_files_only=False)
    assert asked == [("stable-diffusion-v1-5/stable-diffusion-v1-5", False)]
    assert source.file.folder == bare
    released = "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
    with pytest.raises(ValueError, match=r"predict v or the noise.*`config`"):
        repository_of(file, {**shapes, released: (320, 1024)})
    xl = {"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,)}
    assert repository_of(file, xl) == "stabilityai/stable-diffusion-xl-base-1.0"


@pytest.mark.slow  # the renaming of FLUX has its width, 3072, written into it: half a billion numbers
def test_a_transformer_of_flux(tmp_path):
    pipe = flux()
    settings = {
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "axes_dims_rope": (16, 56, 56),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        pipe.transformer = type(pipe.transformer).from_config(pipe.transformer.config, **settings)
    pipe.save_pretrained(tmp_path / "whole")
    file = write_file(tmp_path / "one.safetensors", original(pipe, "flux"))
    folder = shutil.copytree(tmp_path / "whole", tmp_path / "of the rest")
    for weights in (folder / "transformer").glob("*.safetensors*"):
        weights.unlink()
    given = {"prompts": PROMPTS, "size": (16, 16)}
    x, label = states(2, 1.0, (4, 8, 8)), torch.arange(2)
    whole = mb.load(f"sd:{tmp_path / 'whole'}", **given)(x, 1.0, label)
    close(mb.load(f"sd:{file}", config=folder, **given)(x, 1.0, label), whole)


def test_a_network_under_the_names_of_diffusers(tmp_path):
    """A transformer alone, as FLUX and Stable Diffusion 3 are handed on, too."""
    pipe = flux()
    pipe.save_pretrained(tmp_path / "whole")
    file = write_file(tmp_path / "one.safetensors", pipe.transformer.state_dict())
    given = {"prompts": PROMPTS, "size": (16, 16)}
    x, label = states(2, 1.0, (4, 8, 8)), torch.arange(2)
    folder = tmp_path / "whole"
    whole = mb.load(f"sd:{folder}", **given)(x, 1.0, label)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    close(mb.load(f"sd:{file}", config=folder, **given)(x, 1.0, label), whole)
