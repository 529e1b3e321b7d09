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
# # Estimators of H(C|X), ranked, yours among them
#
# Two classes in sixteen dimensions, where the entropy is an integral. A few estimators see the same
# samples; the last one is written here.

# %%
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np

import gmm_speciation as gs
from gmm_speciation import plotting

# %matplotlib inline
jax.config.update("jax_enable_x64", True)
mixture = gs.families.symmetric_pair(dim=16)
x, labels = mixture.sample(jax.random.key(0), 1000)
sigmas = np.geomspace(0.7, 30, 12)
truth = gs.entropy_curve(mixture, gs.transition_grid(mixture))

# %% [markdown]
# ## One of yours: a class with a title, a source and one method

# %%
MINE = """
import numpy as np
from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators import Kind, LevelEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

class Mine(LevelEstimator):
    title, reference, kind = "held-out LDA", "none", Kind.UPPER

    def level(self, x, labels, prior, rng):
        fitted = LinearDiscriminantAnalysis().fit(x[::2], labels[::2])
        log_p = fitted.predict_log_proba(x[1::2])
        return Estimate.from_samples(-log_p[np.arange(len(log_p)), labels[1::2]])
"""
folder = TemporaryDirectory()
Path(folder.name, "mine.py").write_text(MINE)
sys.path.append(folder.name)


# %% [markdown]
# ## All of them on the same clean samples, the noise added at every level


# %%
def curve(method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, on single levels
        return gs.estimate_class_entropy(x, labels, method=method, sigma=sigmas, clean=True)


found = {method: curve(method) for method in ("logistic", "ross", "lda", "mine:Mine")}
exact = np.asarray(gs.class_entropy(mixture, -2 * np.log(sigmas[::-1]), method="exact").value)
error = {
    name: float(np.sqrt(np.mean((np.asarray(one.entropy.value) - exact[::-1]) ** 2)))
    for name, one in found.items()
}
for name in sorted(error, key=error.get):
    print(f"{name:10} root mean square error {error[name]:.4f} nats")

# %%
best = min(error, key=error.get)
plotting.plot_curve({"exact": truth, f"{best}, the best": found[best]})

# %%
plotting.plot_curve({"exact": truth, "yours": found["mine:Mine"], "ross": found["ross"]})

# %% [markdown]
# `gmm-speciation benchmark` does this on 27 tasks for 38 estimators, with a limit of time and memory for
# each run.

# %%
plotting.plot_curve({"exact": truth} | found)
