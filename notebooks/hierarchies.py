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
# # Hierarchies, partitions and several peaks
#
# A class is a group of components. One mixture has many semantic variables, each with its own window of
# decision.

# %%
import jax

import gmm_speciation as gs
from gmm_speciation import plotting

# %matplotlib inline
jax.config.update("jax_enable_x64", True)
mixture, tree = gs.families.hierarchy((2, 3), (12.0, 3.0), dim=32)
key = jax.random.key(0)
coarse, fine = tree
grid = gs.transition_grid(mixture, key=key)

# %% [markdown]
# ## Two levels, two windows
#
# The entropy of all six classes falls twice: first where the two groups part, then where the three within
# each do.

# %%
curves = {
    "2 groups": gs.entropy_curve(mixture, grid, partition=coarse, key=key),
    "6 classes": gs.entropy_curve(mixture, grid, partition=fine, key=key),
}
plotting.plot_curve(curves)

# %%
for name, curve in curves.items():
    peaks = ", ".join(
        f"λ = {float(p.log_snr.value):.2f} ({float(p.share.value):.0%})" for p in curve.peaks()
    )
    print(f"{name}: {peaks}")

# %% [markdown]
# ## The same components, other questions
#
# A partition across the groups is decided with the fine level, whatever the coarse one does.

# %%
across = gs.Partition([0, 1, 1, 0, 1, 1], names=("first of each", "the others"))
curves |= {"first of each": gs.entropy_curve(mixture, grid, partition=across, key=key)}
plotting.plot_curve(curves)

# %% [markdown]
# ## What parts at each bifurcation

# %%
times = gs.speciation_times(mixture, partition=fine, parents=coarse, key=key)
print(times)
plotting.plot_curve(times.curve, gs.OrnsteinUhlenbeck(), times)
