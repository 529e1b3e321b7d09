"""Guidance kinds on closed-form scores: their formulae, their neutral points, what is exact about them."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import control
from gmm_speciation.guidance import (
    ClassifierFree,
    DynamicNegative,
    ExactPosterior,
    Feedback,
    Guidance,
    Interval,
    NegativePrompt,
    SafeLatent,
    TrackedClasses,
    TrackedRatio,
    Unguided,
    formulae,
)

PARTS = gs.Partition([0, 1, 1, 2])
MIXTURE = gs.GaussianMixture.isotropic(
    [[-3.0, 0.0], [0.0, 1.0], [1.0, 3.0], [3.0, -1.0]], [0.3, 0.4, 0.2, 0.3], [0.4, 0.2, 0.2, 0.2]
)
KEPT = gs.GaussianMixture.isotropic(
    [[0.0, 1.0], [1.0, 3.0], [3.0, -1.0]], [0.4, 0.2, 0.3], np.array([0.2, 0.2, 0.2]) / 0.6
)
LEVEL = (0.6, 0.8)
CLOCK = gs.OrnsteinUhlenbeck()
TIMES = np.geomspace(4.0, 0.01, 40)


def _denoise(x, level=LEVEL):
    """The mixture's denoisers at x, in its library."""
    points = x if isinstance(x, jax.Array) else jnp.asarray(x.numpy())
    classes = gs.class_denoisers(MIXTURE, points, *level, PARTS)

    def denoise(label):
        mean = gs.denoiser(MIXTURE, points, *level) if label is None else classes[..., label, :]
        return mean if isinstance(x, jax.Array) else x.new_tensor(np.asarray(mean))

    return denoise


@pytest.fixture
def x(key, array):
    noisy = MIXTURE.perturb(*LEVEL)
    return array(noisy.sample(key, 64)[0])


def _means(x, *labels):
    return (np.asarray(_denoise(x)(label)) for label in labels)


def _step(guidance, x):
    return guidance.step(guidance.init(x), x, LEVEL, _denoise(x))[0]


def test_guided_means_are_their_formulae(x):
    whole, c, other = _means(x, None, 1, 2)
    np.testing.assert_allclose(
        _step(ClassifierFree(1, 2.5), x), whole + 2.5 * (c - whole), rtol=1e-12
    )
    np.testing.assert_allclose(
        _step(ClassifierFree(1, 2.5, 2), x), other + 2.5 * (c - other), rtol=1e-12
    )
    np.testing.assert_allclose(
        _step(NegativePrompt(1, 0.7), x), whole - 0.7 * (c - whole), rtol=1e-12
    )
    points = jnp.asarray(np.asarray(x))
    p = np.asarray(gs.class_posterior(MIXTURE.perturb(*LEVEL), points, PARTS)[:, 1:2])
    exact = ExactPosterior(MIXTURE, 1, PARTS)
    np.testing.assert_allclose(
        _step(DynamicNegative(1, 0.5, exact), x), whole - 0.5 * p / (1 - p) * (c - whole), rtol=1e-9
    )
    ratio, purity = p / 0.4, 0.9
    scale = np.where(ratio > 1 - purity, ratio / (ratio - (1 - purity)), np.inf).clip(1, 50)
    np.testing.assert_allclose(
        _step(Feedback(1, purity, exact, 50.0), x), whole + scale * (c - whole), rtol=1e-9
    )
    prompted = _step(NegativePrompt(1, 0.7, prompt=2, scale=3.0), x)
    np.testing.assert_allclose(prompted, whole + 3 * (other - whole) - 0.7 * (c - whole), rtol=1e-9)


def test_scores_noises_and_means_mix_alike(x):
    """One formula serves posterior means, scores and noises: they are affine in each other at one x."""
    alpha, sigma = LEVEL
    whole, c = _denoise(x)(None), _denoise(x)(1)
    for view in (lambda d: (alpha * d - x) / sigma**2, lambda d: (x - alpha * d) / sigma):
        np.testing.assert_allclose(
            view(formulae.classifier_free(whole, c, 3.0)),
            formulae.classifier_free(view(whole), view(c), 3.0),
            atol=1e-12,
        )


def test_safe_latent_diffusion_follows_its_equations(x):
    """Two steps by hand in noises: weight, momentum, warm-up."""
    alpha, sigma = LEVEL
    points = np.asarray(x)
    whole, c, prompt = ((points - alpha * mean) / sigma for mean in _means(x, None, 1, 2))
    weight = np.where(prompt - c < 0.1, np.minimum(1, np.abs(2.0 * (prompt - c))), 0)
    first = weight * (c - whole)
    second = weight * (c - whole) + 0.3 * 0.6 * first
    guidance = SafeLatent(1, 2.0, threshold=0.1, warmup=1, prompt=2, scale=4.0)
    denoised, state = guidance.step(guidance.init(x), x, LEVEL, _denoise(x))
    np.testing.assert_allclose(
        (points - alpha * np.asarray(denoised)) / sigma, whole + 4 * (prompt - whole), atol=1e-10
    )
    denoised, _ = guidance.step(state, x, LEVEL, _denoise(x))
    expected = whole + 4 * (prompt - whole - second)
    np.testing.assert_allclose(
        (points - alpha * np.asarray(denoised)) / sigma, expected, atol=1e-10
    )


def test_a_level_without_alpha_is_that_of_edm_coordinates(x):
    """sigma alone is (1, sigma), for every kind that looks at the level."""
    exact = ExactPosterior(MIXTURE, 1, PARTS)
    prior = PARTS.log_sum(MIXTURE.log_weights[None])[0]
    prior = prior if isinstance(x, jax.Array) else x.new_tensor(np.asarray(prior))
    kinds = [
        Interval(ClassifierFree(1, 3.0), 0.6, 0.9),
        SafeLatent(1, 2.0, threshold=0.1),
        DynamicNegative(1, 0.5, TrackedClasses(1, prior)),
        DynamicNegative.tracked(1),
        Feedback(1, 0.9, exact, 50.0, 2.0, 0.6, 0.9),
    ]
    for guidance in kinds:
        ends = []
        for form in (lambda sigma: sigma, lambda sigma: (1.0, sigma)):
            state = guidance.init(x)
            for sigma in (1.1, 0.8, 0.5):
                denoise = _denoise(x, (1.0, sigma))
                denoised, state = guidance.step(state, x, form(sigma), denoise)
                ends.append(np.asarray(denoised))
        np.testing.assert_array_equal(ends[:3], ends[3:])


def _final(guidance, key, **options):
    return gs.sample(
        MIXTURE,
        CLOCK,
        TIMES,
        key=key,
        guidance=guidance,
        partition=PARTS,
        num_samples=200,
        **options,
    ).final


@pytest.mark.slow
def test_neutral_parameters_draw_the_unguided_samples(key):
    """Scale 1 and strength 0 with the same key: the same samples, to rounding."""
    exact = ExactPosterior(MIXTURE, 1, PARTS)
    outside = Interval(ClassifierFree(1, 7.0), 200.0, 300.0)
    of_class, whole = _final(Unguided(1), key), _final(Unguided(), key)
    for guidance in (ClassifierFree(1, 1.0), Feedback(1, 1.0, exact), outside):
        np.testing.assert_allclose(_final(guidance, key), of_class, rtol=0, atol=1e-11)
    for guidance in (NegativePrompt(1, 0.0), SafeLatent(1, 0.0), DynamicNegative(1, 0.0, exact)):
        np.testing.assert_allclose(_final(guidance, key), whole, rtol=0, atol=1e-11)


def test_neutral_parameters_of_the_ode(key):
    pairs = [(ClassifierFree(1, 1.0), Unguided(1)), (NegativePrompt(1, 0.0), Unguided())]
    for guidance, plain in pairs:
        ends = (_final(kind, key, method="ode") for kind in (guidance, plain))
        np.testing.assert_allclose(*ends, rtol=0, atol=1e-11)


def test_an_interval_is_its_guidance_on_the_steps_it_names(key):
    """Guidance on the named steps only, thrown in by hand, draws the same samples."""
    interval = Interval(ClassifierFree(1, 3.0), 0.3, 2.0)
    steps = interval.guided_steps(CLOCK, TIMES)
    sigma = np.exp(-np.asarray(CLOCK.log_snr(TIMES[:-1])) / 2)
    np.testing.assert_array_equal(steps, (sigma > 0.3) & (sigma <= 2.0))
    assert 0 < steps.sum() < len(steps)

    class ByHand(Guidance):
        def init(self, x):
            return jnp.asarray(0)

        def step(self, state, x, level, denoise):
            scale = jnp.where(jnp.asarray(steps)[state], 3.0, 1.0)
            return formulae.classifier_free(denoise(None), denoise(1), scale), state + 1

    np.testing.assert_allclose(_final(interval, key), _final(ByHand(), key), rtol=0, atol=1e-9)
    ddpm = gs.DDPM.linear()
    taken = np.arange(999, 0, -50)
    guided = interval.guided_steps(ddpm, taken)
    assert guided.any()
    assert not guided.all()
    np.testing.assert_allclose(interval.log_snr, [-2 * np.log(2.0), -2 * np.log(0.3)])


def test_dynamic_negative_guidance_removes_a_class_from_the_score_exactly():
    """s - p/(1-p) (s_c - s) is the score of the mixture without c, at every noise and far from the data."""
    grid = jnp.linspace(-6, 6, 25)
    points = jnp.stack(jnp.meshgrid(grid, grid), -1).reshape(-1, 2)
    for time in (0.05, 0.3, 1.0, 4.0):
        level = (CLOCK.alpha(time), CLOCK.sigma(time))
        noisy = MIXTURE.perturb(*level)
        scores = gs.class_scores(noisy, points, PARTS)
        p = gs.class_posterior(noisy, points, PARTS)[:, :1]
        near = np.asarray(p[:, 0]) < 1 - 1e-6  # beyond, p / (1 - p) multiplies a rounded difference
        removed = noisy.score(points) - p / (1 - p) * (scores[:, 0] - noisy.score(points))
        truth = KEPT.perturb(*level).score(points)
        np.testing.assert_allclose(removed[near], truth[near], rtol=1e-8, atol=1e-8)


def test_feedback_guidance_undoes_a_mixed_class_law_exactly(key):
    """With a learned class law pi p(x|c) + (1 - pi) p(x) and exact P, the guided mean is that of p(x|c)."""
    law = gs.GaussianMixture.isotropic([[-2.0], [1.0]], 0.3, [0.3, 0.7])
    purity = 0.6
    mixed = gs.GaussianMixture.isotropic([[-2.0], [1.0]], 0.3, [0.6 + 0.4 * 0.3, 0.4 * 0.7])
    x = law.perturb(*LEVEL).sample(key, 100)[0]
    log_ratio = mixed.perturb(*LEVEL).log_prob(x) - law.perturb(*LEVEL).log_prob(x)
    scale = formulae.feedback_scale(log_ratio, purity, 1e12)[:, None]
    learned, whole = gs.denoiser(mixed, x, *LEVEL), gs.denoiser(law, x, *LEVEL)
    truth = gs.class_denoisers(law, x, *LEVEL)[:, 0]
    np.testing.assert_allclose(
        formulae.classifier_free(whole, learned, scale), truth, rtol=1e-6, atol=1e-6
    )


def test_constants_of_feedback_guidance(array):
    assert abs(formulae.feedback_offset(0.999, 0.556, 64) + 0.2288) < 5e-5
    assert abs(formulae.feedback_floor(0.999, 10.0) + 6.802) < 5e-4
    at_floor = array([formulae.feedback_floor(0.999, 10.0)])
    np.testing.assert_allclose(formulae.feedback_scale(at_floor, 0.999, 10.0), 10.0, rtol=1e-9)
    # Without evidence the scale reaches 3 when 0.556 of the steps are left.
    after = array([(1 - 0.556) * 64 * formulae.feedback_offset(0.999, 0.556, 64)])
    np.testing.assert_allclose(formulae.feedback_scale(after, 0.999, 10.0), 3.0, rtol=1e-9)


@pytest.mark.parametrize("source", ["classes", "ratio"])
def test_tracked_posteriors_follow_the_exact_one_along_guided_paths(source, key):
    """Tracking is a functional of the path: it holds along a guided path, whose law is another."""
    prior = jnp.asarray(PARTS.log_sum(MIXTURE.log_weights[None])[0])
    sources = {"classes": TrackedClasses(0, prior), "ratio": TrackedRatio(0, jnp.exp(prior[0]))}
    exact = ExactPosterior(MIXTURE, 0, PARTS)

    class Both(Guidance):
        def init(self, x):
            return sources[source].init(x), jnp.zeros((2, x.shape[0]))

        def step(self, state, x, level, denoise):
            state, _ = state
            tracked, state = sources[source].step(state, x, level, denoise)
            truth, _ = exact.step((), x, level, denoise)
            guided = formulae.classifier_free(denoise(None), denoise(0), 1.5)
            return guided, (state, jnp.stack([tracked.log_ratio, truth.log_ratio]))

    path = gs.sample(
        MIXTURE,
        CLOCK,
        np.geomspace(4.0, 0.9, 300),
        key=key,
        guidance=Both(),
        partition=PARTS,
        num_samples=300,
    )
    tracked, truth = np.exp(path.guidance_state[1] + prior[0])
    assert truth.std() > 0.1
    assert np.abs(tracked - truth).mean() < (0.012 if source == "classes" else 0.04)


@pytest.mark.slow
def test_kinds_run_in_single_precision_and_a_new_scale_compiles_nothing(key):
    with jax.enable_x64(False):
        law = gs.GaussianMixture.isotropic([[-1.0], [2.0]], 0.3)
        sources = ExactPosterior(law, 0), TrackedRatio(0, 0.5), TrackedClasses(0, law.log_weights)
        kinds = [
            ClassifierFree(0, 2.0),
            Interval(NegativePrompt(0, 1.0), 0.1, 3.0),
            SafeLatent(0, 1.0),
            DynamicNegative.tracked(0),
            Feedback.tracked(0, num_steps=9),
            *(DynamicNegative(0, 1.0, source) for source in sources),
        ]
        for kind in kinds:
            path = gs.sample(law, CLOCK, TIMES[::4], key=key, num_samples=8, guidance=kind)
            assert path.final.dtype == np.float32
            assert np.isfinite(path.final).all()
    traced = []

    @eqx.filter_jit
    def step(guidance, x):
        traced.append(1)
        return guidance.step((), x, LEVEL, _denoise(x))[0]

    x = jnp.zeros((3, 2))
    step(ClassifierFree(1, 2.0), x)
    step(ClassifierFree(1, 3.0), x)
    assert len(traced) == 1


def test_bad_input():
    with pytest.raises(ValueError, match="0 <= low < high"):
        Interval(Unguided(), 2.0, 1.0)
    with pytest.raises(ValueError, match="purity"):
        formulae.feedback_floor(1.0, 10.0)
    with pytest.raises(ValueError, match="start"):
        formulae.feedback_offset(0.9, 1.0, 64)
    with pytest.raises(ValueError, match="min_posterior < prior"):
        DynamicNegative.tracked(0, prior=0.9)
    for kind in (DynamicNegative.tracked, partial(Feedback.tracked, num_steps=9)):
        with pytest.raises(TypeError, match="floor"):
            kind(0, floor=0.1)


@pytest.mark.parametrize("label", [3, -1, 0.5])
def test_evidence_of_no_class_is_refused(label, array, unchecked):
    x = array(np.zeros((4, 2)))
    for source in (
        ExactPosterior(MIXTURE, label, PARTS),
        TrackedClasses(label, array(np.log([0.5, 0.3, 0.2]))),
    ):
        with pytest.raises(ValueError, match=f"a class, 0 to 2; got {label}"):
            source.step(source.init(x), x, LEVEL, _denoise(x))


def test_scales_with_an_axis_too_many_are_refused(array, unchecked):
    x = array(np.zeros((4, 2)))
    for scale in (np.ones((4, 1)), np.ones((2, 2))):
        with pytest.raises(ValueError, match=r"got shape .* for 4 states"):
            ClassifierFree(1, scale).step((), x, LEVEL, _denoise(x))


PRIOR = np.log([0.4, 0.4, 0.2])


@pytest.mark.parametrize(
    "source", [ExactPosterior(MIXTURE, 1), TrackedClasses(1, PRIOR), TrackedRatio(1, 0.3)]
)
def test_the_posterior_of_another_class_is_refused(source):
    """Of all states and of each; those of the same class pass."""
    kinds = partial(DynamicNegative, strength=1.0), partial(Feedback, purity=0.9)
    for kind in kinds:
        for label in (1, np.array([1, 1])):
            kind(label, posterior=source)
        for label in (0, np.array([1, 0]), None):
            with pytest.raises(ValueError, match=r"must be of one class; .* of class 1\."):
                kind(label, posterior=source)


def test_the_posterior_of_other_classes_is_refused(key):
    """Without its partition a label is a component of the posterior and a class of the run."""
    with pytest.raises(ValueError, match="each of the 4 components or classes; got labels of 2"):
        ExactPosterior(MIXTURE, 0, [0, 1])
    run = {"key": key, "num_samples": 4, "partition": PARTS}
    for classes in (None, [0, 0, 1, 2], [0, 0, 1, 1]):
        exact = DynamicNegative(0, 1.0, ExactPosterior(MIXTURE, 0, classes))
        for kind in (exact, Interval(exact, 0.1, 1.0)):
            for draw in (
                lambda kind: gs.sample(MIXTURE, CLOCK, [1.0, 0.5], guidance=kind, **run),
                lambda kind: control.guided_run(MIXTURE, CLOCK, [1.0, 0.5], kind, 0, **run),
                lambda kind: control.remove_class(MIXTURE, CLOCK, [1.0, 0.5], kind, 0, **run),
                lambda kind: control.removal_error(MIXTURE, kind, 0, [0.0, 1.0], **run),
            ):
                with pytest.raises(ValueError, match=r"the 3 classes .*Give both one partition"):
                    draw(kind)
    trivial = DynamicNegative(0, 1.0, ExactPosterior(MIXTURE, 0, [0, 1, 2, 3]))
    gs.sample(MIXTURE, CLOCK, [1.0, 0.5], key=key, num_samples=4, guidance=trivial)


@pytest.mark.parametrize("given", [[0.4, 0.4, 0.2], [-1.0, -1.0, np.nan], PRIOR + 1e-4])
def test_probabilities_where_logarithms_are_due_are_refused(given, array):
    """Evidence against them would be off by a factor: the scale of feedback 1.20 for 1.05."""
    with pytest.raises(ValueError, match="must hold logarithms of probabilities that sum to 1"):
        TrackedClasses(0, array(given))
    certain = np.array([0.0, -np.inf])
    for prior in (PRIOR, PRIOR + 1e-7, certain):
        TrackedClasses(0, array(prior))
    jax.jit(lambda log_prior: TrackedClasses(0, log_prior).log_prior)(jnp.asarray(given))
