"""An independent judge of digits: a support vector machine on the clean training images.

It shares the training split with the networks and nothing else: another model class, another
loss, no noise. Trained by scikit-learn with a radial kernel (C = 10, gamma = 1 / (64 variance)).
"""

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from model_bridges.checkpoints.errors import MissingExtraError
from model_bridges.digits.data import Digits


class DigitClassifier:
    """Names the class of clean standardised digits `(n, 1, 8, 8)`."""

    def __init__(self, digits: Digits) -> None:
        try:
            from sklearn.svm import SVC
        except ImportError as error:
            raise MissingExtraError(
                "the digit classifier needs scikit-learn, which is not installed; "
                "install the extra: pip install 'gmm-speciation[bridge]'"
            ) from error
        self._machine = SVC(C=10.0, gamma="scale")
        self._machine.fit(_flat(digits.train_images), digits.train_labels.numpy())

    def predict(self, images: Float[Tensor, "n 1 8 8"]) -> Int[np.ndarray, " n"]:
        """Class 0..9 of every image."""
        return self._machine.predict(_flat(images)).astype(np.int64)

    def accuracy(self, images: Float[Tensor, "n 1 8 8"], labels: Int[Tensor, " n"]) -> float:
        """Share of images whose predicted class is the label."""
        return float((self.predict(images) == labels.cpu().numpy()).mean())


def _flat(images: Tensor) -> np.ndarray:
    return images.detach().cpu().flatten(1).double().numpy()
