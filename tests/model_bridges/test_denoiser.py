"""The denoiser protocol, its checks, and the EDM2 pair."""

import pickle
import warnings
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch
from denoiser_contract import check_denoiser
from oracle import draw, ten_classes

import model_bridges as mb
from model_bridges.denoisers.base import Wrapped
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.edm2 import EDM2Network
from model_bridges.guidance import ClassifierFree
from model_bridges.samplers import sample
from model_bridges.tracking.generated import generate_paths


def linear(**changes) -> mb.NetworkDenoiser:
    """`F = (label + 2) x`, or `x` without a label; `D = x / 2 - sigma F`."""

    def raw(x, sigma, label):
        return x if label is mb.UNCONDITIONAL else (label + 2)[:, None] * x

    settings = {
        "num_classes": 3,
        "event_shape": (4,),
        "sigma_range": (0.1, 10.0),
        "dtype": torch.float64,
    } | changes
    return mb.NetworkDenoiser(raw, lambda sigma: (0.5 + 0 * sigma, -sigma), **settings)


def nano(label_dim: int, **kwargs) -> EDM2Network:
    """A small EDM2 network with gains away from 0, where it would ignore its label."""
    torch.manual_seed(label_dim)
    network = EDM2Network(
        8,
        1,
        label_dim,
        model_channels=16,
        channel_mult=[1, 2],
        num_blocks=1,
        attn_resolutions=[],
        **kwargs,
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(0.7)
    return network.eval().requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_network_denoiser_keeps_the_contract(x):
    check_denoiser(linear(), x, 2.0, 1e-12)


def test_a_wrapper_hands_on_what_it_does_not_say(x):
    class Plain(Wrapped):
        def __init__(self, denoiser):
            self.denoiser = denoiser

    inner = linear(class_prior=(0.2, 0.3, 0.5), provenance="a line")
    label = torch.tensor([0, 1, 2, 1, 0])
    for outer in (Plain(inner), CountingDenoiser(inner), Plain(CountingDenoiser(inner))):
        check_denoiser(outer, x, 2.0, 1e-12)
        said = {name for name in dir(mb.Denoiser) if not name.startswith("_")}
        for name in (said | {"class_prior"}) - {"raw", "coefficients"}:
            assert getattr(outer, name) == getattr(inner, name), name
        for which in (label, mb.UNCONDITIONAL):
            assert torch.equal(outer(x, 2.0, which), inner(x, 2.0, which))
            assert torch.equal(outer.raw(x, 2.0, which), inner.raw(x, 2.0, which))
        with pytest.raises(ValueError, match=r"must be in 0\.\.2"):
            outer(x, 2.0, label + 1)


def test_the_edm2_pair_keeps_the_contract():
    denoiser = mb.from_edm2(nano(3), nano(0))
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    check_denoiser(denoiser, images, 1.5, 1e-5)
    label = torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(denoiser(images, 1.5, label), nano(3)(images, 1.5, label))
    torch.testing.assert_close(denoiser(images, 1.5, mb.UNCONDITIONAL), nano(0)(images, 1.5))
    soft = torch.nn.functional.one_hot(label, 3).float()
    torch.testing.assert_close(denoiser(images, 1.5, soft), denoiser(images, 1.5, label))


def test_without_its_partner_the_edm2_pair_refuses_the_unconditional_label():
    denoiser = mb.from_edm2(nano(3))
    assert not denoiser.has_unconditional
    with pytest.raises(ValueError, match="Add the unconditional network of the pair"):
        denoiser(torch.zeros(1, 1, 8, 8), 1.0, mb.UNCONDITIONAL)


@pytest.mark.parametrize(
    "pair",
    [lambda: (nano(0),), lambda: (nano(3), nano(2)), lambda: (nano(3), nano(0, sigma_data=1.0))],
)
def test_edm2_networks_that_are_no_pair_are_refused(pair):
    with pytest.raises(ValueError, match="label_dim"):
        mb.from_edm2(*pair())


def test_outside_the_trained_range_it_warns_or_refuses_and_never_clamps(x):
    label = torch.zeros(5, dtype=torch.long)
    with pytest.warns(UserWarning, match=r"trained range \[0.1, 10\]; got values from 20"):
        denoised = linear()(x, 20.0, label)
    torch.testing.assert_close(denoised, x / 2 - 20 * 2 * x)
    with pytest.raises(ValueError, match="trained range"):
        linear(outside="refuse")(x, 0.05, label)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear(outside="refuse")(x, torch.tensor(0.1, dtype=torch.float32), label)


@pytest.mark.parametrize(
    ("sigma", "label", "message"),
    [
        (1.0, torch.tensor([0, 1, 2, 3, 0]), r"in 0\.\.2; got 0 to 3"),
        (1.0, torch.tensor([0, 1, -1, 2, 0]), "got -1 to 2"),
        (1.0, torch.tensor([0, 1]), r"shape \(5,\)"),
        (1.0, torch.full((5, 3), 1 / 3), "must be integers"),
        (0.0, torch.zeros(5, dtype=torch.long), "positive and finite"),
        (float("nan"), torch.zeros(5, dtype=torch.long), "positive and finite"),
        (torch.ones(2), torch.zeros(5, dtype=torch.long), "one a state"),
    ],
)
def test_bad_arguments_are_refused(x, sigma, label, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    for call in (linear(), linear().raw):
        with pytest.raises(ValueError, match=message):
            call(x, sigma, label)


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (5, 1)])
def test_levels_of_other_states_are_refused_for_all_classes(x, shape, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(ValueError, match=r"one a state, shape \(5,\)"):
        mb.class_raw(linear(), x, torch.ones(shape))


@pytest.mark.parametrize("shape", [(5, 2), (1, 3), (3, 5)])
def test_wanted_classes_of_other_states_are_refused(x, shape, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(ValueError, match=r"`wanted` must have shape \(5, 3\)"):
        mb.class_raw(linear(), x, 1.0, wanted=torch.ones(shape, dtype=torch.bool))


def test_states_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"must have shape \(B, 4\)"):
        linear()(torch.zeros(2, 5), 1.0, mb.UNCONDITIONAL)


@pytest.mark.parametrize(
    "changes",
    [
        {"sigma_range": (1.0, 0.5)},
        {"sigma_range": (0.0, 1.0)},
        {"num_classes": 0},
        {"outside": "x"},
    ],
)
def test_a_denoiser_that_cannot_be_is_refused(changes):
    with pytest.raises((ValueError, TypeError)):
        linear(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw_function": 3}, "`raw_function` must be a function; got 3"),
        ({"coefficient_function": None}, "`coefficient_function` must be a function; got None"),
        ({"has_unconditional": "no"}, "`has_unconditional` must be True or False; got 'no'"),
        ({"soft_labels": "yes"}, "`soft_labels` must be True or False; got 'yes'"),
        ({"soft_labels": None}, "`soft_labels` must be True or False; got None"),
        ({"provenance": None}, "`provenance` must be words; got None"),
        ({"sigma_range": ("a", "b")}, "`sigma_range` must be real numbers"),
        ({"sigma_range": (0.1, None)}, "`sigma_range` must be real numbers"),
        ({"sigma_range": (True, 2)}, r"`sigma_range` must be \(low, high\) .* got \(True, 2\)"),
        ({"sigma_range": (0.1, float("nan"))}, r"`sigma_range` must be \(low, high\)"),
    ],
)
def test_what_a_denoiser_is_made_of_is_named(changes, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(ValueError, match=message):
        replace(linear(), **changes)


def test_a_word_is_no_flag_of_a_subset(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(ValueError, match="`whole` must be True or False; got 'no'"):
        mb.ClassSubset(linear(), (0, 2), (0.5, 0.5), whole="no")


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        (lambda s: (1.0, 1.0), r"shape of the levels, .*; it gave 1\.0, 1\.0\..*full_like"),
        (lambda s: s, r"two floating tensors .*; it gave \("),
        (lambda s: (s,), "two floating tensors"),
        (lambda s: (s, s, s), "two floating tensors"),
        (lambda s: None, r"it gave None"),
        (lambda s: (torch.ones(1), s), r"it gave \(1,\), \("),
        (lambda s: (torch.ones_like(s), s.long()), "two floating tensors"),
        (lambda s: (s, s.numpy()), "two floating tensors"),
        (lambda s: (s * torch.nan, s), r"finite coefficients; got NaN or infinity at sigma = \d\."),
        (lambda s: (s, s / (s - 2)), "finite coefficients; got NaN or infinity at sigma = 2"),
    ],
)
@pytest.mark.parametrize("sigma", [2.0, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])])
def test_coefficients_that_are_none_are_named(x, coefficients, message, sigma, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    denoiser = replace(linear(), coefficient_function=coefficients)
    for call in (denoiser, lambda x, sigma, label: denoiser.coefficients(sigma)):
        with pytest.raises(ValueError, match=f"`coefficient_function` must give .*{message}"):
            call(x, sigma, torch.zeros(5, dtype=torch.long))


def test_coefficients_are_of_float64_and_of_the_levels_alone(x):
    """A function that computes in place, or in float32, changes neither the levels nor the type."""
    levels = torch.tensor([0.5, 2.0], dtype=torch.float64)
    denoiser = replace(linear(), coefficient_function=lambda s: (s.float(), s.mul_(-1)))
    skip, out = denoiser.coefficients(levels)
    assert skip.dtype == out.dtype == torch.float64
    assert torch.equal(out, -levels)
    assert torch.equal(skip, torch.tensor([0.5, 2.0], dtype=torch.float64))


def test_the_unconditional_label_prints_its_name():
    assert repr(mb.UNCONDITIONAL) == "UNCONDITIONAL"
    assert pickle.loads(pickle.dumps(mb.UNCONDITIONAL)) is mb.UNCONDITIONAL


def test_models_load_by_name(monkeypatch, tmp_path):
    (tmp_path / "own_model.py").write_text(
        "import model_bridges as mb\n"
        "def make(): return mb.from_x0(lambda x, s, c: x, num_classes=2, event_shape=(3,))\n"
        "def wrong(): return 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert mb.load("own_model:make").num_classes == 2
    for name in ("imagenet", "own_model:", "own_model:absent", "no_such_module:make"):
        with pytest.raises(ValueError, match=r"'digits', .* or 'module:function'"):
            mb.load(name)
    with pytest.raises(ValueError, match="must return a denoiser"):
        mb.load("own_model:wrong")


def test_the_shipped_digits_networks_keep_the_contract():
    denoiser = mb.load("digits")
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    check_denoiser(denoiser, images, 0.8, 1e-4)
    assert denoiser.num_classes == 10
    assert denoiser.has_unconditional


class Foreign:
    """What keeps the protocol without our classes around it."""

    def __init__(self, denoiser):
        self.__dict__ |= {"denoiser": denoiser, "function": denoiser.raw_function}

    def __getattr__(self, name):
        return getattr(self.denoiser, name)

    def raw(self, x, sigma, label):
        return self.function(x, self.levels(x, sigma), label)

    def __call__(self, x, sigma, label):
        """As careless with the posterior mean as its network is with the output."""
        skip, out = (c[:, None] for c in self.coefficients(self.levels(x, sigma)))
        given = x.clone()
        output = self.raw(x, sigma, label)
        return torch.add(skip * given, out * output, out=output)

    @staticmethod
    def levels(x, sigma):
        return torch.as_tensor(sigma, dtype=torch.float64).expand(len(x))


BUFFER = torch.zeros(2048, 64, dtype=torch.float64)


def careless(exact, kind, foreign):
    """The same model, with every output in one buffer, as of captured graphs, or working on its input."""

    def one_buffer(x, sigma, label):
        BUFFER[: len(x)] = exact.raw(x, sigma, label)
        return BUFFER[: len(x)]

    def in_place(x, sigma, label):
        output = exact.raw(x, sigma, label)
        for given in (x, sigma, label):
            if isinstance(given, torch.Tensor):
                given.zero_()
        return output

    model = replace(exact, raw_function=one_buffer if kind == "one buffer" else in_place)
    return Foreign(model) if foreign else model


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("estimator", ["tracking", "gap", "gap-unconditional", "clones", "elbo"])
@pytest.mark.parametrize("kind", ["one buffer", "in place"])
def test_networks_that_write_where_they_like_have_the_same_curves(kind, estimator, foreign):
    exact = mb.mixture_denoiser(ten_classes("isotropic"))
    x0, labels = draw(ten_classes("isotropic"), 12, 0)
    options = {"estimator": estimator, "sigmas": [0.05, 0.3, 1.0, 5.0, 40.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, truth = (
            mb.entropy_curve(model, x0, labels, **options)
            for model in (careless(exact, kind, foreign), exact)
        )
    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(found.entropy.value, truth.entropy.value, **close)
    np.testing.assert_allclose(found.rate.value, truth.rate.value, **close)


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("kind", ["one buffer", "in place"])
def test_networks_that_write_where_they_like_have_the_same_samples(kind, foreign):
    """Guided by two outputs, by two a step, and of trajectories that are drawn in several batches."""
    exact = mb.mixture_denoiser(ten_classes("isotropic"), sigma_range=(0.05, 40.0))
    model = careless(exact, kind, foreign)
    x0, labels = draw(ten_classes("isotropic"), 12, 0)
    close = {"rtol": 1e-10, "atol": 1e-12}
    levels = torch.tensor([40.0, 2.0, 0.3, 0.05], dtype=torch.float64)
    for way in ({"guidance": ClassifierFree(0, 2.0)}, {"label": labels}):
        for method in ("ancestral", "probability-flow"):
            drawn, truth = (
                sample(
                    one,
                    x0.shape,
                    levels,
                    **way,
                    method=method,
                    generator=torch.Generator().manual_seed(0),
                    dtype=torch.float64,
                )
                for one in (model, exact)
            )
            torch.testing.assert_close(drawn, truth, **close)
    levels = np.array([0.05, 2.0, 40.0])
    found = (generate_paths(one, labels, levels, (64,), 12, max_batch=5) for one in (model, exact))
    for drawn, truth in zip(*found, strict=True):
        torch.testing.assert_close(drawn, truth, **close)
    if not foreign:
        noisy, level = x0.clone(), torch.full((12,), 0.5, dtype=torch.float64)
        check_denoiser(model, noisy, 0.5, 1e-12)
        model(noisy, level, labels)
        assert torch.equal(noisy, x0)
        assert (level == 0.5).all()


class DropsByItsClass(torch.nn.Identity):
    """A rate that is the class's, not the module's own."""

    dropout = 0.1


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Dropout(0.1),
        torch.nn.Dropout2d(0.1),
        torch.nn.BatchNorm1d(4),
        nano(3, dropout=0.1),
        DropsByItsClass(),
    ],
)
def test_a_network_in_training_mode_is_warned_of(layer):
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sequential(layer.train()))
    name = "Block" if isinstance(layer, EDM2Network) else type(layer).__name__
    options = {"num_classes": 2, "event_shape": (4,), "sigma_range": (0.1, 10.0)}
    with pytest.warns(UserWarning, match=f"training mode and has a {name}"):
        mb.from_x0(lambda x, s, label: network(x), **options)
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mb.from_x0(lambda x, s, label: network(x), **options)
