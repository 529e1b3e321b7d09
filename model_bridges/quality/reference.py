"""Data to compare drawn images with, in the feature space of a judge."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from model_bridges.quality.feature_classifier import (
    FeatureClassifier,
    Images,
    Labels,
    one_class_each,
)
from model_bridges.quality.frechet import Moments
from model_bridges.quality.precision_recall import radii
from model_bridges.quality.shares import class_traces


@dataclass(frozen=True, eq=False)
class Reference:
    """Features of m labelled images, and what comparisons need of them, computed once.

    Build it with `Reference.of`. `labels` are those of the data, `predicted` those of the judge:
    a class is removed and weighed by the former; spread inside a class goes by the latter, as
    for drawn images.
    """

    features: Float[np.ndarray, "m F"]
    labels: Int[np.ndarray, " m"]
    predicted: Int[np.ndarray, " m"]
    num_classes: int
    removed: int | None = None

    @classmethod
    def of(cls, judge: FeatureClassifier, images: Images, labels: Labels) -> "Reference":
        """Of labelled images.

        Raises:
            ValueError: If there is not one integer label an image, or one is no class of the judge.
        """
        features = judge.features(images)
        classes = one_class_each(labels, len(features))
        if not ((classes >= 0) & (classes < judge.num_classes)).all():
            raise ValueError(
                f"give one label 0 to {judge.num_classes - 1} an image; got labels "
                f"{sorted(set(classes.tolist()))[:20]}."
            )
        return cls(features, classes, judge.logits(features).argmax(1), judge.num_classes)

    def without(self, removed: int | None) -> "Reference":
        """The data of the other classes; itself for `None`. Kept, so that asking again is free.

        Raises:
            ValueError: If there is no such class, or another one is gone already.
        """
        if removed == self.removed:
            return self
        if self.removed is not None or removed is None:
            raise ValueError(
                f"this reference is without class {self.removed}; start from one with all classes."
            )
        if not 0 <= removed < self.num_classes or self.num_classes < 3:
            raise ValueError(
                f"`removed` must be a class 0 to {self.num_classes - 1} and leave two or more; got "
                f"{removed}."
            )
        if removed not in self._parts:
            stays = self.labels != removed
            self._parts[removed] = Reference(
                self.features[stays],
                self.labels[stays],
                self.predicted[stays],
                self.num_classes,
                removed,
            )
        return self._parts[removed]

    @cached_property
    def _parts(self) -> dict[int, "Reference"]:
        return {}

    @property
    def kept(self) -> Int[np.ndarray, " kept"]:
        """The classes that are not removed."""
        classes = np.arange(self.num_classes)
        return classes[classes != (-1 if self.removed is None else self.removed)]

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the features."""
        return Moments.of(self.features)

    @cached_property
    def radii(self) -> Float[np.ndarray, " m"]:
        """Reach of the balls of precision."""
        return radii(self.features)

    @cached_property
    def shares(self) -> Float[np.ndarray, " C"]:
        """Shares of the classes by the data's labels."""
        return np.bincount(self.labels, minlength=self.num_classes) / len(self.labels)

    @cached_property
    def traces(self) -> Float[np.ndarray, " C"]:
        """Trace of the covariance of features inside each class."""
        return class_traces(self.features, self.predicted, self.num_classes)

    @cached_property
    def digest(self) -> str:
        """Names the features and the removed class: runs compare where it agrees."""
        content = np.ascontiguousarray(self.features).tobytes() + str(self.removed).encode()
        return hashlib.sha256(content).hexdigest()[:16]
