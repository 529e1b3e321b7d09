"""Bounds and expansions that need the mixture and no samples.

    H(C|X) = H(C) + h(X|C) - h(X)

With g the mixture density and g_k that of component k, write `a_k = E_k[log g - log g_k]`, so that
`h(X) = h(X|Z) - sum_k w_k a_k`, and the same inside a class; h(X|Z) cancels. Each method below is one
way to bound or to expand a_k.

    Kolchinsky & Tracey 2017 (Entropy 19, 361), Eq. 10-12:  a_k >= log sum_j w_j e^{-KL(k||j)},
        and a_k <= log sum_j w_j e^{-B(k,j)} in the mean, B the Bhattacharyya distance
    Huber, Bailey, Durrant-Whyte & Hanebeck 2008:  log g expanded about mu_k, order 0 or 2; the same
        order inside a class, so that orders match where a class is one component
    moment matching:  h(X) of a Gaussian with the covariance of the mixture (the largest possible)
"""

import abc
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import Access, Estimator, Kind, Outcome, Problem
from gmm_speciation.estimators.pairwise import divergences
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.processes import variance_preserving

_MAX_HESSIAN = 512  # dimensions in which Hessians are formed


class MixtureMethod(Estimator):
    """A number from the mixture alone, level by level."""

    access = Access.MIXTURE
    family = "bounds"

    def curve(self, problem: Problem) -> Outcome:
        values = []
        for log_snr in problem.log_snr:
            noisy = problem.mixture.perturb(*variance_preserving(log_snr))
            value = self.at(noisy, problem.partition, problem.prior_entropy)
            values.append(min(max(value, 0.0), problem.prior_entropy) if self.clip else value)
        return Outcome(Estimate.exact(np.array(values)))

    clip: ClassVar[bool] = True  # 0 <= H <= H(C) is known

    @abc.abstractmethod
    def at(self, noisy: GaussianMixture, partition: Partition, prior_entropy: float) -> float:
        """H(C|X) at one noise level."""


def _weights(mixture: GaussianMixture) -> np.ndarray:
    return np.asarray(mixture.weights, float)


def _same_class(partition: Partition) -> np.ndarray:
    labels = np.asarray(partition.labels)
    return labels[:, None] == labels[None, :]


class _KolchinskyTracey(MixtureMethod):
    reference = "Kolchinsky & Tracey 2017, Entropy 19(7) 361"

    def at(self, noisy, partition, prior_entropy):
        distances = divergences(noisy)
        overall, inside = distances if self.kind is Kind.LOWER else reversed(distances)
        log_w, same = np.asarray(noisy.log_weights, float), _same_class(partition)
        # `log sum_j w_j e^{-D_kj}` over all j, and over the class of k with weights inside it.
        within = logsumexp(np.where(same, log_w - inside, -np.inf), axis=1)
        within -= logsumexp(np.where(same, log_w, -np.inf), axis=1)
        difference = logsumexp(log_w - overall, axis=1) - within
        return prior_entropy + float(_weights(noisy) @ difference)


class KolchinskyTraceyLower(_KolchinskyTracey):
    title = "Kolchinsky-Tracey, lower"
    kind = Kind.LOWER


class KolchinskyTraceyUpper(_KolchinskyTracey):
    title = "Kolchinsky-Tracey, upper"
    kind = Kind.UPPER


class TaylorOrder0(MixtureMethod):
    title = "Taylor expansion, order 0"
    reference = "Huber et al. 2008, IEEE MFI"

    def at(self, noisy, partition, prior_entropy):
        log_p = np.asarray(noisy.log_posterior(noisy.means), float)
        own = np.asarray(partition.log_sum(jnp.asarray(log_p)), float)
        # log g - log g^(c) at mu_k is log p(c) - log p(c | mu_k).
        labels = np.asarray(partition.labels)
        return float(-_weights(noisy) @ own[np.arange(len(labels)), labels])


class TaylorOrder2(MixtureMethod):
    title = "Taylor expansion, order 2"
    reference = "Huber et al. 2008, IEEE MFI"
    clip = False  # an expansion, not a bound: where it leaves [0, H(C)] it should be seen

    def at(self, noisy, partition, prior_entropy):
        order0 = TaylorOrder0().at(noisy, partition, prior_entropy)
        curvature = _curvature(noisy, None) - _curvature(noisy, partition)
        return order0 + float(_weights(noisy) @ curvature) / 2


def _curvature(noisy: GaussianMixture, partition: Partition | None) -> np.ndarray:
    """`tr[Sigma_k Hess log g(mu_k)]`, of the distribution of k's class where a partition is given."""
    log_p = noisy.log_posterior(noisy.means)
    if partition is not None:
        same = jnp.asarray(_same_class(partition))
        log_p = jax.nn.log_softmax(jnp.where(same, log_p, -jnp.inf), -1)
    posterior = np.exp(np.asarray(log_p, float))
    if noisy.covariance.shared:
        # Hess log g = -P + P Cov(mu_j | x) P: in the metric P a variance of the means.
        gram = np.asarray(noisy.precision().gram(noisy.offsets), float)
        mean_square = posterior @ np.diag(gram)
        return -noisy.dim + mean_square - np.sum((posterior @ gram) * posterior, 1)
    if noisy.dim > _MAX_HESSIAN:
        raise ValueError(
            f"The expansion forms Hessians up to {_MAX_HESSIAN} dimensions where covariances differ; "
            f"the mixture has {noisy.dim}."
        )
    matrices = np.asarray(noisy.regularised().matrices(noisy.dim), float)
    inverse = np.linalg.inv(matrices)
    means = np.asarray(noisy.offsets, float)
    found = []
    for k, mean in enumerate(means):
        score = -np.einsum("jab,jb->ja", inverse, mean - means)
        p = posterior[k]
        average = p @ score
        spread = np.einsum("j,ja,ab,jb->", p, score, matrices[k], score)
        trace = np.einsum("jab,ba->j", inverse, matrices[k])
        found.append(-p @ trace + spread - average @ matrices[k] @ average)
    return np.array(found)


class MomentMatchedGaussian(MixtureMethod):
    title = "moment-matched Gaussian"
    reference = "maximum entropy; Cover & Thomas 2006, Theorem 8.6.5"
    kind = Kind.LOWER

    def at(self, noisy, partition, prior_entropy):
        # h(X|C) >= h(X|Z): a lower bound, with equality where a class is one component.
        weights = _weights(noisy)
        if noisy.covariance.shared:
            gram = np.asarray(noisy.precision().gram(noisy.offsets), float)
            centred = np.eye(len(weights)) - weights[None, :]
            root = np.sqrt(weights)[:, None] * (centred @ gram @ centred.T) * np.sqrt(weights)
            excess = np.log1p(np.maximum(np.linalg.eigvalsh(root), 0)).sum() / 2
            return prior_entropy - float(excess)
        if noisy.dim > _MAX_HESSIAN:
            raise ValueError(
                f"The covariance is formed up to {_MAX_HESSIAN} dimensions where components differ; "
                f"the mixture has {noisy.dim}."
            )
        whole = np.linalg.slogdet(np.asarray(noisy.moments().covariance, float))[1]
        each = np.log(np.asarray(noisy.regularised().eigenvalues(noisy.dim), float)).sum(-1)
        return prior_entropy + float(weights @ each - whole) / 2
