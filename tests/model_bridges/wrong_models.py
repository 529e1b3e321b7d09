"""Wrong models made of the shipped digits networks, whose right wrapping is known, and their curves."""

import warnings

import numpy as np
import torch

import model_bridges as mb
from gmm_speciation.reporting.trust import TrustWarning
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.digits import load_digits, load_networks
from model_bridges.edm2 import EDM2Network

ERROR, LABELS, BUDGET = "denoising error", "cross-entropy of the true labels", "information budget"
NAMED, GAINED = "labels named", "information gained"
RIGHT = mb.load("digits")
LOW, HIGH = RIGHT.sigma_range
LEVELS = np.geomspace(LOW, HIGH, 11)
NUM_IMAGES = 48


def wrap(raw, coefficients=RIGHT.coefficients, **options):
    """A wrapper of the digits' networks that may be wrong."""
    shape, levels = RIGHT.event_shape, RIGHT.sigma_range
    sizes = {"num_classes": 10, "event_shape": shape, "sigma_range": levels, "outside": "accept"}
    return NetworkDenoiser(raw, coefficients, **sizes | options)


def plain(sigma):
    return torch.zeros_like(sigma), torch.ones_like(sigma)


def untrained(gain):
    torch.manual_seed(3)
    network = EDM2Network(**load_networks()[2].network_kwargs["conditional"]).eval()
    network.unet.out_gain.data.fill_(gain)
    return mb.from_edm2(network.requires_grad_(False), sigma_range=RIGHT.sigma_range)


def data():
    digits = load_digits()
    return digits.held_out_images[:NUM_IMAGES], digits.held_out_labels[:NUM_IMAGES]


def curve_of(denoiser, images, labels=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)
        return mb.entropy_curve(denoiser, images, labels, **{"sigmas": LEVELS} | options)


def failed(curve):
    return [check.name for check in curve.trust.failed]


WRONG = {
    "sign": lambda: wrap(lambda x, s, label: -RIGHT.raw(x, s, label)),
    "time": lambda: wrap(lambda x, s, label: RIGHT.raw(x, LOW * HIGH / s, label)),
    # A network whose images have half the contrast and another zero, given these as they are.
    "scale": lambda: wrap(lambda x, s, label: RIGHT(2 * x + 0.5, s, label), plain),
    "untrained": lambda: untrained(1.0),
    "untrained, silent": lambda: untrained(0.0),
}


def wrong_digits():
    return WRONG["sign"]()
