"""Checkpoints read without running them, and kept as safetensors.

    checkpoint = read_checkpoint("edm2-img512-xs-2147483-0.045.pkl")
    convert("edm2-img512-xs-2147483-0.045.pkl", "edm2-img512-xs.safetensors")

The published EDM2 files are pickles whose loader executes program text found inside. Here the pickle is
read as symbols (`symbols`), tensors are taken out of it under bounds (`arrays`), and the rest is
understood as data (`official`).
"""

from model_bridges.checkpoints.checkpoint import EDM2_LATENTS, LICENCE, Checkpoint, LatentScaling
from model_bridges.checkpoints.errors import UnsafeCheckpointError
from model_bridges.checkpoints.reading import convert, read_checkpoint

__all__ = [
    "EDM2_LATENTS",
    "LICENCE",
    "Checkpoint",
    "LatentScaling",
    "UnsafeCheckpointError",
    "convert",
    "read_checkpoint",
]
