"""What is fitted on some states and judged on others.

Every fold is judged by what the other folds fitted, so that no state is judged by itself. Of a state held out
the noises are averaged first; states are independent, their mean has an honest standard error. It is that of
the states alone and knows nothing of the error of the fit.

    plug-in         mean entropy of the fitted posterior, -sum_c q(c|x) log q(c|x): off either way by the
                    error of the fit
    cross-entropy   mean of -log q(c_i|x_i), an upper bound on H(C|X) in the mean whatever q is (Gibbs)
"""

import abc
import warnings
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import FOLDS, Outcome, Part, Problem, Renoised, check_samples

FEWEST = 2 * FOLDS  # samples a class
LogPosterior = Callable[[np.ndarray], Float[np.ndarray, "n C"]]


class Judged(Renoised):
    """Interface: values of every class at states held out, and what a state says of H(C|X)."""

    @abc.abstractmethod
    def fitted(self, problem: Problem, fold: int) -> Callable[[int, np.ndarray], np.ndarray]:
        """What gives `(n, C)` values of states at a level, from the states outside of a fold."""

    @abc.abstractmethod
    def read(
        self, values: Float[np.ndarray, "n C"], labels: Int[np.ndarray, " n"], problem: Problem
    ) -> Float[np.ndarray, " n"]:
        """Nats of every state, whose mean is the result."""

    def curve(self, problem: Problem) -> Outcome:
        """As declared.

        Raises:
            ValueError: If a class has too few samples for every fold.
        """
        check_samples(*problem.samples(0), problem.num_classes, FEWEST)
        levels = range(len(problem.log_snr))
        found: list[list[np.ndarray]] = [[] for _ in levels]
        for fold in range(FOLDS):
            values = self.fitted(problem, fold)
            for level in levels:
                x, labels = problem.split(level, fold)[1]  # held out
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # collinear coordinates, slow convergence
                    outputs = np.asarray(values(level, x), float)
                each = self.read(outputs, labels, problem)
                found[level].append(each.reshape(problem.draws, -1).mean(0))
                problem.evaluations += outputs.size
        each = np.array([np.concatenate(of) for of in found])
        return Outcome(Estimate.from_samples(each, 1))


class CrossFitted(Judged):
    """A posterior fitted level by level."""

    plug_in: ClassVar[bool] = False

    @abc.abstractmethod
    def fit(
        self, train: Part, prior: Float[np.ndarray, " C"], rng: np.random.Generator, draws: int
    ) -> LogPosterior:
        """log q(c|x) from `draws` noises of the same states, one after the other."""

    def fitted(self, problem: Problem, fold: int):
        def values(level: int, x: np.ndarray) -> np.ndarray:
            train, _ = problem.split(level, fold)
            check_samples(*train, problem.num_classes)
            rng = problem.rng(f"level {level}, fold {fold}")
            return self.fit(train, problem.prior, rng, problem.draws)(x)

        return values

    def read(self, values, labels, problem):
        # A probability of zero is no certainty: it costs what the smallest number does.
        log_q = np.maximum(values, np.log(np.finfo(float).tiny))
        if self.plug_in:
            return -np.sum(np.exp(log_q) * log_q, 1)
        return -log_q[np.arange(len(labels)), labels]
