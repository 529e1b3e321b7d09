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
# # Guidance and removal
#
# A guidance scale $w$ does two things at once: it makes the class likelier, and it makes the decision
# earlier.

# %%
import jax
import numpy as np

import gmm_speciation as gs
from gmm_speciation import plotting
from gmm_speciation.guidance import DynamicNegative, NegativePrompt

# %matplotlib inline
jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## Two classes: one equation for every model
#
# The log-odds of the guided class obey one equation in the clock $\kappa$. The cross-entropy falls with
# the factor $2w - 1$, and commitment moves to higher noise.

# %%
kappa = np.geomspace(0.02, 8, 60)
curves = {w: gs.guidance.guided_curve(w, kappa) for w in (1.0, 2.0, 4.0, 8.0)}
for w in curves:
    print(f"w = {w:g}: commitment moves by {gs.guidance.commitment_shift(w):.3f} in log σ")
plotting.plot_guided(curves)

# %% [markdown]
# ## Where guidance pays
#
# Guidance in an interval of noise, anywhere: what it adds to the final confidence, and what to the shift.

# %%
gain = gs.guidance.interval_gain(2.0, np.geomspace(0.05, 4, 13))
plotting.plot_interval_gain([gain])

# %% [markdown]
# ## A class removed from a mixture
#
# Three classes; the samples should show two. Dynamic negative guidance with the exact posterior draws
# exactly the mixture without the class; a constant strength bends the others.

# %%
mixture = gs.families.equidistant(3, 2, distance=6.0)
clock = gs.VarianceExploding()
times = np.geomspace(40.0, 0.02, 60)
kinds = {
    "unguided": None,
    "negative prompt": NegativePrompt(0, 1.0),
    "dynamic negative": DynamicNegative(0, 1.0, gs.guidance.ExactPosterior(mixture, 0)),
}
drawn = {
    name: np.asarray(
        gs.sample(
            mixture, clock, times, key=jax.random.key(0), num_samples=600, guidance=kind
        ).final
    )
    for name, kind in kinds.items()
}
for name, x in drawn.items():
    print(name, np.round(np.asarray(gs.class_posterior(mixture, x)).mean(0), 3))

# %%
from matplotlib.figure import Figure

with plotting.styled():
    figure = Figure(figsize=(8.2, 3), layout="constrained")
    for axes, (name, x) in zip(
        figure.subplots(1, 3, sharex=True, sharey=True), drawn.items(), strict=True
    ):
        axes.scatter(*x.T, s=4, color=plotting.COLOURS[0], alpha=0.5)
        axes.scatter(*np.asarray(mixture.means)[0], marker="x", color=plotting.COLOURS[1], zorder=3)
        axes.set_title(name)
        axes.set_aspect("equal")
figure
