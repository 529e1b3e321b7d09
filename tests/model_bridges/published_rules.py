"""The published rules of guidance in one dimension, in numpy, and the samplers on the same noise.

The setting: `N(-1, 1/4)` and `N(1, 1/4)` (variances) with equal weights, label 1, eight levels of Karras from
80 to .002 (rho 7) and a last step to zero, latents .5 and -.7 (times 80).
"""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import torch

import gmm_speciation as gs
from gmm_speciation.processes import VarianceExploding
from gmm_speciation.samplers import label_denoiser
from gmm_speciation.samplers import sample as sample_exactly
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.samplers import sample

VARIANCE = 0.25
LEVELS = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 8) ** 7
LATENTS = np.array([0.5, -0.7])
NOISES = np.array([0.3, -0.5, 0.8, -0.1, 0.2, -0.9, 0.4])
BETAS = np.linspace(1e-4, 0.02, 1000)  # of DDPM
SIGNAL = np.cumprod(1 - BETAS)
LAW = gs.GaussianMixture.isotropic([[-1.0], [1.0]], VARIANCE)
MODEL = mixture_denoiser(LAW)


def means(x, sigma, alpha=1.0):
    """`D_1` and `D` of the mixture at x, `(n,)` each."""
    spread = alpha**2 * VARIANCE + sigma**2
    centres = np.array([-1.0, 1.0])
    away = x[:, None] - alpha * centres
    own = centres + alpha * VARIANCE / spread * away
    odds = np.exp(-(away**2) / (2 * spread) + (away**2).min(1, keepdims=True) / (2 * spread))
    return own[:, 1], (odds * own).sum(1) / odds.sum(1)


def reverse(x, scale_of, noises=None):
    """The EDM sampler with `scale_of(index, x)` once a step: Heun's, or with noises the ancestral one."""
    levels, noises = np.append(LEVELS, 0.0), None if noises is None else [*noises, 0.0]
    for index, (sigma, lower) in enumerate(pairwise(levels)):
        scale = scale_of(index, x)

        def guided(x, sigma, scale=scale):
            of_class, whole = means(x, sigma)
            return whole + scale * (of_class - whole)

        slope = (x - guided(x, sigma)) / sigma
        if noises is not None:
            share = (lower / sigma) ** 2
            spread = math.sqrt((sigma**2 - lower**2) * share)
            x = share * x + (1 - share) * guided(x, sigma) + spread * noises[index]
        else:
            euler = x + (lower - sigma) * slope
            if lower > 0:
                slope = (slope + (euler - guided(euler, lower)) / lower) / 2
            x = x + (lower - sigma) * slope
    return x


class FeedbackRule:
    """log P tracked step by step; the scale is `P / (P - (1 - pi))`, and `w - 1` on top at some levels."""

    def __init__(self, temperature, offset, *, most=10.0, w=1.0, low=0.0, high=np.inf):
        self.temperature, self.offset, self.w = temperature, offset, w
        self.floor = math.log(1e-3 * (most - w + 1) / (most - w))
        self.low, self.high = low, high
        self.log_ratio, self.before, self.scales = 0.0, None, []

    def __call__(self, index, x):
        sigma = LEVELS[index]
        if self.before is not None:
            last, of_class, whole, noisy = self.before
            share = (sigma / noisy) ** 2
            spread = (noisy**2 - sigma**2) * share
            to_class = (x - share * last - (1 - share) * of_class) ** 2
            to_whole = (x - share * last - (1 - share) * whole) ** 2
            moved = self.log_ratio - self.temperature / (2 * spread) * (to_class - to_whole)
            self.log_ratio = np.clip(moved + self.offset, self.floor, 3.0)
        self.before = (x, *means(x, sigma), sigma)
        ratio = np.exp(self.log_ratio) + 0 * x
        scale = ratio / (ratio - 1e-3) + (self.w - 1) * (self.low < sigma <= self.high)
        self.scales.append(scale)
        return scale


def constant(steps):
    """Scale 3 at some steps, 1 elsewhere."""
    return lambda index, x: 3.0 if index in steps else 1.0


def by_torch(kind, **options):
    """What the torch sampler draws, its latents, and its noises, drawn again from the same seed."""
    drawn = sample(
        MODEL,
        (2, 1),
        torch.tensor(LEVELS),
        guidance=kind,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(5),
        **options,
    )
    again = torch.Generator().manual_seed(5)
    normals = [torch.randn(2, 1, generator=again, dtype=torch.float64) for _ in LEVELS]
    normals = np.stack([one[:, 0].numpy() for one in normals])
    return drawn[:, 0].numpy(), normals[0], normals[1:]


def by_jax(kind, latents, **options):
    """The same of the theory's sampler, from given latents, and its noises."""
    key = jax.random.key(3)
    path = sample_exactly(
        LAW,
        VarianceExploding(),
        LEVELS,
        key=key,
        start=80 * latents[:, None],
        guidance=kind,
        **options,
    )
    x = path.final
    level = (jnp.asarray(1.0), jnp.asarray(LEVELS[-1]))

    def denoise(label):
        return label_denoiser(LAW, x, *level, gs.Partition([0, 1]), label)

    ended, _ = kind.step(path.guidance_state, x, level, denoise)
    keys = jax.random.split(jax.random.split(key)[1], len(LEVELS) - 1)
    return np.asarray(ended[:, 0]), np.stack(
        [np.asarray(jax.random.normal(one, (2, 1)))[:, 0] for one in keys]
    )


def below(index):
    """A noise level between step `index` and the one after."""
    return math.sqrt(LEVELS[index] * LEVELS[index + 1])
