"""Inputs that would give a wrong number in silence are refused, also where no types are checked."""

import warnings
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch
from tiny_pipeline import dit, flux

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.guidance import AbstractGuidance
from gmm_speciation.reporting.trust import TrustWarning
from model_bridges.classes.names import ClassNames
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.denoisers.parametrisation import from_x0
from model_bridges.denoisers.subset import ClassSubset
from model_bridges.digits.text import FOLDER
from model_bridges.entropy.curve import entropy_curve
from model_bridges.entropy.elbo_posterior import elbo_posterior
from model_bridges.entropy.evidence import label_divergence
from model_bridges.entropy.levels import adaptive_sigmas
from model_bridges.entropy.own_samples import on_own_samples
from model_bridges.entropy.windows import GuidanceInterval, compare_windows, guidance_interval
from model_bridges.guidance import DynamicNegative, ExactPosterior, Guided, TrackedClasses
from model_bridges.images.reading import read_parts
from model_bridges.pipelines import load as load_pipeline
from model_bridges.samplers import karras_sigmas, sample
from model_bridges.studied import study_denoiser
from model_bridges.tracking.calibration import calibration_error, reliability
from model_bridges.tracking.forward import track
from model_bridges.tracking.generated import generated_posterior

SHAPE = (1, 2, 2)


@pytest.fixture(autouse=True)
def as_it_is_for_users(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def denoiser():
    """Three classes with an exact denoiser."""
    return mixture_denoiser(gs.GaussianMixture.isotropic(np.eye(4)[:3], 0.1), event_shape=SHAPE)


def pair():
    return gs.GaussianMixture.isotropic(np.eye(4)[:2], 0.1)


def data(num=8):
    return np.random.default_rng(0).normal(size=(num, *SHAPE)), np.arange(num) % 3


def tracking_guidance(log_prior):
    return DynamicNegative(0, 1.0, TrackedClasses(0, log_prior))


def subset(classes=(0, 2), weights=(0.5, 0.5)):
    return ClassSubset(denoiser(), classes, weights)


SILENT = {  # what broadcasts, is converted or computed with: without a check a wrong number
    "states": (
        lambda x, y: elbo_posterior(denoiser(), x[:, :, :1], 0.5),
        r"`x` must have shape \(N",
    ),
    "states NaN": (lambda x, y: elbo_posterior(denoiser(), x * np.nan, 0.5), "`x` must be finite"),
    "falling rate": (
        lambda x, y: elbo_posterior(denoiser(), x, 0.5, rate=(np.array([2.0, 1.0]), np.ones(2))),
        "levels that increase",
    ),
    "ragged rate": (
        lambda x, y: elbo_posterior(
            denoiser(), x, 0.5, rate=(np.array([1.0, 2.0]), np.ones((2, 1)))
        ),
        r"got shapes \(2,\) and \(2, 1\)",
    ),
    "falling information": (
        lambda x, y: elbo_posterior(
            denoiser(), x, 0.5, rate=(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
        ),
        r"not negative; .* rates \[ 1. nan\]",
    ),
    "two levels": (
        lambda x, y: elbo_posterior(denoiser(), x, np.ones(8)),
        r"`sigma` must be one number in \(0, ",
    ),
    "no level": (lambda x, y: elbo_posterior(denoiser(), x, np.nan), "`sigma` must be one number"),
    "strata": (
        lambda x, y: elbo_posterior(denoiser(), x, 0.5, num_strata=2.5),
        "`num_strata` must be a whole number of at least 1; got 2.5",
    ),
    "bins": (
        lambda x, y: reliability(track(denoiser(), x, y), num_bins=2.5),
        "`num_bins` must be a whole number",
    ),
    "half a level": (
        lambda x, y: adaptive_sigmas(denoiser(), x, 2.5),
        "`num_levels` must be a whole number of at least 2",
    ),
    "a bound in words": (lambda x, y: track(denoiser(), x, y, drop_below="x"), "`drop_below` must"),
    "three ends": (lambda x, y: GuidanceInterval((1, 2, 3)), "0 <= low < high; got .1, 2, 3."),
    "one end": (lambda x, y: GuidanceInterval(1.0), "0 <= low < high; got 1.0"),
    "ends in words": (lambda x, y: GuidanceInterval(("a", "b")), "must be real numbers"),
    "images of no class": (
        lambda x, y: entropy_curve(denoiser(), x, y, prior=[0.0, 0.5, 0.5]),
        "Class 0 has weight 0 in `prior`, and 3 of the images are of it",
    ),
    "groups of two": (
        lambda x, y: entropy_curve(denoiser(), x, y, partition=[0, 1]),
        "each of the 3 components or classes; got labels of 2",
    ),
    "groups of classes": (
        lambda x, y: entropy_curve(denoiser(), x, y, partition=[[0], [1, 2]]),
        r"must have rows of one length; got \[\[0\], \[1, 2\]\]",
    ),
    "one class": (
        lambda x, y: entropy_curve(replace(denoiser(), num_classes=1, class_prior=None), x, 0 * y),
        "The model has one class",
    ),
    "one name": (
        lambda x, y: compare_windows(*2 * [entropy_curve(denoiser(), x, y)], names=("x",)),
        "`names` must be two",
    ),
    "one level": (lambda x, y: entropy_curve(denoiser(), x, y, sigmas=5), "at least two positive"),
    "share in words": (
        lambda x, y: guidance_interval(entropy_curve(denoiser(), x, y), "0.8"),
        "`mass` must be real numbers",
    ),
    "seed in words": (lambda x, y: entropy_curve(denoiser(), x, y, seed="0"), "got '0'"),
    "flags": (lambda x, y: subset()(x, 0.5, y > 0), r"or soft labels \(B, 2\); got torch.bool"),
    "soft labels": (lambda x, y: subset()(x, 0.5, np.ones(8)), "got torch.float64 of shape"),
    "soft column": (lambda x, y: subset()(x, 0.5, np.ones((8, 1))), r"of shape \(8, 1\)"),
    "chosen flags": (lambda x, y: subset((True, False)), "different labels"),
    "short prior": (lambda x, y: subset(weights=(1.0,)), "must be 2 non-negative weights"),
    "prior": (lambda x, y: subset(weights=(0.5, 0.6)), "sum to 1"),
    "interval": (lambda x, y: GuidanceInterval((3, 1)), "0 <= low < high"),
    "interval NaN": (lambda x, y: GuidanceInterval((0.1, np.nan)), "0 <= low < high"),
    "column": (lambda x, y: GuidanceInterval((1, 3)).steps([[4.0], [2.0]]), "a number or a vector"),
    "rising": (lambda x, y: GuidanceInterval((1, 3)).steps([2.0, 4.0]), "do not rise"),
    "rho NaN": (lambda x, y: karras_sigmas(4, rho=np.nan), "`rho` > 0"),
    "rho 0": (lambda x, y: karras_sigmas(4, rho=0), "`rho` > 0"),
    "endless": (lambda x, y: karras_sigmas(4, sigma_max=np.inf), "all finite"),
    "rho tiny": (lambda x, y: karras_sigmas(4, 0.02, 80.0, 1e-3), "of both a number"),
    "rho in words": (lambda x, y: karras_sigmas(4, rho="7"), "`rho` must be real numbers"),
    "end in words": (lambda x, y: karras_sigmas(4, "a"), "`sigma_min` must be real numbers"),
    "no end": (lambda x, y: karras_sigmas(4, 0.02, None), "`sigma_max` must be real numbers"),
    **{
        f"{number} levels": (lambda x, y, n=number: karras_sigmas(n), "`num_steps` must be a whole")
        for number in (1, 2.5, np.nan, "4", True)
    },
    "negative": (lambda x, y: denoiser().coefficients(-1.0), "negative or NaN; got .-1.0"),
    "NaN": (lambda x, y: subset().coefficients(np.array([1, np.nan])), "negative or NaN"),
    "no state": (lambda x, y: denoiser()(x[:0], 1.0, y[:0]), "with B >= 1; got"),
    "level": (lambda x, y: reliability(track(denoiser(), x, y), 99), "one of the 64 levels"),
    "noise": (lambda x, y: reliability(track(denoiser(), x, y), 0.5), "not its noise; got 0.5"),
    "window": (
        lambda x, y: calibration_error(track(denoiser(), x, y), window=(3.0, 0.1)),
        "0 < low <= high",
    ),
    "paths": (
        lambda x, y: track(denoiser(), x, y, sigmas=[0.1, 1.0], paths=x[None]),
        "every image at every level",
    ),
    "labels": (lambda x, y: generated_posterior(denoiser(), 9, labels=y), r"of shape \(9,\)"),
    "some classes": (
        lambda x, y: Guided(denoiser(), tracking_guidance(np.log([0.5, 0.5]))),
        r"all 3 classes; got shape \(2,\)",
    ),
    "some classes drawn": (
        lambda x, y: sample(
            denoiser(), x.shape, [2.0, 1.0], guidance=tracking_guidance(np.log([0.5, 0.5]))
        ),
        r"all 3 classes; got shape \(2,\)",
    ),
    "other classes of the posterior": (
        lambda x, y: Guided(denoiser(), DynamicNegative(0, 1.0, ExactPosterior(pair(), 0))),
        "must have the 3 classes .* its own are 2",
    ),
}


@pytest.mark.parametrize("name", SILENT)
def test_what_would_give_a_wrong_number_is_refused(name):
    call, says = SILENT[name]
    with pytest.raises(ValueError, match=says):
        call(*data())


def test_states_paths_and_labels_of_numpy_are_those_of_torch():
    (x, labels), paths = data(4), np.random.default_rng(0).normal(size=(2, 4, *SHAPE))
    reads = {
        "elbo": lambda of: elbo_posterior(denoiser(), of(x), 0.5).log_posterior,
        "track": lambda of: (
            track(denoiser(), x, labels, sigmas=[0.1, 1.0], paths=of(paths)).log_posterior
        ),
        "generated": lambda of: (
            (
                generated_posterior(denoiser(), 4, labels=of(labels), sigmas=[0.1, 1.0])[0]
            ).log_posterior
        ),
    }
    for read in reads.values():
        np.testing.assert_array_equal(read(np.asarray), read(torch.from_numpy))


@pytest.mark.parametrize("changed", [0, 3, 39])
def test_a_run_of_another_class_is_not_continued(changed, tmp_path):
    """One class of many was trained again; the model's name, shapes and other classes are the same."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(40, 4))
    x, labels = means[np.arange(40)][:, None, None, :], np.arange(40)

    def model(means):
        exact = mixture_denoiser(gs.GaussianMixture.isotropic(means, 0.25), event_shape=(1, 1, 4))
        words = {"event_shape": (1, 1, 4), "sigma_range": (0.1, 20.0), "has_unconditional": False}
        return from_x0(exact, num_classes=40, **words)

    words = {"sigmas": [0.1, 1.0, 20.0], "run": tmp_path / "run"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three levels
        entropy_curve(model(means), x, labels, **words)
        means[changed] *= 3
        with pytest.raises(ValueError, match=r"made with other settings.*its weights are others"):
            entropy_curve(model(means), x, labels, **words)


def test_a_part_of_an_npz_has_all_its_classes(tmp_path):
    """Files are often sorted by class."""
    labels = np.repeat(np.arange(4), 100)
    np.savez(tmp_path / "sorted.npz", states=np.zeros((400, *SHAPE)), labels=labels)
    words = ClassNames.of_classes(("a", "b", "c", "d"))
    part = read_parts(tmp_path / "sorted.npz", words, lambda: (1, 2)).held_out.first(80)
    counts = np.bincount(part.labels, minlength=4)
    assert counts.min() > 8
    assert part.law == "80 of 400 states in sorted.npz, taken at random"


@pytest.mark.parametrize("shares", [(0.5, 0.25, 0.25), (0.6, 0.2, 0.2), (0.5, 0.5, 0.0)])
@pytest.mark.parametrize("estimator", ["tracking", "gap-sampled"])
def test_images_of_other_shares_than_the_weights_make_no_curve(shares, estimator):
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 600, p=shares)
    means = np.eye(4)[:3]
    x = (means[labels] + 0.1**0.5 * rng.normal(size=(600, 4))).reshape(-1, *SHAPE)
    words = {"estimator": estimator, "sigmas": np.geomspace(0.02, 40, 24)}
    with pytest.warns(TrustWarning, match="divergence of the labels' shares"):
        found = entropy_curve(denoiser(), x, labels, **words)
    assert not found.trust.ok
    if estimator == "tracking" and min(shares) > 0:
        own = entropy_curve(denoiser(), x, labels, prior=np.array(shares), **words)
        assert own.trust.ok


def test_shares_that_chance_makes_of_the_weights_are_no_fault():
    rng = np.random.default_rng(2)
    weights = np.r_[np.full(100, 0.005), np.full(5, 0.1)]
    for num in (20, 200, 20_000):
        found = [
            label_divergence(torch.from_numpy(rng.choice(105, num, p=weights)), weights)
            for _ in range(40)
        ]
        z = np.array([float(one.value[0] / one.stderr[0]) for one in found])
        assert abs(z.mean()) < 0.8
        assert np.abs(z).max() < 5
    every = label_divergence(torch.arange(1050) % 105, weights)
    assert float(every.value[0]) > 0.3  # as many of each are not by these weights


def test_labels_are_told_apart_by_what_they_hold():
    """A guidance that fills one tensor anew, or makes one for a moment, gets the outputs that it asks for."""
    model, x = denoiser(), torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))

    class Mean(AbstractGuidance):
        def step(self, state, x, level, denoise):
            return sum(denoise(torch.full((len(x),), k)) for k in range(3)) / 3, state

    class OneTensor(AbstractGuidance):
        def step(self, state, x, level, denoise):
            label = torch.zeros(len(x), dtype=torch.long)
            return sum(denoise(label.fill_(k)) for k in range(3)) / 3, state

    expected = sum(model(x, 1.0, torch.full((4,), k)) for k in range(3)) / 3
    for guidance in (Mean(), OneTensor()):
        torch.testing.assert_close(Guided(model, guidance)(x, 1.0), expected)


NOTHING = {
    "curve of a function": (lambda x, y: entropy_curve(lambda *a: a[0], x, y), "got a function"),
    "path of nothing": (lambda x, y: track(None, x, y), "got a NoneType"),
    "groups without names": (
        lambda x, y: track(denoiser(), x, y, partitions=[[0, 1, 1]]),
        "`partitions` are groupings by name",
    ),
    "samples of a denoiser": (lambda x, y: on_own_samples(denoiser(), 10), "got a NetworkDenoiser"),
    "study of a function": (lambda x, y: study_denoiser(lambda *a: a[0], "m"), "got a function"),
    "difference from nothing": (
        lambda x, y: compare_windows(entropy_curve(denoiser(), x, y), None),
        "got a NoneType",
    ),
    "interval of a list": (lambda x, y: guidance_interval([1, 2]), "got a list"),
    "estimator 3": (lambda x, y: entropy_curve(denoiser(), x, y, estimator=3), "must be one of"),
    "class prior of three": (lambda x, y: replace(denoiser(), class_prior=(0.5, 0.5)), "3 non-neg"),
    "one level for a range": (
        lambda x, y: replace(denoiser(), sigma_range=5),
        "must be .low, high",
    ),
    "a run in a file": (lambda x, y: entropy_curve(denoiser(), x, y, run=__file__), "is a file"),
}


@pytest.mark.parametrize("what", NOTHING)
def test_things_of_another_kind_are_refused_by_name(what):
    call, message = NOTHING[what]
    kind = TypeError if message.startswith(("got a", "`partitions`")) else ValueError
    with pytest.raises(kind, match=message):
        call(*data())


COUNTED = {  # functions of noise and of batches
    "curve": lambda x, y, **given: entropy_curve(denoiser(), x, y, **given),
    "curve of a folder": lambda x, y, **given: entropy_curve(
        denoiser(), x, y, estimator="elbo", **given
    ),
    "path": lambda x, y, **given: track(denoiser(), x, y, **given),
    "own path": lambda x, y, **given: generated_posterior(denoiser(), 4, **given),
}


@pytest.mark.parametrize("what", COUNTED)
@pytest.mark.parametrize("number", [-1, 1.5, None, "a"])
@pytest.mark.parametrize("name", ["seed", "max_batch"])
def test_seeds_and_batches_are_whole_numbers(what, number, name):
    says = f"`{name}` must be a whole number of at least .; got {number!r}"
    with pytest.raises(ValueError, match=says):
        COUNTED[what](*data(), **{name: number})


@pytest.mark.parametrize("shape", [2, "ab", (1, 2.0)])
def test_the_shape_of_a_state_is_whole_numbers(shape):
    with pytest.raises(ValueError, match="`event_shape` must be whole numbers"):
        from_x0(lambda x, *_: x, num_classes=2, event_shape=shape)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (dit, {"classes": 3}, "`classes` must be a list of labels; got 3"),
        (dit, {"classes": torch.tensor([0.5, 1.0])}, "different labels"),
        (dit, {"classes": np.array([True, False])}, "different labels"),
        (dit, {"class_names": "abcde"}, "5 different names"),
        (dit, {"class_names": (1, 2, 3, 4, 5)}, "5 different names"),
        (dit, {"size": 8}, "height and width in pixels, .* got 8"),
        (dit, {"size": (8.0, 8.0)}, "height and width in pixels"),
        (flux, {"prompts": 3}, "list of at least one prompt; got 3"),
    ],
)
def test_arguments_of_pipelines_are_named(make, options, message):
    with pytest.raises(ValueError, match=message):
        mb.from_pipeline(make(), **options)


def test_classes_of_torch_and_numpy_are_those_of_a_list():
    pipe = dit()
    for classes in (torch.tensor([3, 1]), np.array([3, 1])):
        assert mb.from_pipeline(pipe, classes=classes).class_names == ("class 3", "class 1")
    assert mb.from_pipeline(flux(), np.array(["a cat", "a dog"])).num_classes == 2


def test_an_option_that_no_pipeline_has_is_named():
    with pytest.raises(TypeError, match=r"class_prior, outside, provenance .* got 'clas_prior'"):
        mb.from_pipeline(dit(), clas_prior=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "`dtype` must be one of .*; got 'float16'"),
        ({"dtype": torch.int32}, "`dtype` must be one of"),
        ({"device": "cudaa"}, "`device` must be auto"),
        ({"device": "cuda:97"}, "'cuda:97' is not there"),
    ],
)
def test_places_of_pipelines_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        load_pipeline(FOLDER, ["zero"], **options)
