"""The command line of the bridges: clear errors, no heavy imports for help, the main job end to end."""

import json
import subprocess
import sys

import numpy as np
import pytest
from refusals import refused

from model_bridges.cli import main


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["crosscheck", "digit"], "Did you mean 'digits'?"),
        (["crosscheck", "digits", "--data", "nowhere.npz"], "nowhere.npz"),
        (["crosscheck", "digits", "--generate", "5"], "at least 20"),
        (["crosscheck", "digits", "--generate", "50", "--data", "train"], "not both"),
        (["crosscheck", "digits", "--levels", "4"], "at least 9 noise levels"),
        (["train", "letters", "--out", "x"], "Unknown model"),
        (["train", "digits"], "--out"),
        (["train", "digits", "--out", ""], "a path must not be empty"),
        (["train", "digits", "--out", "/dev/null"], "must be a folder; '/dev/null' is a file"),
        (["windows", "digits", "--out="], "a path must not be empty"),
        (["entropy", "digits", "--folder", ""], "a path must not be empty"),
        (["crosscheck", "digits", "--data", ""], "it must not be empty"),
        (["paper", "handke2026", "--edm2", ""], "it must not be empty"),
        (["convert", "", "x.safetensors"], "a path must not be empty"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(main, words, message, capsys)


def test_help_loads_neither_jax_nor_torch():
    code = (
        "import sys\nfrom model_bridges.cli import main\n"
        "code = main(['crosscheck', '--help'])\n"
        "print(code, sorted({'jax', 'torch', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_main_job_end_to_end(tmp_path, capsys, monkeypatch):
    """A small run of the real command on the shipped model: every file of the report, a table."""
    from model_bridges.crosscheck import study
    from model_bridges.digits import load_digits

    monkeypatch.setattr(study, "CLASSIFIER_STEPS", 60)  # nothing is said of the classifier
    digits = load_digits()
    pixels = digits.to_pixels(digits.held_out_images[:20])[:, 0].round().numpy()
    labels = digits.held_out_labels[:20].numpy()
    np.savez(tmp_path / "some.npz", images=pixels, labels=labels)
    words = ["--data", str(tmp_path / "some.npz"), "--levels", "12", "--paths", "1"]
    assert main(["crosscheck", "digits", *words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "80 %" in printed
    assert "information budget" in printed
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content["law"] == "some.npz"
    assert content["num_images"] == 20
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert {"crosscheck.png", "images.png", "variables.png", "reliability.png"} <= pictures
    # A trained model on real digits: nearly all information is there without noise, none at the top.
    entropy = content["curves"]["digit: tracked"]["entropy"]["value"]
    assert entropy[0] < 0.1
    assert abs(entropy[-1] - np.log(10)) < 1e-6


COMMANDS = "crosscheck entropy windows guidance remove train convert show"


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_command_has_json_and_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--json" in text
    assert f"model-bridges {command}" in text.split("Examples:")[1]


def test_a_partition_misspelt_is_named(capsys):
    words = ["entropy", "digits", "--partition", "paritty", "--images", "20"]
    assert main(words) == 2
    assert "Did you mean 'parity'?" in " ".join(capsys.readouterr().err.split())
