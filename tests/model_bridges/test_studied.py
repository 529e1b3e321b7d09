"""Any model through every command: data of every form, what is fitted and what averaged over, groups."""

import json
import struct
import sys
import types
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch

import model_bridges as mb
from gmm_speciation import GaussianMixture, Partition
from model_bridges.classes.names import ClassNames
from model_bridges.cli import main
from model_bridges.control.drawing import Wanted, draw_all
from model_bridges.crosscheck import study as crosscheck_study
from model_bridges.crosscheck.study import Settings
from model_bridges.denoisers.base import Wrapped
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.guidance import ClassifierFree
from model_bridges.images.sets import ImageSet

SHAPE, NAMES = (1, 4, 4), ("ring", "bar", "dot")
RNG = np.random.default_rng(5)
MEANS = 0.6 * np.sign(RNG.normal(size=(3, 16)))


def denoiser():
    """Three classes of 4 x 4 pictures, with names, from somewhere else."""
    mixture = GaussianMixture.isotropic(MEANS, 0.04)
    inner = mb.mixture_denoiser(mixture, event_shape=SHAPE, sigma_range=(0.05, 20.0))

    class Named:
        class_names = NAMES

        def __getattr__(self, name):
            return getattr(inner, name)

        def __call__(self, *args):
            return inner(*args)

    return Named()


@pytest.fixture(autouse=True)
def theirs(monkeypatch, tmp_path):
    """`theirs:denoiser`, and a folder to work in."""
    module = types.ModuleType("theirs")
    module.denoiser = denoiser
    monkeypatch.setitem(sys.modules, "theirs", module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draws(num, seed=0):
    """Images -1..1 in bytes, and their classes in turn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 3
    x = MEANS[labels] + 0.2 * rng.normal(size=(num, 16))
    pixels = np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)
    return pixels.reshape(num, *SHAPE), labels


def as_pictures(folder, num=60):
    from PIL import Image

    pixels, labels = draws(num)
    for name in NAMES:
        (folder / name).mkdir(parents=True)
    for index, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(picture[0]).save(folder / NAMES[label] / f"{index}.png")
    return folder


def as_npz(folder, num=60):
    pixels, labels = draws(num)
    np.savez(folder.with_suffix(".npz"), states=pixels / 127.5 - 1, labels=labels)
    return folder.with_suffix(".npz")


def as_idx(folder, num=60):
    folder.mkdir()
    for seed, part in enumerate(("train", "t10k")):
        pixels, labels = draws(num, seed)
        for kind, array in (
            ("images-idx3", pixels[:, 0]),
            ("labels-idx1", labels.astype(np.uint8)),
        ):
            magic = {3: 2051, 1: 2049}[array.ndim]
            head = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    return folder


FORMS = {"pictures": as_pictures, "npz": as_npz, "idx": as_idx}


@pytest.mark.parametrize("form", FORMS)
def test_data_of_every_form_are_the_same_images(form, tmp_path):
    path = FORMS[form](tmp_path / "data")
    model = mb.study("theirs:denoiser", data=path)
    found = model.states(model.averaged)
    pixels, labels = draws(60, seed=1 if form == "idx" else 0)

    def listed(states, classes):
        rows = zip(np.asarray(states).reshape(60, -1), np.asarray(classes), strict=True)
        return sorted((*row.round(4).tolist(), int(label)) for row, label in rows)

    expected = listed((pixels / 127.5 - 1).astype(np.float32), labels)
    assert listed(found.images, found.labels) == expected
    torch.testing.assert_close(model.held_out.images, found.images)  # states are the images
    assert len(repr(model)) < 300  # no list of rows


def test_what_is_fitted_is_said(tmp_path):
    """A training part that the files have, one that is given, or a half of every class."""
    idx, npz = as_idx(tmp_path / "idx"), as_npz(tmp_path / "states")
    own = mb.study("theirs:denoiser", data=idx, split=True)
    assert own.fitted.law == "train-images-idx3-ubyte"
    assert own.averaged.law == "t10k-images-idx3-ubyte"
    halved = mb.study("theirs:denoiser", data=npz, split=True)
    assert halved.averaged.law == "one half of states.npz"
    assert halved.fitted.law == "the other half of states.npz"
    given = mb.study("theirs:denoiser", data=npz, train_data=idx, split=True)
    assert (given.averaged.law, given.fitted.law) == ("states.npz", own.fitted.law)
    whole = mb.study("theirs:denoiser", data=npz)
    assert len(whole.averaged) == 60
    with pytest.raises(ValueError, match=r"nothing was set aside of states\.npz"):
        _ = whole.fitted
    with pytest.raises(ValueError, match="comes without data"):
        _ = mb.study("theirs:denoiser").averaged


def test_halves_are_those_of_every_class_and_always_the_same():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 101)
    images = ImageSet.of(torch.arange(101.0)[:, None], labels, "states", "numbers")
    parts = images.halves()
    one, other = (part.read()[:, 0].tolist() for part in (parts.held_out, parts.train))
    assert sorted(one + other) == list(range(101))
    for part, rows in ((parts.held_out, one), (parts.train, other)):
        assert np.array_equal(part.labels, labels[np.array(rows, int)])
        counts = np.bincount(part.labels, minlength=4)
        assert np.all(np.abs(counts - np.bincount(labels) / 2) <= 0.5)
    assert images.halves().held_out.read().tolist() == parts.held_out.read().tolist()
    with pytest.raises(ValueError, match="class 1 has a single image"):
        ImageSet.of(torch.zeros(5, 1), np.array([0, 0, 1, 2, 2]), "states", "numbers").halves()


def test_what_is_left_out_is_not_read():
    asked = []

    def load(rows):
        asked.extend(rows.tolist())
        return torch.zeros(len(rows), 1)

    labels = np.arange(1000) % 10
    images = ImageSet(load, np.arange(1000), labels, "states", "pictures", "data")
    found = images.of_classes([3, 7], ["three", "seven"]).first(4)
    assert found.law == "the first 4 of 200 pictures in data"
    assert found.labels.tolist() == [0, 1, 0, 1]
    found.read()
    assert asked == [3, 7, 13, 17]


def test_groups_are_read_alike_for_every_model(tmp_path):
    """By name, by number, from JSON; some of the classes make a model of these alone."""
    from model_bridges.cli.inputs import chosen

    (tmp_path / "shapes.json").write_text(json.dumps({"round": ["ring", 2], "long": ["bar"]}))
    np.savez("few.npz", states=np.zeros((6, *SHAPE)), labels=np.arange(6) % 3)
    model = mb.study("theirs:denoiser", data="few.npz")
    _, found, _ = chosen(model, ["shapes.json", "long: Bar | round: 0, dot"])
    assert found["shapes"].labels == (0, 1, 0)
    assert found["shapes"].names == ("round", "long")
    assert found["long: Bar | round: 0, dot"].labels == (1, 0, 1)
    said = []
    some, found, _ = chosen(model, ["dot | ring"], say=said.append)
    assert some.class_names == ("dot", "ring")
    assert some.averaged.labels.tolist() == [1, 0, 1, 0]
    assert "2 of 3 classes" in said[0]
    assert not some.denoiser.has_unconditional
    digits, found, _ = chosen(mb.study("digits"), ["parity", "0, 2, 4, 6, 8 | 1, 3, 5, 7, 9"])
    assert found["parity"].labels == found["0, 2, 4, 6, 8 | 1, 3, 5, 7, 9"].labels == (0, 1) * 5
    assert digits.denoiser.has_unconditional
    few, found, _ = chosen(mb.study("digits"), ["3 | 9"])
    assert set(few.class_names) == {"3", "9"}
    assert few.averaged.law.endswith("held-out digits of the classes named")
    assert set(few.states(few.fitted).labels.tolist()) == {0, 1}


WORDS = {
    "entropy": ["--levels", "9", "--estimators", "tracking"],
    "windows": ["--levels", "9", "--force"],
    "crosscheck": ["--levels", "9", "--paths", "1"],
    "remove": [
        "--class",
        "1",
        "--images",
        "40",
        "--steps",
        "4",
        "--kind",
        "NP",
        "--strengths",
        "1",
    ],
    "guidance": ["--section", "grids", "--images", "40", "--paths", "20"],
}
FAST = ("entropy", "windows", "crosscheck", "remove")
EVERY = [
    pytest.param(command, form, marks=[] if command in FAST else [pytest.mark.slow])
    for command in WORDS
    for form in (*FORMS, "generate")
]


@pytest.mark.parametrize(("command", "form"), EVERY)
def test_a_model_from_elsewhere_goes_through_every_command(command, form, tmp_path, monkeypatch):
    monkeypatch.setattr(crosscheck_study, "CLASSIFIER_STEPS", 60)  # half a minute else
    num = 60 if command in ("entropy", "windows", "crosscheck") else 240  # a judge has 32 features
    if form == "generate":
        words = ["--generate", str(num), "--folder", "run"]
    else:
        words = ["--data", str(FORMS[form](tmp_path / "data", num))]
    out = tmp_path / ("out.json" if command == "windows" else "out")
    words += [*WORDS[command], "--out", str(out), "--quiet"]
    assert main([command, "theirs:denoiser", *words]) == 0
    content = json.loads((out if command == "windows" else out / "result.json").read_text())
    if command == "crosscheck":
        half = "one half of " if form != "idx" else ""
        assert content["law"].startswith(half)
        assert content["theory"]["fitted_to"] != content["law"]
        assert content["variables"]["class"]["fit_errors"]["half entropy"]["stderr"] > 0.02
        assert f"the {content['theory']['num_states']} states" in (out / "report.md").read_text()
        assert {"report.html", "pairs.png", "tree.png"} <= {p.name for p in out.iterdir()}
        tracked = content["curves"]["class: tracked"]["entropy"]["value"]
        theory = content["curves"]["class: theory"]["entropy"]["value"]
        # A model that is the mixture, and a mixture fitted to thirty images of it.
        assert np.max(np.abs(np.subtract(tracked, theory))) < 0.35
    if command == "remove":
        assert content["model"] == "theirs:denoiser"


def test_names_are_found_in_class_folders(tmp_path):
    as_pictures(tmp_path / "data", 6)
    (tmp_path / "data" / "square").mkdir()
    with pytest.raises(ValueError, match=r"'square' in .* names no class"):
        mb.study("theirs:denoiser", data=tmp_path / "data")
    words = ClassNames.of_classes(NAMES)
    assert words.find("Ring").classes == (0,)


def test_digits_take_the_files_of_others(tmp_path):
    """IDX files of 8 x 8 pixels are digits, dark on light or light on dark; others are refused."""
    digits = mb.digits.load_digits()
    grey = digits.to_pixels(digits.held_out_images[:12]).clamp(0, 16)
    light = (grey * 255 / 16).round().to(torch.uint8)
    model = mb.study("digits")
    for pixels in (light, 255 - light):
        found = model.pixels(pixels)
        torch.testing.assert_close(found, digits.held_out_images[:12], atol=0.02, rtol=0)
    as_idx(tmp_path / "small")
    small = mb.study("digits", data=tmp_path / "small")
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\); got \(1, 4, 4\)"):
        small.states(small.averaged)


def test_a_crosscheck_in_a_folder_goes_on_and_is_the_same(tmp_path, monkeypatch):
    """In chunks, found again, and in one piece: one tracked posterior, and no evaluation twice."""
    monkeypatch.setattr(crosscheck_study, "CLASSIFIER_STEPS", 20)
    settings = Settings(num_levels=9, num_paths=2)
    model = mb.study("theirs:denoiser", data=as_npz(tmp_path / "data", 72), split=True)
    grouping = {"round": Partition([0, 1, 0])}
    words = {"settings": settings, "partitions": grouping}
    whole = mb.crosscheck(model, **words).posterior
    for _ in range(2):
        before = model.denoiser.evaluations
        found = mb.crosscheck(model, folder=tmp_path / "run", **words).posterior
        cost = model.denoiser.evaluations - before
        np.testing.assert_allclose(found.log_posterior, whole.log_posterior, atol=1e-8)
        np.testing.assert_allclose(found.coarse.bayes_gap, whole.coarse.bayes_gap, atol=1e-8)
        np.testing.assert_allclose(found.group_gap("round"), whole.group_gap("round"), atol=1e-8)
        np.testing.assert_array_equal(found.labels, whole.labels)
        assert found.evaluations == whole.evaluations == 36 * 2 * 9 * 4
    assert cost < 100  # settings are probed, and one image gives the shape of the record


def test_draws_of_a_study_are_kept_and_named_by_what_they_depend_on(tmp_path):
    """The same run is read; another scale, seed or grid is drawn; a damaged file is drawn again."""
    model = mb.study("theirs:denoiser", data=as_npz(tmp_path / "data", 240), split=True)
    model = replace(model, folder=tmp_path / "kept")
    levels = torch.tensor([20.0, 2.0, 0.2, 0.05], dtype=torch.float64)

    def run(scale=2.0, **words):
        before = model.denoiser.evaluations
        kind = lambda own: ClassifierFree(own, scale)  # noqa: E731
        (found,) = draw_all(model, [Wanted("run", kind, 60, **words)])
        return found, model.denoiser.evaluations - before

    first, cost = run(sigmas=levels)
    again, none = run(sigmas=levels)
    assert (cost > 0, none) == (True, 0)
    assert again.evaluations == first.evaluations > 0
    torch.testing.assert_close(again.pictures, first.pictures, rtol=0, atol=0)
    for words in ({"scale": 2.0000001}, {"seed": 1}, {"method": "probability-flow"}):
        assert run(sigmas=levels, **words)[1] > 0
    assert run(sigmas=levels[:3])[1] > 0
    own, (low, high) = model, model.denoiser.sigma_range
    for changed in (
        {"sigma_range": (low / 2, high * 2)},  # levels that are not given are its own
        {
            "coefficients": lambda self, sigma: (
                1 + 0 * torch.as_tensor(sigma),
                torch.as_tensor(-sigma),
            )
        },
    ):
        other = type("Other", (Wrapped,), changed)()
        other.denoiser = own.denoiser.denoiser
        model = replace(own, denoiser=CountingDenoiser(other))
        assert run(sigmas=levels)[1] > 0
    model = own
    for path in (tmp_path / "kept").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    once_more, cost = run(sigmas=levels)
    assert cost > 0
    torch.testing.assert_close(once_more.pictures, first.pictures, rtol=0, atol=0)


def test_draws_of_other_classes_are_other_draws_however_many(tmp_path):
    """A list of more than a thousand labels is one with those in its middle."""
    model = mb.study("theirs:denoiser", data=as_npz(tmp_path / "data", 240), split=True)
    model = replace(model, folder=tmp_path / "kept")
    levels = torch.tensor([20.0, 0.2], dtype=torch.float64)

    def cost(turned):
        def kind(own):
            middle = slice(len(own) // 2, len(own) // 2 + 4)
            labels = own.clone()
            labels[middle] = own[middle].roll(turned)
            return ClassifierFree(labels, 2.0)

        before = model.denoiser.evaluations
        draw_all(model, [Wanted("run", kind, 1100, sigmas=levels)])
        return model.denoiser.evaluations - before

    assert cost(0) > 0
    assert cost(1) > 0
    assert cost(1) == cost(0) == 0


def test_draws_have_the_shares_that_a_model_says(tmp_path):
    """Exact draws of a model with a `class_prior` are as near its data as data are."""
    weights = np.array([0.7, 0.2, 0.1])
    means = 1.5 * np.random.default_rng(0).normal(size=(3, 36))
    exact = mb.mixture_denoiser(
        GaussianMixture.isotropic(means, 0.2, weights), event_shape=(1, 6, 6)
    )
    x, labels = GaussianMixture.isotropic(means, 0.2, weights).sample(jax.random.key(0), 1200)
    states = np.asarray(x, np.float32).reshape(-1, 1, 6, 6)
    np.savez(tmp_path / "drawn.npz", states=states, labels=np.asarray(labels))
    model = mb.study_denoiser(exact, "it").with_data(tmp_path / "drawn.npz", split=True)
    counts = np.bincount(model.balanced_labels(200))
    assert counts.tolist() == [140, 40, 20]
    assert np.abs(np.bincount(model.balanced_labels(37), minlength=3) - 37 * weights).max() < 1
    drawn = torch.from_numpy(states[np.argsort(labels, kind="stable")][:600])  # other shares
    in_turn, floor = model.balanced_labels(300).numpy(), model.floor(300)
    pools = [iter(np.flatnonzero(np.asarray(labels) == k)) for k in range(3)]
    fair = torch.from_numpy(states[[next(pools[k]) for k in in_turn]])
    assert float(model.assess(fair).balance.value) < 3e-3
    assert float(model.assess(drawn).balance.value) > 0.02
    assert float(floor.held_out.balance.value) < 0.02
    equal = mb.study("digits")
    assert equal.balanced_labels(25).tolist() == [i % 10 for i in range(25)]
