"""`--partition` with some of a model's classes, from the command line."""

import json

import numpy as np
import official_files as files
import pytest

from model_bridges.cli import main
from model_bridges.edm2 import imagenet


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A tiny EDM2 network of ImageNet's classes on pixels, and a folder to work in."""
    monkeypatch.chdir(tmp_path)
    kwargs = files.TINY | {"label_dim": 1000}
    files.write(tmp_path / "net.pkl", kwargs, latent_scaling=None, seed=3)
    return "edm2:net.pkl"


def states(path, labels):
    rng = np.random.default_rng(0)
    np.savez(path, states=0.5 * rng.normal(size=(len(labels), 1, 4, 4)), labels=np.array(labels))


def entropy(model, *words):
    words = ["entropy", model, "--levels", "9", "--estimators", "tracking", *words]
    return main([*words, "--out", "out"])


def test_two_classes_by_name_from_states_of_all(model, tmp_path):
    states(tmp_path / "some.npz", [207, 281, 5, 281, 207, 99, 207, 281])
    assert entropy(model, "--data", "some.npz", "--partition", "golden retriever | tabby") == 0
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content["law_of_images"] == "6 states of the classes named in some.npz"
    assert "golden retriever | tabby" in json.dumps(content)
    assert "class_samples" not in content


@pytest.mark.slow
def test_groups_of_a_file_are_sampled_and_the_dependence_is_shown(model, tmp_path, capsys):
    (tmp_path / "animals.json").write_text(json.dumps({"dogs": ["dog"], "cats": ["domestic cat"]}))
    words = ["--partition", "animals.json", "--max-classes", "4", "--generate", "8"]
    assert entropy(model, *words) == 0
    captured = capsys.readouterr()
    assert "dependence on the classes" in captured.out
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    rows = content["class_samples"]
    assert [row["classes"] for row in rows] == ["sample 1", "sample 2", "sample 3", "spread"]
    assert {row["variable"] for row in rows} == {"animals"}


def test_folders_are_found_by_id_name_or_label_and_others_passed_over(model, tmp_path, monkeypatch):
    from PIL import Image
    from test_latents import autoencoder

    from model_bridges.edm2.latents import Latents

    files.write(tmp_path / "net.pkl", files.TINY | {"label_dim": 1000, "img_channels": 4})
    monkeypatch.setattr(
        "model_bridges.edm2.model.load_latents",
        lambda scaling, name, **options: Latents(autoencoder(), scaling),
    )
    rng = np.random.default_rng(0)
    for folder in ("n02099601", "tabby", "5"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for index in range(2):
            pixels = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{index}.png")
    assert entropy(model, "--data", "data", "--partition", "golden retriever | tabby") == 0
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content["law_of_images"] == "4 pictures of the classes named in data"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--partition", "golden retreiver | tabby"], "Did you mean 'golden retriever'"),
        (["--partition", "tabby"], "at least two groups"),
        (["--partition", "absent.json"], "There is no file 'absent.json'"),
        (["--partition", "dog | tabby", "--partition", "tabby | lion"], "the same classes"),
        (
            ["--partition", "dog | tabby", "--partition", "a: dog | b: tabby"],
            "one `--partition` at a time",
        ),
        (["--partition", "lion | tabby"], "at least two pictures or states"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(model, tmp_path, words, message, capsys):
    states(tmp_path / "some.npz", [207, 1, 5])
    capsys.readouterr()
    assert main(["windows", model, "--data", "some.npz", *words, "--quiet"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert message in lines[0]


def test_numbers_are_labels_of_the_whole_model():
    assert imagenet.vocabulary().find("281").classes == (281,)
