"""What a training run of the text-to-image model of digits consists of, as data.

*Autoencoder* (`AutoencoderKL`, factor 4: pictures of 32 x 32 to latents of 4 x 8 x 8). With the posterior
`N(m, s^2)` of the latents of a picture,

    L = E[ |decode(m + s n) - picture|^2 / 1024 + w KL(N(m, s^2) | N(0, 1)) / 256 ].

*Diffusion* (`UNet2DConditionModel` with a `CLIPTextModel`, trained together), on latents z of
standard deviation 1 after scaling, `x = a z + s n` with `a^2 = abar`, predicting `v = a n - s z`:

    L = E |v_net(x, t, caption) - v|^2 / 256,

t uniform on the steps, one from each of `batch_size` equal intervals, fractional steps by interpolation of
`log sigma`. Scaled-linear betas as Stable Diffusion's, but up to 0.02 in place of 0.012: noise then ends
at sigma 66 in place of 14.6, where a latent still tells something of its digit, which a posterior
that starts from the prior would miss. Predicting v keeps the posterior mean well conditioned there.
"""

from dataclasses import dataclass, field

from model_bridges.digits.training.recipe import Recipe

_AUTOENCODER = {
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (8, 16, 32),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 32,
}
_UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
_TEXT_ENCODER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "projection_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 8,
}


@dataclass(frozen=True)
class TextRecipe(Recipe):
    """The shipped model was trained with the defaults."""

    roles = ("autoencoder", "diffusion")
    positive = ("autoencoder_batch", "copies", "autoencoder_learning_rate")

    learning_rate: float = 2e-3
    warmup_steps: int = 100
    autoencoder_steps: int = 400
    autoencoder_batch: int = 64
    autoencoder_learning_rate: float = 3e-3
    kl_weight: float = 2e-3
    diffusion_steps: int = 2500
    level_weights: tuple[float, float, float, float] = (0.55, 0.15, 0.1, 0.2)  # as `LEVELS`
    copies: int = 16  # of every training picture, each moved a little, encoded once
    beta_start: float = 0.00085
    beta_end: float = 0.02
    num_train_timesteps: int = 1000
    autoencoder: dict = field(default_factory=_AUTOENCODER.copy)
    unet: dict = field(default_factory=_UNET.copy)
    text_encoder: dict = field(default_factory=_TEXT_ENCODER.copy)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.level_weights) < 0 or sum(self.level_weights) <= 0:
            raise ValueError(
                f"`level_weights` must be non-negative and not all 0; got {self.level_weights}."
            )

    def largest_rate(self, role: str) -> float:
        """Learning rate of a role between warm-up and decay."""
        return self.autoencoder_learning_rate if role == "autoencoder" else self.learning_rate

    def scheduler(self) -> dict:
        """Configuration of the noise schedule, as diffusers writes it."""
        return {
            "num_train_timesteps": self.num_train_timesteps,
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
            "beta_schedule": "scaled_linear",
            "prediction_type": "v_prediction",
            "clip_sample": False,
            "steps_offset": 1,  # as Stable Diffusion's; diffusers' samplers expect it
        }
