"""Commands that remove a class and study guidance: files and models of one's own, and the shipped digits."""

import json

import numpy as np
import pytest
import torch
from controlled import digit_files, fitted, law, serve, write_idx, written
from refusals import refused

from gmm_speciation import GaussianMixture
from model_bridges.cli import main
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.images import read_image_files
from model_bridges.models import study


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder of digits, and a model of them called mine:model."""
    folder = tmp_path / "files"
    folder.mkdir()
    serve(monkeypatch, fitted(*digit_files(folder), event_shape=(1, 8, 8)))
    return folder


def test_held_out_files_are_shuffled_as_pairs(mine):
    """Some files list class by class; the first images are taken for the entropy curve."""
    found = study("mine:model", data=mine).held_out
    files = read_image_files(mine).test
    assert not torch.equal(found.labels, files.labels)

    def listed(part):
        rows = zip(part.images.flatten(1).tolist(), part.labels.tolist(), strict=True)
        return sorted((*pixels, label) for pixels, label in rows)

    assert listed(found) == listed(files)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["remove", "digits", "--class", "11"], "'--class'"),
        (
            ["remove", "digits", "--kind", "nonsense"],
            "Unknown kind 'nonsense'. Choose from: NP, SLD, DNG, 'DNG, classes', 'DNG, published'.",
        ),
        (["remove", "digits", "--kind", "DGN"], "Did you mean 'DNG'?"),
        (["remove", "digits", "--strengths", "1,x"], "`--strengths` takes numbers"),
        (["remove", "digits", "--images", "10"], "--images"),
        (["remove", "digit"], "Did you mean 'digits'?"),
        (["remove", "mine:model"], "comes without data: give `--data PATH`"),
        (["remove", "digits", "--data", "."], "must hold at least two pictures"),
        (["guidance", "digits", "--section", "nonsense"], "Unknown section 'nonsense'"),
        (["guidance", "digits", "--mass", "2"], "inside (0, 1); got 2"),
        (["guidance", "mine:model", "--data", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    serve(monkeypatch, mixture_denoiser(law()))
    refused(main, words, message, capsys)


def test_files_and_models_that_do_not_fit_are_refused(mine, capsys, monkeypatch):
    words = ["remove", "mine:model", "--data", str(mine)]
    refused(main, [*words, "--strengths", "0,1", "--kind", "NP"], "must be positive", capsys)
    pixels, labels = digit_files(mine)
    means = np.zeros((10, 81)) + np.arange(10)[:, None]
    serve(monkeypatch, mixture_denoiser(GaussianMixture.isotropic(means, 1.0), None, (1, 9, 9)))
    refused(main, words, "states of shape (1, 9, 9)", capsys)
    means = np.zeros((9, 64)) + np.arange(9)[:, None]
    serve(monkeypatch, mixture_denoiser(GaussianMixture.isotropic(means, 1.0), None, (1, 8, 8)))
    refused(main, words, "has 9 classes and the data 10", capsys)
    write_idx(mine, {"train": (pixels[:300], labels)})
    refused(main, words, "train-", capsys)
    (mine / "train-images-idx3-ubyte").write_bytes(b"not an image file")
    refused(main, words, "train-images-idx3-ubyte", capsys)


def test_removal_on_idx_files(mine, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--class", "3", "--images", "60", "--steps", "8", "--kind", "NP", "--kind", "SLD"]
    words += ["--kind", "DNG, classes", "--strengths", "3,1", "--out", str(out)]
    assert main(["remove", "mine:model", "--data", str(mine), *words]) == 0
    assert "Class 3 removed from what mine:model draws" in capsys.readouterr().out
    record = written(out, {"images.png", "removal.png"})
    assert record["removed"] == 3
    assert record["num_images"] == 60
    assert {k: [p["strength"] for p in v] for k, v in record["kinds"].items()} == {
        name: [1, 3] for name in ("NP", "SLD", "DNG, classes")
    }
    assert record["evaluations_per_image"]["DNG, classes"] == 11 * 8
    left = [p["removed_share"]["value"] for p in record["kinds"]["DNG, classes"]]
    assert max(left) < 0.05
    assert {c["claim"].partition(",")[0] for c in record["checks"]} >= {"DNG"}


def test_removal_on_cifar_files(tmp_path, rng, monkeypatch):
    """Colour planes of 32 x 32: the classes are made, flat colours with noise."""
    colours = rng.integers(60, 196, (10, 3, 1, 1))
    drawn = {}
    for name, num in (*((f"data_batch_{i}", 20) for i in range(1, 6)), ("test_batch", 60)):
        labels = (np.arange(num) % 10).astype(np.uint8)
        pixels = colours[labels] + rng.integers(-40, 41, (num, 3, 32, 32))
        drawn[name] = pixels.astype(np.uint8), labels
        records = [bytes([c]) + x.tobytes() for x, c in zip(*drawn[name], strict=True)]
        (tmp_path / f"{name}.bin").write_bytes(b"".join(records))
    train = [drawn[f"data_batch_{i}"] for i in range(1, 6)]
    pixels, labels = (np.concatenate([part[i] for part in train]) for i in range(2))
    serve(monkeypatch, fitted(pixels, labels, event_shape=(3, 32, 32)))
    words = ["--class", "9", "--images", "40", "--steps", "6", "--kind", "DNG", "--strengths", "1"]
    out = tmp_path / "out"
    words += ["--data", str(tmp_path), "--out", str(out), "--quiet"]
    assert main(["remove", "mine:model", *words]) == 0
    record = written(out, {"images.png", "removal.png"})
    assert len(record["unguided"]["shares"]["value"]) == 10
    assert record["kinds"]["DNG"][0]["removed_share"]["value"] < 0.1


def test_removal_on_the_shipped_digits(tmp_path, capsys):
    words = ["--images", "40", "--steps", "6", "--kind", "NP", "--kind", "DNG", "--strengths", "1"]
    assert main(["remove", "digits", *words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "DNG leaves less" in printed
    assert written(tmp_path / "out", {"images.png", "removal.png"})["model"] == "digits"


def test_processes_share_the_draws_of_a_removal(mine, tmp_path, capsys, monkeypatch):
    """A second process draws what is missing and says nothing; the first finds it and reports the same."""
    words = ["remove", "mine:model", "--data", str(mine), "--class", "3", "--images", "40"]
    words += ["--steps", "4", "--kind", "NP", "--kind", "SLD", "--strengths", "1", "--json"]
    assert main(words) == 0
    alone = json.loads(capsys.readouterr().out)
    with monkeypatch.context() as second:
        second.setenv("RANK", "1")
        second.setenv("WORLD_SIZE", "2")
        assert main(words) == 2
        assert "give `--folder DIR`" in capsys.readouterr().err
        assert main([*words, "--folder", str(tmp_path / "run")]) == 0
        assert capsys.readouterr().out == ""
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.npz")}
    assert len(drawn) == 3
    assert main([*words, "--folder", str(tmp_path / "run")]) == 0
    shared = json.loads(capsys.readouterr().out)
    assert {name: shared[name] for name in alone if name != "provenance"} == {
        name: value for name, value in alone.items() if name != "provenance"
    }
    assert drawn == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.npz")}


@pytest.mark.slow
def test_grids_for_a_model_of_ones_own(mine, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--section", "grids", "--images", "40", "--data", str(mine), "--out", str(out)]
    assert main(["guidance", "mine:model", *words]) == 0
    assert "beats Karras" in capsys.readouterr().out
    record = written(out, {"grids.png"})
    assert record["interval"][0] < record["interval"][1]
    assert len(record["grids"]) == 18


EVERY = {"guided.png", "intervals.png", "images.png", "grids.png"}


@pytest.mark.slow
def test_guidance_of_a_model_of_ones_own(mine, tmp_path, capsys):
    """All sections, with the mixture fitted to the training files beside them."""
    out = tmp_path / "out"
    words = ["--images", "40", "--paths", "20", "--data", str(mine), "--out", str(out)]
    assert main(["guidance", "mine:model", *words]) == 0
    printed = capsys.readouterr().out
    for text in ("commits at", "neutral point", "interval of the curve"):
        assert text in printed
    assert written(out, EVERY)["information"]["theory"] != {}
    assert "fitted to the data" in (out / "report.md").read_text()


@pytest.mark.slow
def test_guidance_of_the_shipped_digits(tmp_path):
    words = ["--images", "40", "--paths", "20", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["guidance", "digits", *words]) == 0
    record = written(tmp_path / "out", EVERY)
    identity = [c for c in record["checks"] if c["claim"].startswith("identity")]
    assert len(identity) == 7
    # Twenty paths decide little: none is contradicted.
    assert all(c["verdict"] != "no" for c in identity)
    assert "shift, mixture" in (tmp_path / "out" / "report.md").read_text()
