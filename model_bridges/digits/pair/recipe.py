"""What a training run of the pair consists of, as data.

The loss is EDM2's (Karras et al., 2024, arXiv 2312.02696, Eq. 14-16 and 21): with
`log sigma ~ N(log_sigma_mean, log_sigma_std^2)`, `x = x_0 + sigma n`, a learned log-variance `u`,

    L = E[ lambda(sigma) e^{-u(sigma)} |D(x; sigma, c) - x_0|^2 / pixels + u(sigma) ],
    lambda(sigma) = (sigma^2 + sigma_d^2) / (sigma sigma_d)^2.

Noise levels of a batch are stratified: one from each of `batch_size` equally likely intervals.
"""

from dataclasses import dataclass, field

from model_bridges.digits.data import NUM_CLASSES, SIGMA_DATA
from model_bridges.digits.training.recipe import Recipe

METADATA_KEY = "digits"  # of the file of weights: one JSON object
_NETWORK = {
    "img_resolution": 8,
    "img_channels": 1,
    "model_channels": 24,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_resolutions": (4,),
    "channels_per_head": 32,
    "sigma_data": SIGMA_DATA,
}


@dataclass(frozen=True)
class PairRecipe(Recipe):
    """The shipped pair was trained with the defaults."""

    roles = ("conditional", "unconditional")

    conditional_steps: int = 2000
    unconditional_steps: int = 1500
    log_sigma_mean: float = -0.2
    log_sigma_std: float = 1.5
    sigma_range: tuple[float, float] = (0.02, 80.0)
    network: dict = field(default_factory=_NETWORK.copy)

    def network_kwargs(self, role: str) -> dict:
        """Constructor arguments of the network in the given role, as published files name them."""
        return {**self.network, "label_dim": NUM_CLASSES if role == "conditional" else 0}
