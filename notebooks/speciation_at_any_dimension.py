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
# # Speciation at any dimension
#
# Where on the noise axis does a diffusion model decide between classes, and how does that place move
# when the dimension grows to $10^{12}$, or the number of classes to $10^6$? Everything here is an
# integral over one or two variables: no array has $d$ entries and nothing is sampled.

# %%
import jax
import numpy as np

import gmm_speciation as gs
from gmm_speciation import asymptotics, plotting

# %matplotlib inline
jax.config.update("jax_enable_x64", True)
clock = gs.OrnsteinUhlenbeck()

# %% [markdown]
# ## Two classes: one law around $t_S$
#
# Classes $N(\pm m, s^2 I)$ with $|m|^2 = d$. A reduced mixture keeps what the class posterior needs, here
# one number. Around $t_S = \frac12 \log d$ the curves of all dimensions fall on one law; at small $d$ they
# stay above it, because noiseless classes overlap ($s^2 = 4$), and they end where the process starts.


# %%
def around(law, family, dims=(16, 64, 1024, 10**6)):
    """The law, and curves of finite dimension on their clock, each with its t_S."""
    offset = np.linspace(-4, 4, 121) / law.exponent
    curves = {}
    for dim in dims:
        speciation = float(law.speciation_time(dim))
        times = (speciation + offset)[speciation + offset > 3e-3]
        curve = gs.entropy_curve(family(dim), clock.log_snr(times)).on(clock)
        curves[f"d = {dim:,}"] = curve, speciation
    return law.curve(offset), curves


means = asymptotics.SeparatedMeans()
plotting.plot_limit(
    *around(means, lambda dim: gs.families.symmetric_pair(dim, variance=4.0, reduced=True))
)

# %% [markdown]
# The width of the transition does not depend on $d$: the decision takes a fixed stretch of time while
# $t_S$ grows, so in units of $t_S$ it sharpens like $1/\log d$.

# %%
half, window = means.half_maximum(), means.window(0.8)
print(f"full width at half maximum  {half.width:.4f} in t, {half.log_snr_width:.4f} in log-SNR")
print(f"80 % of the information     {window.width:.4f} in t, {window.log_snr_width:.4f} in log-SNR")
print(f"peak of dH/dt               t_S {means.peak():+.4f}")

# %% [markdown]
# ## Classes that differ in variance only
#
# With equal means the classes are shells of different radius. The same law holds with
# $\kappa = e^{-4(t - t_S)}$: half as wide, and $t_S = \frac14 \log(d\,\Delta v^2/8)$.

# %%
shells = asymptotics.EqualMeans((0.5, 1.5))
plotting.plot_limit(
    *around(shells, lambda dim: gs.families.equal_means(dim, (0.5, 1.5), reduced=True))
)

# %% [markdown]
# ## $t_S$ against $\log d$
#
# All criteria measured at dimensions up to $10^{12}$, and the lines through them. The spectral criterion
# does not see equal means at all: the covariance of the data stays the same at every dimension.

# %%
dims = (10**3, 10**6, 10**12)
fits = {}
for name, family in {
    "means ±m": lambda dim: gs.families.symmetric_pair(dim, reduced=True),
    "equal means": lambda dim: gs.families.equal_means(dim, (0.5, 1.5), reduced=True),
}.items():
    found = asymptotics.speciation_scaling(family, dims)
    fits |= {f"{name}, {one}": found[one] for one in ("half entropy", "spectral")}
plotting.plot_scaling(fits, "Slope ½ between separated means, ¼ between variances")

# %% [markdown]
# ## Many classes: the criteria part
#
# For $K$ equidistant classes without variance, in the clock $s = \alpha^2\delta^2/2\sigma^2$, the spectral
# and the curvature criterion both say $s = K$. The entropy is half gone at $s \to \log K$ and wholly at
# $2 \log K$, as in the random-energy model: at a million classes the two answers are four decades
# apart. That is why an entropy is needed.

# %%
criteria = asymptotics.criteria_by_classes([2, 10, 100, 10**4, 10**6])
plotting.plot_class_criteria(criteria)

# %%
share = {name: getattr(criteria, name) / limit for name, limit in criteria.limits.items()}
print("K          half entropy / log K    peak / 2 log K    cloning / 2 log K")
for index, count in enumerate(criteria.num_classes):
    print(
        f"{count:<10.0f} {share['half_entropy'][index]:10.4f} {share['entropic_peak'][index]:20.4f}"
        f" {share['cloning'][index]:18.4f}"
    )
