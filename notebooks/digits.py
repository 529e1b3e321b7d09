# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your pipeline: curve, interval, picture. The digits model, its pairs and its tree
#
# A trained network on real handwritten digits stands for yours. At which noise does it decide what it
# draws?

# %%
import jax

import model_bridges as mb
from gmm_speciation import plotting

# %matplotlib inline
jax.config.update("jax_enable_x64", True)
digits = mb.study("digits")
images = digits.states(digits.averaged.first(48))

# %% [markdown]
# ## The curve, whether to believe it, and the window

# %%
record = mb.track(digits.denoiser, images.images, images.labels, sigmas=None)
curve = mb.tracked_curve(record)
interval = mb.guidance_interval(curve)
print(interval)
plotting.plot_curve(curve)

# %% [markdown]
# ## Which digits are told apart at which noise
#
# One pass with all classes has the posterior of every pair. Heights of the tree are the half-entropy
# points of the pairs.

# %%
tree = mb.decision_tree(record)
print(tree)
tree.plot(digits.class_names)[0].figure

# %% [markdown]
# ## What the model draws, guided inside the interval only

# %%
import torch
from matplotlib.figure import Figure

from model_bridges.guidance import ClassifierFree, Interval
from model_bridges.samplers import karras_sigmas, sample

labels = torch.arange(10)
kinds = {
    "unguided": ClassifierFree(labels, 1.0),
    "scale 3 everywhere": ClassifierFree(labels, 3.0),
    "scale 3 in the interval": Interval(
        ClassifierFree(labels, 3.0), low=interval[0], high=interval[1]
    ),
}
figure = Figure(figsize=(8.2, 3), layout="constrained")
grid = figure.subplots(3, 10)
for row, (name, kind) in zip(grid, kinds.items(), strict=True):
    drawn = sample(
        digits.denoiser,
        (10, *digits.denoiser.event_shape),
        karras_sigmas(24),
        guidance=kind,
        generator=torch.Generator().manual_seed(1),
    )
    for axes, image in zip(row, drawn[:, 0], strict=True):
        axes.imshow(image, cmap="gray")
        axes.axis("off")
    row[0].set_title(name, loc="left", fontsize=9)
figure
