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
# # Published results, run again beside the exact answer
#
# Three experiments of the speciation literature: clones of two classes, a hierarchy whose separations
# spread over decades, and four points on a line under the schedule of DDPM.

# %%
import jax
import numpy as np

from gmm_speciation import plotting, published

# %matplotlib inline
jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## Clones (Biroli et al. 2024, Fig. 1)
#
# Two reverse trajectories part at time $t$; do they end in one class? Classes $N(\pm(1, \dots, 1), I)$ in
# 256 to 16384 dimensions, 1000 Euler steps from $T = 10$. The projection onto $m$ obeys the same equation in
# one dimension, so the simulation costs the same for every $d$; 2000 pairs here, 10 000 in the paper and
# in `gmm-speciation verify`. Diamonds are runs of the whole state.

# %%
cloning = published.biroli_cloning(key=jax.random.key(0), num_pairs=2000, full_pairs={256: 64})
plotting.plot_cloning(cloning)

# %%
for dim in cloning.dims:
    fit = cloning.chi_square(dim)
    print(f"d = {dim:6d}: χ² = {fit.value:5.1f} for {fit.dof} branch times, p = {fit.p_value:.2f}")

# %% [markdown]
# ## A hierarchy of depth four
#
# Leaves on a line, each level ten times closer than the one above. Noise takes one level after the
# other: the entropy of the leaves falls in stairs of $\log 2$. The decision of a level is its entropy given
# the level above; the chain rule ties the two together at every noise.

# %%
tree = published.deep_hierarchy()
plotting.plot_hierarchy(tree)

# %%
print(f"largest gap of the chain rule: {np.abs(tree.chain.gap).max():.1e} nats\n")
print(
    "log-SNR of           " + "".join(f"{name:>16}" for name in tree.criteria["level 1, 2 classes"])
)
for name, points in tree.criteria.items():
    print(f"{name:21}" + "".join(f"{float(p.log_snr.value):16.3f}" for p in points.values()))

# %% [markdown]
# ## Four points on a line (Handke et al. 2025)
#
# Points at $-8, -4, 6, 8$ under the linear schedule of 1000 steps, entropies in bits. From noise to signal
# the sides are decided first, then $-8$ or $-4$, and last $6$ or $8$, which are closest.

# %%
points = published.four_points()
plotting.plot_four_points(points)

# %%
for name, curve in points.named().items():
    print(f"{name:28} decided fastest at step {float(curve.peak().time.value):5.1f}")
