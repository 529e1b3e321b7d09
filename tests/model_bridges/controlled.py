"""An exact mixture posing as a trained model, whose control is known, and the files a command reads."""

import json
import struct
import sys
import types

import numpy as np
import torch

from gmm_speciation import GaussianMixture
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.images.sets import ImageSet, Parts
from model_bridges.quality import FeatureClassifier
from model_bridges.studied import study_denoiser

WEIGHTS = (0.4, 0.2, 0.2, 0.2)  # the class that is removed has a share of its own


def law():
    """Four classes in the plane; neighbours are 3 apart with standard deviations of 0.7."""
    return GaussianMixture.isotropic(
        [[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0], [0.0, 3.0]], 0.5, WEIGHTS
    )


def turns(num, classes=4):
    return torch.arange(num) % classes


def judged_mixture():
    """An exact mixture posing as a model, its judge trained on draws of it."""
    mixture = law()
    parts = []
    for seed, num in ((0, 1600), (1, 400)):
        rng = np.random.default_rng(seed)
        labels = rng.choice(4, num, p=WEIGHTS)
        x = np.asarray(mixture.means)[labels] + np.sqrt(0.5) * rng.normal(size=(num, 2))
        parts.append(ImageSet.of(torch.from_numpy(x).float(), labels, "images", "draws"))
    return study_denoiser(
        mixture_denoiser(mixture, sigma_range=(0.02, 15.0)),
        "mixture",
        class_names=tuple("abcd"),
        data=Parts(parts[1], parts[0]),
        train_judge=lambda train: FeatureClassifier.train(
            train.images, train.labels, hidden=(24, 6)
        ),
    )


def written(out, pictures):
    """The record of a run, whose page and pictures are there."""
    assert {path.name for path in out.glob("*.png")} == pictures
    assert all(path.stat().st_size > 3000 for path in out.glob("*.png"))
    page = (out / "report.html").read_text()
    assert page.count("<img") == len(pictures)
    return json.loads((out / "result.json").read_text())


def write_idx(folder, parts):
    for name, (pixels, labels) in parts.items():
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            magic = {3: 2051, 1: 2049}[array.ndim]
            head = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())


def digit_files(folder, train=500, test=120):
    """Real digits of 8 x 8 pixels as MNIST-style files; returns bytes and classes of the training part."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    cut = slice(0, train), slice(train, train + test)
    parts = [(images[c], labels[c].astype(np.uint8)) for c in cut]
    write_idx(folder, dict(zip(("train", "t10k"), parts, strict=True)))
    return parts[0]


def serve(monkeypatch, denoiser):
    """Make `mine:model` return this denoiser."""
    module = types.ModuleType("mine")
    module.model = lambda: denoiser
    monkeypatch.setitem(sys.modules, "mine", module)


def fitted(pixels, labels, **options):
    """A mixture of one Gaussian a class fitted to bytes as the commands scale them."""
    x = pixels.reshape(len(pixels), -1) / 127.5 - 1
    means = np.stack([x[labels == c].mean(0) for c in range(10)])
    variance = np.stack([x[labels == c].var(0) for c in range(10)]).mean(0) + 0.02
    mixture = GaussianMixture.diagonal(means, np.broadcast_to(variance, means.shape), [0.1] * 10)
    return mixture_denoiser(mixture, sigma_range=(0.05, 30.0), **options)
