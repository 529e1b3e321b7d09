"""A classifier whose last hidden layer is the space in which images are compared.

Perceptron with rectified hidden layers on standardised pixels, trained by cross-entropy (Adam;
scikit-learn's `MLPClassifier`, deterministic for a seed). With `a_0 = (clip(x) - shift) / scale`,

    a_l = max(0, a_{l-1} W_l + b_l),      features(x) = a_L,      logits = a_L W + b.

Pixels are clipped to the range of all training pixels, as they are when pictures are stored for an FID;
otherwise a single image that a sampler blew up decides the distance of a thousand.

It plays the part that the Inception network plays in the FID (Heusel et al. 2017), at the size of the
data: features of digits for digits. Features have no units of their own; distances mean something
beside the floor of two true samples.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

Images = Float[Tensor, "n *event"] | Float[np.ndarray, "n *event"]
Labels = Int[Tensor, " labels"] | Int[np.ndarray, " labels"]

HIDDEN = (128, 32)
_WEIGHT_DECAY = 0.1
_BATCH, _MAX_UPDATES, _EPOCHS = 200, 10_000, (20, 150)
_SCALE_FLOOR = 0.1  # of the images' overall spread: pixels that hardly vary are not blown up
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class FeatureClassifier:
    """Names classes `0..C-1` of images and gives their features `(n, F)`.

    Build it with `FeatureClassifier.train`.
    """

    event_shape: tuple[int, ...]
    pixel_range: tuple[float, float]  # of the training images
    shift: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    weights: tuple[Float[np.ndarray, "_ _"], ...]  # hidden layers, then the logits
    biases: tuple[Float[np.ndarray, " _"], ...]

    @classmethod
    def train(
        cls, images: Images, labels: Labels, *, hidden: tuple[int, ...] = HIDDEN, seed: int = 0
    ) -> "FeatureClassifier":
        """Train on labelled images; seconds on small digits.

        Args:
            images: `(n, *event)`, any units.
            labels: Classes 0 to C - 1, each of them present.
            hidden: Widths of the hidden layers; the last is the number of features F.
            seed: Of the first weights and of the order of images.

        Raises:
            ValueError: If images and labels disagree, are not finite, or a class is missing.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        flat = _flat(images)
        classes = one_class_each(labels, len(flat))
        present = np.unique(classes)
        if len(present) < 2 or not np.array_equal(present, np.arange(len(present))):
            raise ValueError(
                "labels must be the classes 0 to C - 1, at least two, each of them present; got "
                f"{present.tolist()[:20]}."
            )
        if not hidden or min(hidden) < 1:
            raise ValueError(f"`hidden` must be one width or more, all positive; got {hidden}.")
        shift = flat.mean(0, dtype=float)
        # In parts, as a copy of a large set in float64 would not fit beside it.
        variance = sum(((part - shift) ** 2).sum(0) for part in _parts(flat)) / len(flat)
        scale = np.sqrt(variance + _SCALE_FLOOR**2 * variance.mean())
        if not scale.min() > 0:
            raise ValueError("the images are all alike; there is nothing to learn.")
        machine = MLPClassifier(
            hidden,
            alpha=_WEIGHT_DECAY,
            batch_size=min(_BATCH, len(flat)),
            max_iter=int(np.clip(_MAX_UPDATES * _BATCH // len(flat), *_EPOCHS)),
            random_state=seed,
        )
        with warnings.catch_warnings():
            # The budget is the rule; whether it sufficed is what `accuracy` says.
            warnings.simplefilter("ignore", ConvergenceWarning)
            parts = [((part - shift) / scale).astype(np.float32) for part in _parts(flat)]
            machine.fit(np.concatenate(parts), classes)
        weights = [np.asarray(w, float) for w in machine.coefs_]
        biases = [np.asarray(b, float) for b in machine.intercepts_]
        if len(present) == 2:  # one logit; as two, with the first at 0
            weights[-1] = np.concatenate([np.zeros_like(weights[-1]), weights[-1]], 1)
            biases[-1] = np.concatenate([np.zeros(1), biases[-1]])
        pixel_range = float(flat.min()), float(flat.max())
        return cls(
            tuple(images.shape[1:]), pixel_range, shift, scale, tuple(weights), tuple(biases)
        )

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.biases[-1])

    @property
    def num_features(self) -> int:
        """F."""
        return len(self.biases[-2])

    def features(self, images: Images) -> Float[np.ndarray, "n F"]:
        """Activations of the last hidden layer, in float64.

        Raises:
            ValueError: If images have another shape than those of the training, or are not finite.
        """
        if tuple(images.shape[1:]) != self.event_shape:
            raise ValueError(
                f"images must have shape (n, {', '.join(map(str, self.event_shape))}), as in training; "
                f"got {tuple(images.shape)}."
            )
        parts = [self._hidden(part) for part in _parts(_flat(images))]
        return np.concatenate([np.zeros((0, self.num_features)), *parts])

    def logits(self, features: Float[np.ndarray, "n F"]) -> Float[np.ndarray, "n C"]:
        """Unnormalised log-probabilities of the classes, from features."""
        return features @ self.weights[-1] + self.biases[-1][None]

    def predict(self, images: Images) -> Int[np.ndarray, " n"]:
        """The likeliest class of every image. Raises as `features`."""
        return self.logits(self.features(images)).argmax(1)

    def accuracy(self, images: Images, labels: Labels) -> float:
        """Share of images whose predicted class is the label. Raises as `features` and `one_class_each`."""
        return float((self.predict(images) == one_class_each(labels, len(images))).mean())

    def _hidden(self, flat: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n F"]:
        active = (flat.clip(*self.pixel_range) - self.shift[None]) / self.scale[None]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            active = np.maximum(active @ weight + bias[None], 0)
        return active


def _numpy(x: Tensor | np.ndarray) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else x


def one_class_each(labels: Labels, num_images: int) -> Int[np.ndarray, " n"]:
    """Labels of so many images in numpy.

    Raises:
        ValueError: If they are not one integer an image.
    """
    classes = np.asarray(_numpy(labels))
    if classes.shape != (num_images,) or classes.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape ({num_images},), one class an image; got {classes.dtype} of "
            f"shape {classes.shape}."
        )
    return classes


def _parts(flat: Float[np.ndarray, "n d"]) -> Iterator[np.ndarray]:
    """Rows in turn, in float64."""
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK].astype(float)


def _flat(images: Tensor | np.ndarray) -> Float[np.ndarray, "n d"]:
    flat = _numpy(images).reshape(len(images), math.prod(images.shape[1:]))
    broken = ~np.isfinite(flat).all(1)
    if broken.any():
        raise ValueError(
            f"images must be finite; {int(broken.sum())} of {len(flat)} hold NaN or infinity: a sampler "
            "that diverged? Lower the strength, or leave these runs out."
        )
    return flat
