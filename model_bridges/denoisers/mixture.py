"""A Gaussian mixture posing as a trained model: the bridge's own oracle.

For `x_0 ~ sum_k w_k N(mu_k, U_k diag(v_k) U_k^T)` and `x = x_0 + sigma eps`, component k has the
posterior mean

    D_k(x) = mu_k + U_k diag(v_k / (v_k + sigma^2)) U_k^T (x - mu_k)

and a class c, a set of components, `D_c = sum_{k in c} q(k|x,c) D_k`; `UNCONDITIONAL` is the set of
all. The gain `v / (v + sigma^2)` and the data relative to the mixture's centre keep their digits at
both ends of the noise range. The raw output is `D` itself (skip 0, out 1).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gmm_speciation.covariances import LowRank
from gmm_speciation.inference import Classes
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from model_bridges.denoisers.base import Unconditional
from model_bridges.denoisers.network import NetworkDenoiser

Component = int | Int[Tensor, " B"]  # of all states, or of each


def mixture_denoiser(
    mixture: GaussianMixture,
    partition: Classes = None,
    event_shape: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float64,
    sigma_range: tuple[float, float] | None = None,
) -> NetworkDenoiser:
    """The exact denoiser of a mixture; its `class_prior` is that of the mixture.

    Args:
        mixture: Distribution of the clean data, d dimensions.
        partition: Class of each component; every component its own class by default. Its names are those
            of the classes.
        event_shape: Shape of one state, d entries in all; `(d,)` by default.
        dtype: What it computes in.
        sigma_range: Default noise levels of readers. The denoiser is exact at every level. By
            default 0.004 to 160 standard deviations of the data, as EDM's (0.002, 80) at 0.5.

    Raises:
        ValueError: If the partition or the event shape does not fit the mixture.
    """
    partition = as_partition(partition, mixture.num_components)
    event_shape = (mixture.dim,) if event_shape is None else tuple(event_shape)
    if math.prod(event_shape) != mixture.dim:
        raise ValueError(
            f"`event_shape` must have {mixture.dim} entries in all, the mixture's dimension; "
            f"got {event_shape} with {math.prod(event_shape)}."
        )
    exact = _TorchMixture(mixture, partition, dtype)
    if sigma_range is None:
        sigma_range = (0.004 * exact.scale, 160.0 * exact.scale)

    def raw(x: Tensor, sigma: Tensor, label: Tensor | Unconditional) -> Tensor:
        flat = x.reshape(len(x), -1)
        if isinstance(label, Unconditional):
            return exact.denoise(flat, sigma, exact.everything).reshape(x.shape)
        if exact.single is not None:
            return exact.denoise(flat, sigma, [exact.single[label]]).reshape(x.shape)
        result = torch.empty_like(flat)
        for index in label.unique().tolist():
            rows = (label == index).nonzero()[:, 0]
            result[rows] = exact.denoise(flat[rows], sigma[rows], exact.members[index])
        return result.reshape(x.shape)

    return NetworkDenoiser(
        raw,
        lambda sigma: (torch.zeros_like(sigma), torch.ones_like(sigma)),
        num_classes=partition.num_classes,
        event_shape=event_shape,
        sigma_range=sigma_range,
        provenance=f"exact mixture of {mixture.num_components} Gaussians in {mixture.dim} dimensions",
        outside="accept",
        class_prior=exact.class_prior,
        class_names=partition.names,
        dtype=dtype,
    )


class _TorchMixture(nn.Module):
    """The mixture's parameters in torch: spectra `(1 or K, m)` and bases `(1 or K, d, r)` or None.

    Coordinates of a state are those along the r columns of a basis and, where r < d, the d entries of
    what is left across them, as which d - r dimensions of one variance count.
    """

    def __init__(self, mixture: GaussianMixture, partition: Partition, dtype: torch.dtype) -> None:
        def tensor(array: Any) -> nn.Buffer:
            return nn.Buffer(torch.as_tensor(np.array(array, dtype=np.float64)).to(dtype))

        super().__init__()
        self.centre, self.offsets = tensor(mixture.centre), tensor(mixture.offsets)
        self.log_weights = tensor(mixture.log_weights)
        covariance, dim = mixture.covariance, mixture.dim
        self.across = isinstance(covariance, LowRank) and covariance.rank < dim
        self.bases: Tensor | None
        if isinstance(covariance, LowRank) and self.across:
            rest = np.repeat(np.asarray(covariance.across)[:, None], dim, axis=1)
            self.bases = tensor(covariance.axes)
            spectra = np.concatenate([covariance.spectrum, rest], axis=1)
            share = (dim - covariance.rank) / dim
            self.multiplicity = tensor(np.repeat([1.0, share], [covariance.rank, dim]))
        else:
            basis = covariance.complete_basis()
            self.bases = None if basis is None else tensor(basis)
            spectra = np.asarray(covariance.eigenvalues(dim))
            self.multiplicity = tensor(np.ones(dim))
        self.spectra = tensor(np.maximum(spectra, 0))
        labels = np.asarray(partition.labels)
        weights = np.exp(np.asarray(mixture.log_weights, float))
        self.members = [np.flatnonzero(labels == c).tolist() for c in range(partition.num_classes)]
        self.everything = list(range(mixture.num_components))
        # The component of every class, where each has one and no class a basis of its own.
        alone = all(len(m) == 1 for m in self.members)
        alone = alone and (self.bases is None or len(self.bases) == 1)
        self.single = nn.Buffer(torch.tensor(self.members)[:, 0]) if alone else None
        self.class_prior = tuple(float(weights[m].sum() / weights.sum()) for m in self.members)
        weights = self.log_weights.exp().double()
        spread = self.offsets.double() - weights @ self.offsets.double()
        traces = (self.spectra * self.multiplicity).double().sum(-1).expand(len(weights))
        total = (weights @ spread**2).mean() + weights @ traces / dim
        self.scale = float(total.sqrt()) or 1.0

    def _project(self, y: Float[Tensor, "B d"], component: Component) -> Float[Tensor, "B m"]:
        """`U_k^T (y - nu_k)`, and what is left of `y - nu_k` across an incomplete basis."""
        centred = y - self.offsets[component]
        if self.bases is None:
            return centred
        basis = self.bases[component if len(self.bases) > 1 else 0]
        along = centred @ basis
        return torch.cat([along, centred - along @ basis.T], -1) if self.across else along

    def _mean(
        self, z: Float[Tensor, "B m"], gain: Float[Tensor, "B m"], component: Component
    ) -> Float[Tensor, "B d"]:
        """`nu_k + U_k (gain z)`."""
        z = gain * z
        if self.bases is not None:
            basis = self.bases[component if len(self.bases) > 1 else 0]
            rank = basis.shape[1]
            z = z[:, :rank] @ basis.T + (z[:, rank:] if self.across else 0)
        return self.offsets[component] + z

    def denoise(
        self, x: Float[Tensor, "B d"], sigma: Float[Tensor, " B"], members: Sequence[Component]
    ) -> Float[Tensor, "B d"]:
        """`E[x_0 | x, component in members]`."""
        y, noise = x - self.centre, (sigma**2)[:, None]
        projected = [self._project(y, component) for component in members]
        total = torch.zeros_like(y)
        weights = self._weights(projected, noise, members) if len(members) > 1 else [1.0]
        for weight, z, component in zip(weights, projected, members, strict=True):
            spectrum = self.spectra[component if len(self.spectra) > 1 else 0]
            total += weight * self._mean(z, spectrum / (spectrum + noise), component)
        return total + self.centre

    def _weights(
        self,
        projected: list[Float[Tensor, "B m"]],
        noise: Float[Tensor, "B 1"],
        members: Sequence[Component],
    ) -> Float[Tensor, "K B 1"]:
        """Posterior of the components among `members`; equal prior inside a class of weight 0."""
        log_weights = self.log_weights[list(members)]
        if not bool(torch.isfinite(log_weights).any()):
            log_weights = torch.zeros_like(log_weights)
        rows = []
        for z, component in zip(projected, members, strict=True):
            if len(self.spectra) == 1:
                # |y|^2 is common to all components: (z - z_0)(z + z_0) without it.
                difference = (z - projected[0]) * (z + projected[0])
                rows.append(-(difference / (self.spectra + noise)).sum(-1) / 2)
            else:
                variance = self.spectra[component] + noise
                rows.append(-(z**2 / variance + self.multiplicity * variance.log()).sum(-1) / 2)
        return torch.softmax(torch.stack(rows) + log_weights[:, None], 0)[..., None]
