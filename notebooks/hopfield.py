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
# # Hopfield, collapse, speciation: one transition
#
# The energy of a modern Hopfield network is the negative log-density of the empirical mixture at
# $\sigma^2 = 1/\beta$. For equidistant patterns the inverse temperature *is* the signal of diffusion,
# $\beta_{\mathrm{eff}} = \alpha^2\delta^2/2\sigma^2$.

# %%
import jax

from gmm_speciation import hopfield, plotting

# %matplotlib inline
jax.config.update("jax_enable_x64", True)
count = 10
patterns = hopfield.equidistant_patterns(count, count)
network = hopfield.Network(patterns)

# %% [markdown]
# ## Minima appear, grow as deep as the symmetric state, and outlive it

# %%
found = [network.pattern(0)]
critical = hopfield.critical_betas(count)
print(critical)
plotting.plot_bifurcations(found, critical, network.largest)

# %% [markdown]
# ## Digits are no equidistant patterns: their minima appear one after the other

# %%
digits = hopfield.digit_patterns(count, seed=0)
other = hopfield.Network(digits)
several = [other.pattern(index) for index in range(3)]
plotting.plot_bifurcations(several, critical, other.largest)

# %% [markdown]
# ## One axis for the energy and for the entropy
#
# Loss of stability is the spectral point; the first-order transition tends to the edge $2\log N$ at which
# the entropy of the class is gone; and where every pattern is a training point, that edge is collapse.

# %%
ideal = hopfield.equidistant_transitions(count)
actual = hopfield.pattern_transitions(digits, num_samples=2048, key=jax.random.key(0))
predicted = {
    "appearance": critical.appearance,
    "equal energy": critical.equal_energy,
    "stability": critical.stability,
}
names = {"spectral": "spectral", "half_entropy": "half entropy", "peak": "entropic peak"}
predicted |= {shown: getattr(ideal, name) for name, shown in names.items()}


def of_digits(name):
    """The values of the patterns that have such a transition."""
    return [value for one in several if (value := getattr(one.betas, name)) is not None]


measured = {
    "appearance": of_digits("appearance"),
    "equal energy": of_digits("equal_energy"),
    "stability": other.stability,
} | {shown: getattr(actual, name) for name, shown in names.items()}
plotting.plot_transitions(predicted, measured, ideal, actual)
