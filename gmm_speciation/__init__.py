"""Speciation in diffusion models, exactly, on Gaussian mixtures. See the README for a tour.

Names load on first use: importing the package loads no JAX. JAX computes in threads, and a process forked
from one where it has run hangs: start yours by `multiprocessing.get_context("spawn")`.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
