"""The EDM2 network (Karras et al., 2024), written from the paper, and its published weights."""

from model_bridges.checkpoints import read_checkpoint
from model_bridges.edm2.model import EDM2Model
from model_bridges.edm2.network import EDM2Network
from model_bridges.edm2.weights import ZERO_LABEL, load

__all__ = ["ZERO_LABEL", "EDM2Model", "EDM2Network", "load", "read_checkpoint"]
