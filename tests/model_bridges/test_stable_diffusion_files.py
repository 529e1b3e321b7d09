"""Files of latent diffusion pipelines: the released layouts are read, pickles never, the rest is refused."""

import json
import pickle
import shutil

import pytest
import torch
from tiny_pipeline import PROMPTS, rewrite_json, states

from model_bridges import pipelines as stable_diffusion

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def denoiser(folder):
    return stable_diffusion.load(folder, PROMPTS)


def test_a_tokenizer_that_lost_its_words_is_noticed(copy):
    """transformers 5 gives a two-token vocabulary, silently, where it finds no file to read."""
    from transformers import CLIPTokenizer

    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(ValueError, match="must hold a vocabulary"):
        stable_diffusion.load(copy, ["cat", "dog"])
    special = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    CLIPTokenizer(vocab=special, merges=[]).save_pretrained(copy / "tokenizer")
    with pytest.raises(ValueError, match="must hold a vocabulary"):
        stable_diffusion.load(copy, ["cat", "dog"])


def test_the_released_layout_of_a_tokenizer_is_read(copy, denoiser):
    """`vocab.json` and `merges.txt`, as Stable Diffusion 1.5 has them."""
    folder = copy / "tokenizer"
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16}
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    x, label = states(3, 1.0), torch.arange(3)
    assert torch.equal(stable_diffusion.load(copy, PROMPTS)(x, 1.0, label), denoiser(x, 1.0, label))


def test_the_released_names_of_a_text_encoder_are_read(copy, denoiser):
    """`text_model.` before every tensor, and the positions as one more, as in Stable Diffusion 1.5."""
    from safetensors.torch import load_file, save_file

    file = copy / "text_encoder" / "model.safetensors"
    tensors = {name.removeprefix("text_model."): value for name, value in load_file(file).items()}
    released = {f"text_model.{name}": value for name, value in tensors.items()}
    released["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    bare = {**tensors}
    x, label = states(3, 1.0), torch.arange(3)
    for named in (released, bare):
        save_file(named, file, {"format": "pt"})
        same = stable_diffusion.load(copy, PROMPTS)(x, 1.0, label)
        assert torch.equal(same, denoiser(x, 1.0, label))


class Payload:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    ("part", "pickled"),
    [("unet", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")],
)
def test_pickled_weights_are_never_read(copy, tmp_path, part, pickled):
    trace = tmp_path / "it ran"
    for file in (copy / part).glob("*.safetensors"):
        file.unlink()
    (copy / part / pickled).write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(ValueError, match=part):
        stable_diffusion.load(copy, PROMPTS)
    assert not trace.exists()


def test_missing_tensors_are_an_error_not_a_random_start(copy):
    from safetensors.torch import load_file, save_file

    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors.pop("conv_out.weight")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"conv_out\.weight"):
        stable_diffusion.load(copy, PROMPTS)


def test_layers_that_the_configuration_leaves_out_are_an_error(copy):
    from safetensors.torch import load_file, save_file

    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"mid_block.more.weight": torch.ones(3)}, file, {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"no others; it has 1 more, mid_block\.more\.weight first"
    ):
        stable_diffusion.load(copy, PROMPTS)


@pytest.mark.parametrize(
    ("part", "file", "changes", "message"),
    [
        ("unet", "config.json", {"in_channels": 9}, "inpainting"),
        ("unet", "config.json", {"addition_embed_type": "text_time"}, "another kind"),
        ("unet", "config.json", {"_class_name": "UNet2DModel"}, "UNet2DConditionModel"),
        ("scheduler", "scheduler_config.json", {"prediction_type": "flow"}, "prediction_type"),
        ("scheduler", "scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "by betas"),
        (
            "scheduler",
            "scheduler_config.json",
            {
                "_class_name": "EulerDiscreteScheduler",
                "timestep_type": "continuous",
                "prediction_type": "v_prediction",
            },
            "a quarter of log sigma",
        ),
        ("scheduler", "scheduler_config.json", {"_class_name": "Mine"}, "got Mine, whose noise"),
        (
            "scheduler",
            "scheduler_config.json",
            {"_class_name": None},
            "got one without `_class_name`",
        ),
        ("unet", "config.json", {"_class_name": None}, "got None"),
        ("vae", "config.json", {"_class_name": "AutoencoderTiny"}, "must be an AutoencoderKL"),
        ("scheduler", "scheduler_config.json", {"beta_schedule": "mine"}, "beta_schedule"),
    ],
)
def test_other_kinds_of_pipelines_are_refused(copy, part, file, changes, message):
    rewrite_json(copy / part / file, **changes)
    with pytest.raises(ValueError, match=message):
        stable_diffusion.load(copy, PROMPTS)


def test_damaged_and_missing_parts_are_one_clear_line(copy, tmp_path):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match="could not read `unet`") as caught:
        stable_diffusion.load(copy, PROMPTS)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="local_files_only=False"):
        stable_diffusion.load("nobody/nothing-at-all", PROMPTS)


def test_the_licence_of_weights_from_the_hub_is_said_once(capsys):
    from model_bridges.pipelines.parts import Source

    for _ in range(2):
        Source("someone/some-model").announce_licence()
    assert capsys.readouterr().err.count("OpenRAIL") == 1
