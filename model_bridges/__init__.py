"""Trained diffusion models beside the closed-form theory: when does a model decide what it draws?

Names load on first use; importing the package loads no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
