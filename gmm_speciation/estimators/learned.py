"""Estimators that train a network on the labelled samples.

Half of the samples train, the other half is measured. Networks are small and alike (see
`gmm_speciation.learned`), so that methods are compared, not budgets.

    classifier             a network a noise level; cross-entropy held out, an upper bound
    classifier-all-noise   one network for all levels
    learned-gap            class-conditional denoiser; integral of sum_c p_c |D_c - D'|^2 with the tracked
                           posterior p and its own mean D' = sum_c p_c D_c
    learned-tracking       the same denoiser, tracked class against class
    minde                  |D_C - D|^2 with the label and the unconditional output (Franzese et al. 2024)
    infonce, nwj, smile    critics f(x, c)
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import (
    Estimator,
    Kind,
    Outcome,
    Problem,
    check_samples,
)
from gmm_speciation.estimators.path_integral import integrate, sampled_class_rates
from gmm_speciation.estimators.paths import in_batches, path_levels
from gmm_speciation.estimators.tracking import entropies, track

_FEWEST = 4  # samples a class


def _halves(problem: Problem):
    """Clean states and labels to train on, and to measure."""
    x, labels = problem.clean()
    check_samples(x, labels, problem.num_classes, _FEWEST)
    # Alternating within each class, so that neither half lacks one.
    order = np.argsort(labels, kind="stable")
    train, test = np.sort(order[::2]), np.sort(order[1::2])
    return (x[train], labels[train]), (x[test], labels[test])


def _seed(problem: Problem) -> int:
    return int(problem.rng("network").integers(2**31))


class _Network(Estimator):
    family = "learned"
    objective: ClassVar[str]

    def _values(self, problem: Problem):
        """Outputs on the half held out, level by level, and its labels; frequencies of training."""
        from gmm_speciation.learned.classifying import train_each_level, train_on_noise
        from gmm_speciation.learned.data import data_of, scales

        (x, labels), (held, held_labels) = _halves(problem)
        data = data_of(x, labels)
        each = self.objective == "each"
        network = (
            train_each_level(data, problem.num_classes, problem.log_snr, seed=_seed(problem))
            if each
            else train_on_noise(
                data, problem.num_classes, problem.log_snr, self.objective, seed=_seed(problem)
            )
        )
        states = []
        for level, log_snr in enumerate(problem.log_snr):
            noisy = problem.noised(held, level, jax.random.fold_in(problem.key("held out"), level))
            column = jnp.full((len(held),), log_snr, jnp.float32)
            alpha, _, c_in, _, _ = scales(column, data.size)
            states.append(c_in * (noisy.astype(jnp.float32) - alpha * data.mean[None, :]))
        problem.evaluations += len(held) * len(states) * problem.num_classes
        if each:
            values = np.asarray(network(jnp.stack(states)), float)
        else:
            values = np.array(
                [
                    np.asarray(network(x, jnp.full((len(x),), level, jnp.float32)), float)
                    for x, level in zip(states, problem.log_snr, strict=True)
                ]
            )
        frequency = np.bincount(held_labels, minlength=problem.num_classes) / len(held_labels)
        return values, held_labels, frequency


class _CrossEntropy(_Network):
    kind = Kind.UPPER

    def curve(self, problem: Problem) -> Outcome:
        values, labels, _ = self._values(problem)
        log_q = values - np.logaddexp.reduce(values, axis=-1, keepdims=True)
        loss = -log_q[:, np.arange(len(labels)), labels]
        return Outcome(Estimate.from_samples(loss, 1))


class Classifier(_CrossEntropy):
    title = "neural classifier, cross-entropy"
    reference = "Gibbs' inequality; held out"
    objective = "each"


class NoiseConditionalClassifier(_CrossEntropy):
    title = "noise-conditional neural classifier, cross-entropy"
    reference = "Gibbs' inequality; Dhariwal & Nichol 2021, arXiv 2105.05233"
    objective = "classifier"


class _Critic(_Network):
    def curve(self, problem: Problem) -> Outcome:
        from gmm_speciation.learned.classifying import information

        values, labels, frequency = self._values(problem)
        found = [information(level, labels, frequency, self.objective) for level in values]
        value = np.array([float(one.value) for one in found])
        stderr = np.array([float(one.stderr) for one in found])
        return Outcome(Estimate(problem.prior_entropy - value, stderr, found[0].dof))


class InfoNCE(_Critic):
    title = "InfoNCE"
    reference = "van den Oord et al. 2018, arXiv 1807.03748"
    kind = Kind.UPPER
    objective = "infonce"


class NWJ(_Critic):
    title = "NWJ"
    reference = "Nguyen, Wainwright & Jordan 2010, IEEE Trans. Inf. Theory 56(11)"
    kind = Kind.UPPER
    objective = "nwj"


class SMILE(_Critic):
    title = "SMILE, clip 5"
    reference = "Song & Ermon 2020, arXiv 1910.06222"
    objective = "smile"


class _Denoiser(Estimator):
    family = "learned"

    def _trained(self, problem: Problem):
        from gmm_speciation.learned.data import data_of
        from gmm_speciation.learned.denoising import train_denoiser

        (x, labels), (held, held_labels) = _halves(problem)
        levels, places = path_levels(problem.log_snr)
        model, _ = train_denoiser(
            data_of(x, labels), problem.num_classes, (levels[0], levels[-1]), seed=_seed(problem)
        )
        return model, held, jnp.asarray(held_labels), levels, places


class _Tracked(_Denoiser):
    gap: ClassVar[bool]

    def curve(self, problem: Problem) -> Outcome:
        model, held, _, levels, places = self._trained(problem)
        log_prior = jnp.log(jnp.asarray(problem.prior, held.dtype))

        def tracked(x_0, index):
            key = jax.random.fold_in(problem.key("paths"), index)
            states, _, rates = track(
                model, x_0, log_prior, jnp.asarray(levels), key, "class", False
            )
            return (rates if self.gap else states[places - 1]), rates[places]

        numbers = 4 * (problem.num_classes + 1) * problem.dim
        found, rates = in_batches(tracked, (held,), numbers, axis=1)
        problem.evaluations += len(held) * len(levels) * problem.num_classes
        if self.gap:
            return integrate(found.astype(float), levels, places, problem.prior_entropy)
        values = entropies(found.astype(float), "class")
        return Outcome(
            Estimate.from_samples(values, 1), Estimate.from_samples(rates.astype(float), 1), True
        )


class LearnedGap(_Tracked):
    title = "learned denoiser gap, tracked posterior"
    reference = "Guo, Shamai & Verdú 2005; Ho & Salimans 2022, arXiv 2207.12598"
    gap = True


class LearnedTracking(_Tracked):
    title = "learned tracking, class against class"
    reference = "Koulischer et al. 2025, arXiv 2410.14398"
    gap = False


class MINDE(_Denoiser):
    title = "MINDE, conditional score difference"
    reference = "Franzese et al. 2024, arXiv 2310.09031"

    def curve(self, problem: Problem) -> Outcome:
        model, held, labels, levels, places = self._trained(problem)
        noise = jax.random.normal(problem.key("noise"), held.shape, held.dtype)

        def rates(x_0, labels, noise, index):
            return sampled_class_rates(model, x_0, labels, noise, jnp.asarray(levels))

        found = in_batches(rates, (held, labels, noise), 6 * problem.dim, axis=1)
        problem.evaluations += 2 * found.size
        return integrate(found.astype(float), levels, places, problem.prior_entropy)
