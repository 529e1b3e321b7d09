"""A classifier of noisy states: an upper bound on H(C|x_sigma) that knows no denoiser.

For any q, `E[-log q(y | x_sigma)] >= H(C | x_sigma)`, with equality for the true posterior. Here q is
a multilayer perceptron of `(c_in(sigma) x, log sigma)`, trained on noised training states and
judged on noised held-out ones; it shares data with the diffusion model at most, and nothing else. The
noise level is drawn so that log sigma is uniform over the model's range. What is trained on has the class
shares s of its images; under the class weights pi it is `q pi / s`, normalised (Saerens et al. 2002).
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gmm_speciation.estimate import Estimate
from gmm_speciation.progress import Parts, Progress, listening
from gmm_speciation.shares import entropy_with_unseen

WIDTH, DROPOUT = 256, 0.3
BATCH = 512  # noised images a step
NUM_DRAWS = 4  # of noise an image, averaged before the error over images is taken


class NoisyClassifier(nn.Module):
    """Log-probabilities of C classes given a noisy state and its noise level."""

    def __init__(self, num_inputs: int, num_classes: int, sigma_data: float):
        super().__init__()
        self.sigma_data = sigma_data
        self.layers = nn.Sequential(
            nn.Linear(num_inputs + 3, WIDTH),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(WIDTH, WIDTH),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(WIDTH, num_classes),
        )
        # Of class weights and shares of the training images.
        self.log_ratio = torch.zeros(num_classes)

    def forward(
        self, x: Float[Tensor, "B *event"], sigma: Float[Tensor, " B"]
    ) -> Float[Tensor, "B C"]:
        """`log q(c | x)`."""
        scale = torch.rsqrt(sigma**2 + self.sigma_data**2)[:, None]
        level = torch.log(sigma)[:, None] / 4
        scaled = scale * x.flatten(1).float()
        features = torch.cat([scaled, level, torch.cos(level), torch.sin(level)], 1)
        return torch.log_softmax(self.layers(features) + self.log_ratio, 1)


def train_noisy_classifier(
    images: Float[Tensor, "N *event"],
    labels: Int[Tensor, " N"],
    sigma_range: tuple[float, float],
    *,
    prior: Float[np.ndarray, " C"],
    sigma_data: float,
    num_steps: int = 3000,
    seed: int = 0,
    progress: Progress | Parts | None = None,
) -> NoisyClassifier:
    """Train on the noised training images; Adam, one cosine decay, weight decay 1e-2.

    Args:
        images: Clean training states, in the units of sigma.
        labels: Their classes.
        sigma_range: log sigma is uniform between the logarithms of these.
        prior: Class weights.
        sigma_data: Standard deviation of the states.
        num_steps: Optimiser steps.
        seed: Of initial weights, batches and noise; the caller's random state is left alone.
        progress: Told of the steps that are done.
    """
    low, high = (float(np.log(level)) for level in sigma_range)
    told = listening(progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NoisyClassifier(images[0].numel(), len(prior), sigma_data)
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
        for step in range(num_steps):
            index = torch.randint(len(images), (BATCH,))
            sigma = torch.exp(low + (high - low) * torch.rand(BATCH))
            clean = images[index].flatten(1).float()
            noisy = clean + sigma[:, None] * torch.randn_like(clean)
            loss = nn.functional.nll_loss(model(noisy, sigma), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            told.part(step + 1, num_steps)
    counts = torch.bincount(labels, minlength=len(prior))
    model.log_ratio = torch.log(torch.as_tensor(prior) * len(labels) / counts).float()
    return model.eval().requires_grad_(False)


def noisy_cross_entropy(
    log_posterior: Callable[[Float[Tensor, "N *event"], float], Float[np.ndarray, "N C"]],
    images: Float[Tensor, "N *event"],
    labels: Int[np.ndarray, " N"],
    sigmas: Float[np.ndarray, " L"],
    *,
    seed: int = 0,
) -> Estimate:
    """Cross-entropy of any posterior on noised images at every level, `(L,)`: an upper bound on H.

    Args:
        log_posterior: `(x, sigma) -> log q(c | x)`.
        images: Clean images.
        labels: Their classes, in the posterior's numbering.
        sigmas: Noise levels.
        seed: Of the noise.

    Raises:
        ValueError: If there are fewer than two images.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = np.arange(len(labels))
    losses = np.zeros((len(sigmas), len(labels)))
    for i, sigma in enumerate(sigmas):
        for _ in range(NUM_DRAWS):
            noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
            log_q = log_posterior(images + float(sigma) * noise, float(sigma))
            losses[i] -= log_q[rows, labels] / NUM_DRAWS
    return entropy_with_unseen(Estimate.from_samples(losses, axis=1), len(labels))
