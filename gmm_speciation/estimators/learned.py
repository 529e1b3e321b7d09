"""Estimators that train a network on the labelled samples.

They are judged as all that is fitted (see `crossfit`): a network a fold. A fifth of its training states says
when to stop. Networks are small and alike (see `gmm_speciation.learned`), so that methods are compared, not
budgets.

    classifier             a network a noise level; cross-entropy held out, an upper bound
    classifier-all-noise   one network for all levels
    infonce, nwj, smile    critics f(x, c)
    learned-gap            class-conditional denoiser; integral of sum_c p_c |D_c - D'|^2 with the tracked
                           posterior p and its own mean D' = sum_c p_c D_c
    learned-tracking       the same denoiser, tracked class against class
    minde                  |D_C - D|^2 with the label and the unconditional output (Franzese et al. 2024),
                           half of the batch without its label

A denoiser needs clean states; classifiers and critics take noisy ones where these are all there is.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import (
    FOLDS,
    Access,
    Estimator,
    Kind,
    Outcome,
    Problem,
    check_samples,
    deal,
)
from gmm_speciation.estimators.crossfit import FEWEST, Judged
from gmm_speciation.estimators.path_integral import integrate, sampled_class_rates
from gmm_speciation.estimators.paths import in_batches, noisy_end, path_levels
from gmm_speciation.estimators.tracking import entropies, track

_VALIDATED_ON = 5  # a fifth of the training states


def _seed(problem: Problem, fold: int) -> int:
    return int(problem.rng(f"network {fold}").integers(2**31))


def _clean_parts(problem: Problem, fold: int) -> tuple[Any, Any, tuple[jax.Array, np.ndarray]]:
    """Clean data to train on and to stop by; states and labels of the fold."""
    from gmm_speciation.learned.data import data_of

    x, labels = problem.clean()
    check_samples(x, labels, problem.num_classes, FEWEST)
    inside = problem.folds(labels) == fold
    outside = np.flatnonzero(~inside)
    early = deal(labels[outside], _VALIDATED_ON, problem.rng(f"validation {fold}")) == 0
    data = data_of(x[outside[~early]], labels[outside[~early]])
    kept = outside[early]
    # The scales are those of the training data, as the network knows no others.
    validation = data._replace(
        x=jnp.asarray(x[kept], jnp.float32) - data.mean[None, :], labels=jnp.asarray(labels[kept])
    )
    return data, validation, (x[inside], labels[inside])


def _noisy_parts(problem: Problem, fold: int) -> tuple[Any, Any]:
    """Noisy data of all levels to train on and to stop by."""
    from gmm_speciation.learned.data import noisy_data_of

    levels = [problem.split(level, fold)[0] for level in range(len(problem.log_snr))]
    check_samples(*levels[0], problem.num_classes)
    rng = problem.rng(f"validation {fold}")
    early = [deal(labels, _VALIDATED_ON, rng) == 0 for _, labels in levels]
    parts = [
        (
            np.stack([x[own == late] for (x, _), own in zip(levels, early, strict=True)]),
            np.stack([labels[own == late] for (_, labels), own in zip(levels, early, strict=True)]),
        )
        for late in (False, True)
    ]
    data = noisy_data_of(*parts[0])
    x = jnp.stack([data.scaled(x, level) for level, x in enumerate(parts[1][0])])
    return data, data._replace(x=x, labels=jnp.asarray(parts[1][1]))


class _Network(Judged):
    family = "learned"
    objective: ClassVar[str]

    def fitted(self, problem: Problem, fold: int) -> Callable[[int, np.ndarray], np.ndarray]:
        from gmm_speciation.learned.classifying import train_each_level, train_on_noise
        from gmm_speciation.learned.data import Data, scales

        if problem.draws == 1:
            data, validation = _noisy_parts(problem, fold)
        else:
            data, validation, _ = _clean_parts(problem, fold)
        arguments = data, validation, problem.num_classes, problem.log_snr
        each = self.objective == "each"
        network = (
            train_each_level(*arguments, seed=_seed(problem, fold))
            if each
            else train_on_noise(*arguments, self.objective, seed=_seed(problem, fold))
        )

        def scaled(level: int, x: np.ndarray) -> jax.Array:
            if not isinstance(data, Data):
                return data.scaled(x, level)
            column = jnp.full((len(x),), problem.log_snr[level], jnp.float32)
            alpha, _, c_in, _, _ = scales(column, data.size)
            return c_in * (jnp.asarray(x, jnp.float32) - alpha * data.mean[None, :])

        def values(level: int, x: np.ndarray) -> np.ndarray:
            noise = jnp.full((len(x),), problem.log_snr[level], jnp.float32)
            return np.asarray(network(scaled(level, x), jnp.asarray(level) if each else noise))

        return values


class _CrossEntropy(_Network):
    kind = Kind.UPPER

    def read(self, values, labels, problem):
        log_q = values - np.logaddexp.reduce(values, axis=-1, keepdims=True)
        return -log_q[np.arange(len(labels)), labels]


class Classifier(_CrossEntropy):
    title = "neural classifier, cross-entropy"
    reference = "Gibbs' inequality; held out"
    objective = "each"


class NoiseConditionalClassifier(_CrossEntropy):
    title = "noise-conditional neural classifier, cross-entropy"
    reference = "Gibbs' inequality; Dhariwal & Nichol 2021, arXiv 2105.05233"
    objective = "classifier"


class _Critic(_Network):
    def read(self, values, labels, problem):
        from gmm_speciation.learned.classifying import information

        return problem.prior_entropy - information(values, labels, self.objective)


class InfoNCE(_Critic):
    title = "InfoNCE, negatives of a batch"
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
    access = Access.CLEAN
    family = "learned"
    dropped: ClassVar[float] = 0.0

    def _of_fold(self, problem: Problem, fold: int) -> tuple[Any, jax.Array, np.ndarray]:
        """A trained model, and the clean states and labels of the fold."""
        from gmm_speciation.learned.denoising import train_denoiser
        from gmm_speciation.learned.training import Recipe

        data, validation, (held, labels) = _clean_parts(problem, fold)
        levels, _ = path_levels(problem.log_snr, noisy_end(problem))
        model, _ = train_denoiser(
            data,
            problem.num_classes,
            (levels[0], levels[-1]),
            seed=_seed(problem, fold),
            dropped=self.dropped,
            validation=validation,
            recipe=Recipe.of_size(len(data.x)),
        )
        return model, held, labels

    def _over_folds(
        self, problem: Problem, paths: Callable[[Any, jax.Array, np.ndarray, jax.Array], Any]
    ) -> Any:
        """`paths` of model, states, labels and key, averaged over the noises of a state, `(S, n)`."""
        found = []
        for fold in range(FOLDS):
            model, held, labels = self._of_fold(problem, fold)
            keys = jax.random.split(problem.key(f"paths {fold}"), problem.draws)
            each = [paths(model, held, labels, key) for key in keys]
            found.append(jax.tree.map(lambda *draws: np.mean(draws, 0, dtype=float), *each))
        return jax.tree.map(lambda *folds: np.concatenate(folds, 1), *found)


class _Tracked(_Denoiser):
    gap: ClassVar[bool]

    def curve(self, problem: Problem) -> Outcome:
        levels, places = path_levels(problem.log_snr, noisy_end(problem))

        def paths(model, held, labels, key):
            log_prior = jnp.log(jnp.asarray(problem.prior, held.dtype))

            def tracked(x_0, index):
                of = jax.random.fold_in(key, index)
                states, _, rates = track(
                    model, x_0, log_prior, jnp.asarray(levels), of, "class", False
                )
                return (rates if self.gap else states[places - 1]), rates[places]

            numbers = 4 * (problem.num_classes + 1) * problem.dim
            found, rates = in_batches(tracked, (held,), numbers, axis=1)
            problem.evaluations += len(held) * len(levels) * problem.num_classes
            return (found if self.gap else entropies(found.astype(float), "class")), rates

        found, rates = self._over_folds(problem, paths)
        if self.gap:
            return integrate(found, levels, places, problem.prior_entropy)
        return Outcome(Estimate.from_samples(found, 1), Estimate.from_samples(rates, 1), True)


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
    dropped = 0.5

    def curve(self, problem: Problem) -> Outcome:
        levels, places = path_levels(problem.log_snr, noisy_end(problem))

        def paths(model, held, labels, key):
            noise = jax.random.normal(key, held.shape, held.dtype)

            def rates(x_0, labels, noise, index):
                return sampled_class_rates(model, x_0, labels, noise, jnp.asarray(levels))

            found = in_batches(rates, (held, jnp.asarray(labels), noise), 6 * problem.dim, axis=1)
            problem.evaluations += 2 * found.size
            return found

        found = self._over_folds(problem, paths)
        return integrate(found, levels, places, problem.prior_entropy)
