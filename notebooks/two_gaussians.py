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
# # Two Gaussians, to the log law
#
# Classes $N(\pm m, I)$ with $|m|^2 = d$. One number, $\kappa = \alpha^2|m|^2/(\sigma^2 + \alpha^2)$,
# holds all that the noisy state says about its class.

# %%
import jax
import numpy as np

import gmm_speciation as gs
from gmm_speciation import asymptotics, plotting

# %matplotlib inline
jax.config.update("jax_enable_x64", True)
clock = gs.OrnsteinUhlenbeck()
pair = gs.families.symmetric_pair(dim=256)

# %% [markdown]
# ## The curve, and every criterion on it

# %%
times = gs.speciation_times(pair)
plotting.plot_curve(times.curve, clock, times)

# %% [markdown]
# ## The rate is the denoiser's
#
# $-dH/d\lambda = \frac12\sigma^2 E\|s_C - s\|^2$, measured here on draws, beside the slope of the
# entropy.

# %%
sampled = gs.entropy_curve(
    pair, times.curve.log_snr[::4], method="monte-carlo", num_samples=4096, key=jax.random.key(0)
)
plotting.plot_curve({"exact": times.curve, "4,096 draws": sampled}, clock)

# %% [markdown]
# ## The log law
#
# The peak lies at $\frac12\log d - 0.2055$ for every $d$, and the width of the window stays as it is.

# %%
dims = (10, 10**3, 10**6, 10**12)
for dim in dims:
    one = gs.families.symmetric_pair(dim, reduced=True)
    peak = gs.entropy_curve(one, gs.transition_grid(one)).on(clock).peak().time.value
    print(f"d = {dim:<14,} peak at t = {peak:7.4f} = ½ log d {peak - np.log(dim) / 2:+.4f}")
fits = asymptotics.speciation_scaling(
    lambda dim: gs.families.symmetric_pair(dim, reduced=True), dims
)
plotting.plot_scaling(
    {name: fits[name] for name in ("entropic peak", "half entropy", "spectral")},
    "All criteria of two classes follow ½ log d",
)
