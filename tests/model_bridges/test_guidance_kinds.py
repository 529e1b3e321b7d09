"""Guidance kinds: the same numbers in both array libraries, removal of a class from a model."""

import warnings
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gmm_speciation import GaussianMixture, VarianceExploding, samplers
from gmm_speciation.partitions import Partition
from gmm_speciation.samplers import label_denoiser
from model_bridges import guidance
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.guidance import Guided, denoise_at
from model_bridges.samplers import karras_sigmas, sample

SIGMAS = [float(s) for s in np.geomspace(8.0, 0.05, 9)]


def law_and_model():
    """Five components in three classes, and the law as a model."""
    means = [[-3.0, 0.0], [-1.0, 1.5], [1.0, 3.0], [3.0, -1.0], [0.5, -2.5]]
    law = GaussianMixture.isotropic(means, 0.2, [0.3, 0.2, 0.1, 0.2, 0.2])
    partition = Partition([0, 1, 1, 2, 0])
    return law, partition, mixture_denoiser(law, partition)


def _kinds(array, law, partition):
    """One of each kind; `array` makes an array of the library that they will be given."""
    exact = guidance.ExactPosterior(law, 1, partition)
    classes = guidance.TrackedClasses(1, array(partition.log_sum(law.log_weights[None])[0]))
    ratio = guidance.TrackedRatio(1, 0.3, 0.7, 0.01, 2e-3, -5.0, 1.0, 0.8)
    return {
        "unguided": guidance.Unguided(2),
        "whole": guidance.Unguided(),
        "classifier-free": guidance.ClassifierFree(1, 2.5),
        "against a class": guidance.ClassifierFree(1, 2.5, 0),
        "interval": guidance.Interval(guidance.ClassifierFree(1, 2.5), 0.3, 3.0),
        "negative": guidance.NegativePrompt(1, 0.8),
        "negative, prompted": guidance.NegativePrompt(1, 0.8, 0, 1.7),
        "safe latent": guidance.SafeLatent(1, 5.0, 0.05, warmup=2),
        "safe latent, prompted": guidance.SafeLatent(1, 5.0, 0.05, prompt=0, scale=2.0),
        "dynamic, exact": guidance.DynamicNegative(1, 1.0, exact),
        "dynamic, classes": guidance.DynamicNegative(1, 0.7, classes),
        "dynamic, ratio": guidance.DynamicNegative(1, 2.0, ratio, 0, 1.5),
        "dynamic, published": guidance.DynamicNegative.tracked(1),
        "feedback": guidance.Feedback(1, 0.9, exact, 20.0),
        "feedback, published": guidance.Feedback.tracked(1, num_steps=8),
        "limited dynamic": guidance.Interval(guidance.DynamicNegative(1, 0.7, classes), 0.3, 3.0),
        "limited, then constant": guidance.Interval(
            guidance.DynamicNegative(1, 0.7, classes, 0, 1.5),
            0.3,
            3.0,
            outside=guidance.ClassifierFree(0, 1.5),
        ),
        "an interval in an interval": guidance.Interval(
            guidance.Interval(guidance.ClassifierFree(1, 2.5), 0.3, 3.0),
            0.1,
            1.0,
            outside=guidance.NegativePrompt(0, 0.5),
        ),
        "a scale a group of states": guidance.ClassifierFree(1, np.linspace(0.5, 3.0, 3)),
        "a strength a group": guidance.NegativePrompt(1, [0.1, 0.5, 0.9], 0, [1.0, 2.0, 3.0]),
    }


def _tensor(values):
    return torch.from_numpy(np.array(values))


@pytest.fixture(scope="module")
def subject():
    return law_and_model()


@eqx.filter_jit
def _compiled(kind, law, partition, path, sigmas):
    """Guided means of a scan along a path of JAX, of every step's first evaluation and a further one."""

    def means(function, state, y, sigma):
        level = (jnp.ones_like(sigma), sigma)
        return function(state, y, level, lambda c: label_denoiser(law, y, *level, partition, c))

    def step(state, inputs):
        y, sigma = inputs
        denoised, state = means(kind.step, state, y, sigma)
        return state, (denoised, means(kind.again, state, 0.9 * y, 0.8 * sigma))

    return jax.lax.scan(step, kind.init(path[0]), (path, sigmas))[1]


@pytest.mark.parametrize("name", _kinds(_tensor, *law_and_model()[:2]))
def test_every_kind_gives_the_same_numbers_in_both_libraries(name, subject):
    """Stepped through with tensors and compiled by JAX, along a path."""
    law, partition, model = subject
    ours, exact = (_kinds(array, law, partition)[name] for array in (_tensor, jnp.asarray))
    # Any path will do: both see the same one.
    normals = np.random.default_rng(0).standard_normal((len(SIGMAS), 6, law.dim))
    path = np.cumsum(normals[::-1] * 0.3, 0)[::-1] + np.asarray(law.means[1])
    wanted = _compiled(exact, law, partition, jnp.asarray(path), jnp.asarray(SIGMAS))
    state = ours.init(_tensor(path[0]))

    def asking(x, sigma, announced):
        """Denoisers of labels that were announced; whether all of these were used."""
        denoise, used = denoise_at(model, x, sigma), set()

        def counted(label):
            used.add(label)
            assert announced is None or label in announced
            return denoise(label)

        return counted, lambda: announced is None or used == set(announced)

    for index, sigma in enumerate(SIGMAS):
        x = _tensor(path[index])
        denoise, all_used = asking(x, sigma, ours.asks(state if index else (), sigma))
        first, state = ours.step(state, x, sigma, denoise)
        assert all_used()
        x, sigma = 0.9 * x, 0.8 * sigma
        denoise, all_used = asking(x, sigma, ours.asks(state, sigma, further=True))
        further = ours.again(state, x, sigma, denoise)
        assert all_used()
        for result, theirs in zip((first, further), wanted, strict=True):
            # p / (1 - p) multiplies the rounding of D_c - D by up to e^20.
            np.testing.assert_allclose(result.numpy(), theirs[index], rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_evidence_of_tensors_is_summed_up_in_double_precision(dtype, subject):
    """And the guided mean has the precision of the states, whatever their shape."""
    law, partition, _ = subject
    kinds = _kinds(_tensor, law, partition)
    kinds["feedback"] = replace(kinds["feedback"], posterior=kinds["dynamic, ratio"].posterior)
    for name in ("dynamic, ratio", "dynamic, classes", "feedback"):
        kind, state = kinds[name], None
        for sigma in SIGMAS[:3]:
            x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1)).to(dtype)
            state = kind.init(x) if state is None else state
            denoised, state = kind.step(state, x, sigma, lambda label, x=x: (label or 0) * 0.1 * x)
            evidence, _ = kind.posterior.step(
                kind.posterior.init(x), x, sigma, lambda label, x=x: x
            )
            assert denoised.dtype == dtype
            assert denoised.shape == x.shape
            assert {evidence.log_ratio.dtype, evidence.log_odds.dtype} == {torch.float64}


def _source(kind):
    return getattr(getattr(kind, "guidance", kind), "posterior", None)


@pytest.mark.parametrize(
    "name",
    [
        # The exact posterior of a JAX mixture looks at the values, and there are none.
        name
        for name, kind in _kinds(_tensor, *law_and_model()[:2]).items()
        if not isinstance(_source(kind), guidance.ExactPosterior)
    ],
)
def test_kinds_compute_where_the_states_are(name, subject):
    """torch's device without memory refuses what mixes it with the host, where the prior is."""
    law, partition, _ = subject
    kind = _kinds(_tensor, law, partition)[name]
    x = torch.zeros(3, 2, device="meta")
    state = kind.init(x)
    for sigma in SIGMAS:
        denoised, state = kind.step(state, x, sigma, lambda label: 0.5 * x)
        assert denoised.device == x.device
    assert kind.again(state, x, sigma / 2, lambda label: x).device == x.device


def test_one_label_a_state_is_the_label_of_each(subject):
    law, _, model = subject
    x, labels = torch.randn(4, law.dim, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    denoise = denoise_at(model, x, 1.3)
    ratio = [guidance.TrackedRatio(c, 0.2) for c in (labels, 1)]
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    classes = {labels: guidance.TrackedClasses(labels, prior), 1: guidance.TrackedClasses(1, prior)}
    kinds = (
        lambda c, source: guidance.ClassifierFree(c, 2.0),
        lambda c, source: guidance.NegativePrompt(c, 0.5),
        lambda c, source: guidance.DynamicNegative(c, 1.0, source),
        lambda c, source: guidance.DynamicNegative(c, 1.0, classes[c]),
        lambda c, source: guidance.SafeLatent(c, 2.0, 0.5),
        lambda c, source: guidance.Feedback(c, 0.9, classes[c]),
        lambda c, source: guidance.Interval(guidance.Unguided(c), 1.0, 2.0),
    )
    for kind in kinds:
        both = kind(labels, ratio[0]), kind(1, ratio[1])
        mixed, same = (one.step(one.init(x), x, 1.3, denoise)[0] for one in both)
        rows = labels == 1
        torch.testing.assert_close(mixed[rows], same[rows])
        assert not torch.equal(mixed[~rows], same[~rows])


def _shares(law, partition, x):
    from gmm_speciation.inference import class_posterior

    winner = np.asarray(class_posterior(law, jnp.asarray(x.numpy()), partition)).argmax(-1)
    return np.bincount(winner, minlength=partition.num_classes) / len(winner)


def test_dynamic_guidance_with_the_exact_posterior_removes_a_class(subject):
    law, partition, model = subject
    levels = karras_sigmas(40, 0.01, 40.0)

    def drawn(kind, count=1500):
        generator = torch.Generator().manual_seed(0)
        return sample(
            model, (count, law.dim), levels, guidance=kind, generator=generator, dtype=torch.float64
        )

    prior = np.asarray(model.class_prior)
    kept = np.delete(prior, 1) / (1 - prior[1])
    exact = _shares(law, partition, drawn(_kinds(_tensor, law, partition)["dynamic, exact"]))
    error = 4 * np.sqrt(0.25 / 1500)
    assert exact[1] < 0.01
    np.testing.assert_allclose(np.delete(exact, 1), kept, atol=error)
    plain = _shares(law, partition, drawn(guidance.Unguided()))
    np.testing.assert_allclose(plain, prior, atol=error)


@pytest.mark.parametrize("form", [np.asarray, jnp.asarray])
def test_class_probabilities_may_be_arrays_of_any_library(form, subject):
    law, _, model = subject
    levels, prior = karras_sigmas(6, 0.05, 20.0), np.log(np.asarray(model.class_prior))

    def drawn(log_prior):
        kind = guidance.DynamicNegative(1, 1.0, guidance.TrackedClasses(1, log_prior))
        generator = torch.Generator().manual_seed(3)
        return sample(model, (16, law.dim), levels, guidance=kind, generator=generator)

    torch.testing.assert_close(drawn(form(prior)), drawn(torch.from_numpy(prior)))


def test_a_guided_model_is_a_function_for_other_samplers(subject):
    law, partition, model = subject
    kind = _kinds(_tensor, law, partition)["dynamic, classes"]
    levels = karras_sigmas(12, 0.05, 20.0)
    shape = (16, law.dim)
    generators = [torch.Generator().manual_seed(3) for _ in range(3)]
    threaded = sample(model, shape, levels, guidance=kind, generator=generators[0])
    guided = Guided(model, kind)
    torch.testing.assert_close(sample(guided, shape, levels, generator=generators[1]), threaded)
    # From the top again: it starts anew.
    torch.testing.assert_close(sample(guided, shape, levels, generator=generators[2]), threaded)


def test_an_interval_spares_the_reference_outside(subject):
    from model_bridges.denoisers.counted import CountingDenoiser

    law, _, model = subject
    levels = karras_sigmas(21, 0.05, 20.0)
    costs = {}
    for name, kind in {
        "full": guidance.ClassifierFree(1, 2.0),
        "limited": guidance.Interval(guidance.ClassifierFree(1, 2.0), 0.5, 3.0),
        "class": guidance.Unguided(1),
    }.items():
        metered = CountingDenoiser(model)
        sample(metered, (2, law.dim), levels, guidance=kind, method="probability-flow")
        costs[name] = metered.evaluations
    limited = guidance.Interval(guidance.ClassifierFree(1, 2.0), 0.5, 3.0)
    share = limited.guided_steps(levels).mean()
    assert costs["full"] == 2 * costs["class"]
    assert costs["class"] * (1 + share) == pytest.approx(costs["limited"], rel=0.05)


@pytest.mark.parametrize(("ends", "idle"), [((1.3, 2.0), True), ((0.9, 2.0), False)])
def test_an_interval_without_a_level_says_that_nothing_is_guided(subject, ends, idle):
    law, _, model = subject
    kind, levels = guidance.Interval(guidance.ClassifierFree(1, 2.0), *ends), [8.0, 2.5, 1.0, 0.1]
    runs = (
        lambda: sample(model, (2, law.dim), torch.tensor(levels), guidance=kind),
        lambda: samplers.sample(
            law,
            VarianceExploding(),
            levels,
            key=jax.random.key(0),
            num_samples=2,
            guidance=kind,
            partition=[0, 1, 1, 2, 0],
        ),
    )
    for run in runs:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            run()
        said = [one for one in found if "No level of this run lies in (1.3, 2]" in str(one.message)]
        assert len(said) == idle


def test_bad_input(subject):
    law, partition, model = subject
    with pytest.raises(ValueError, match="0 <= low < high"):
        guidance.Interval(guidance.ClassifierFree(1, 2.0), 3.0, 0.5)
    with pytest.raises(ValueError, match="min_posterior < prior"):
        guidance.DynamicNegative.tracked(1, prior=0.9)
    levels = karras_sigmas(3)
    with pytest.raises(ValueError, match="both"):
        sample(model, (2, law.dim), levels, torch.tensor([0, 0]), guidance=guidance.Unguided())
    kind = _kinds(_tensor, law, partition)["dynamic, classes"]
    x = torch.zeros(2, law.dim, dtype=torch.float64)
    _, state = kind.step(kind.init(x), x, 1.0, denoise_at(model, x, 1.0))
    with pytest.raises(ValueError, match="lower, positive noise"):
        kind.step(state, x, 2.0, denoise_at(model, x, 2.0))
