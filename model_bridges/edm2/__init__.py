"""The EDM2 network (Karras et al., 2024), written from the paper."""

from model_bridges.edm2.network import EDM2Network

__all__ = ["EDM2Network"]
