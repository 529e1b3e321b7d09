"""The EDM2 network (Karras et al., 2024), written from the paper, and its published weights."""

from model_bridges.checkpoints import read_checkpoint
from model_bridges.edm2.network import EDM2Network

__all__ = ["EDM2Network", "read_checkpoint"]
