"""How good drawn images are, in the feature space of a classifier trained on the data.

    judge = FeatureClassifier.train(digits.train_images, digits.train_labels)
    reference = Reference.of(judge, digits.train_images, digits.train_labels)
    quality = assess(images, judge, reference, removed=7)
    quality.frechet, quality.removed_share, quality.balance      # each with its error

Runs that drew image i from the same noise are compared in pairs: `paired_difference`.
"""

from model_bridges.quality.assessment import Quality, assess
from model_bridges.quality.comparison import QualityCurve, paired_difference
from model_bridges.quality.feature_classifier import FeatureClassifier
from model_bridges.quality.floor import Floor, floor
from model_bridges.quality.frechet import Moments, frechet_distance
from model_bridges.quality.jackknife import Jackknifed
from model_bridges.quality.reference import Reference

__all__ = [
    "FeatureClassifier",
    "Floor",
    "Jackknifed",
    "Moments",
    "Quality",
    "QualityCurve",
    "Reference",
    "assess",
    "floor",
    "frechet_distance",
    "paired_difference",
]
