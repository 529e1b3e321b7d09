"""One exact model behind four parametrisations is one denoiser."""

import warnings

import numpy as np
import pytest
import torch
from denoiser_contract import check_denoiser
from oracle import draw, ten_classes

import model_bridges as mb
from gmm_speciation import DDPM
from model_bridges.denoisers.parametrisation import Schedule

ABAR = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
NULL = 10
SETTINGS = {"num_classes": 10, "event_shape": (64,), "dtype": torch.float64}


def oracle_as(target: str, null: int | None = None) -> mb.NetworkDenoiser:
    """The exact denoiser as a network that predicts `target` in its native coordinates."""
    exact = mb.mixture_denoiser(ten_classes("isotropic, per class"))
    process = DDPM.from_alphas_cumprod(ABAR)

    def posterior_mean(x, sigma, label):
        if label is None or (null is not None and bool((label == null).all())):
            return exact(x, sigma, mb.UNCONDITIONAL)
        return exact(x, sigma, label)

    def preserving(x, t, label):
        """x_0 and noise at a fractional step, by the theory's own clock."""
        alpha, noise = (
            torch.from_numpy(np.array(f(t.numpy()))) for f in (process.alpha, process.sigma)
        )
        mean = posterior_mean(x / alpha[:, None], noise / alpha, label)
        return mean, (x - alpha[:, None] * mean) / noise[:, None], alpha[:, None], noise[:, None]

    def epsilon(x, t, label):
        return preserving(x, t, label)[1]

    def velocity(x, t, label):
        mean, noise, a, s = preserving(x, t, label)
        return a * noise - s * mean

    def clean(x, t, label):
        return preserving(x, t, label)[0]

    def flow(x, t, label):
        t = t[:, None]
        mean = posterior_mean(x / (1 - t), (t / (1 - t))[:, 0], label)
        return (x - (1 - t) * mean) / t - mean

    options = SETTINGS | {"unconditional_label": null}
    return {
        "epsilon": lambda: mb.from_epsilon(epsilon, ABAR, **options),
        "velocity": lambda: mb.from_velocity(velocity, ABAR, **options),
        "x0 on a schedule": lambda: mb.from_x0(clean, ABAR, **options),
        "x0": lambda: mb.from_x0(posterior_mean, **options),
        "flow": lambda: mb.from_flow(flow, **options),
    }[target]()


TARGETS = ["epsilon", "velocity", "x0 on a schedule", "x0", "flow"]


@pytest.mark.parametrize("sigma", [0.03, 0.7, 14.0])
@pytest.mark.parametrize("target", TARGETS)
def test_every_parametrisation_is_the_same_denoiser(target, sigma):
    mixture = ten_classes("isotropic, per class")
    exact, wrapped = mb.mixture_denoiser(mixture), oracle_as(target)
    x0, label = draw(mixture, 7, seed=1)
    x = x0 + sigma * torch.randn(
        x0.shape, dtype=x0.dtype, generator=torch.Generator().manual_seed(2)
    )
    for labels in (label, mb.UNCONDITIONAL):
        torch.testing.assert_close(
            wrapped(x, sigma, labels), exact(x, sigma, labels), rtol=0, atol=1e-10
        )
    check_denoiser(wrapped, x, sigma, 1e-10)


@pytest.mark.parametrize("target", TARGETS)
def test_a_network_with_a_null_label_gets_it(target):
    x = torch.ones(3, 64, dtype=torch.float64)
    torch.testing.assert_close(
        oracle_as(target, NULL)(x, 0.5, mb.UNCONDITIONAL),
        oracle_as(target)(x, 0.5, mb.UNCONDITIONAL),
    )


def test_fractional_steps_mean_the_same_as_in_the_theory():
    schedule, process = Schedule.from_alphas_cumprod(ABAR), DDPM.from_alphas_cumprod(ABAR)
    sigma = np.geomspace(*schedule.sigma_range, 4001)
    np.testing.assert_allclose(
        schedule.time(torch.from_numpy(sigma)).numpy(), process.time(-2 * np.log(sigma)), atol=1e-8
    )


def test_the_alphas_of_single_steps_are_no_schedule():
    alphas = 1 - np.linspace(1e-4, 0.02, 1000)
    with pytest.warns(UserWarning, match="more signal than noise. Pass `scheduler.alphas_cumprod`"):
        Schedule.from_alphas_cumprod(alphas)
    with warnings.catch_warnings(action="error"):
        Schedule.from_alphas_cumprod(np.cumprod(alphas))


def test_stable_diffusion_reaches_from_its_first_to_its_last_step():
    low, high = Schedule.from_alphas_cumprod(ABAR).sigma_range
    assert low == pytest.approx(0.0291672, abs=1e-6)
    assert high == pytest.approx(14.614641, abs=1e-5)


@pytest.mark.parametrize("sigma", [0.01, 20.0])
def test_outside_the_schedule_a_level_is_refused(sigma):
    with pytest.raises(ValueError, match=r"trained range \[0\.0291672, 14\.6146\]"):
        oracle_as("epsilon")(torch.zeros(1, 64), sigma, mb.UNCONDITIONAL)


@pytest.mark.parametrize("alphas", [[0.5], [0.5, 0.9], [1.0, 0.5], [0.9, np.nan], [[0.9, 0.5]]])
def test_a_schedule_that_is_none_is_refused(alphas):
    with pytest.raises(ValueError, match="`alphas_cumprod` must be a vector that decreases"):
        mb.from_epsilon(lambda x, t, c: x, alphas, num_classes=2, event_shape=(3,))


@pytest.mark.parametrize("target", ["epsilon", "velocity", "x0 on a schedule"])
def test_a_last_step_without_signal_is_left_out_with_a_word(target):
    """The levels that are left are the same denoiser; sigma = inf has no place in EDM coordinates."""
    x, labels = torch.ones(3, 64, dtype=torch.float64), torch.tensor([0, 4, 9])
    plain = oracle_as(target)
    make = {"epsilon": mb.from_epsilon, "velocity": mb.from_velocity}.get(target, mb.from_x0)
    with pytest.warns(match="no signal"):
        cut = make(lambda x, t, c: x, [*ABAR, 0.0], **SETTINGS)
    assert cut.sigma_range == plain.sigma_range
    steps = make(lambda x, t, c: t[:, None] + 0 * x, ABAR, **SETTINGS).raw(x, 2.0, labels)
    with pytest.warns(match="no signal"):
        again = make(lambda x, t, c: t[:, None] + 0 * x, [*ABAR, 0.0], **SETTINGS)
    assert torch.equal(again.raw(x, 2.0, labels), steps)
    with pytest.warns(match="no signal"), pytest.raises(ValueError, match="decreases strictly"):
        make(lambda x, t, c: x, [0.5, 0.0], **SETTINGS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_half_precision_rounds_no_level_and_no_step(dtype):
    """What a network is told, against the schedule's own steps and times, over the whole range."""
    told = []

    def network(x, time, label):
        told.append((x.dtype, time))
        return x

    options = {"num_classes": 3, "event_shape": (1, 2, 2), "dtype": dtype}
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    steps = np.array([3, 250, 777, 998])
    x, labels = torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.long)
    mb.from_epsilon(network, abar, **options)(x, np.sqrt(1 / abar - 1)[steps], labels)
    mb.from_flow(network, **options)(x, steps / (1000 - steps), labels)
    mb.from_x0(network, sigma_range=(1e-3, 999.0), **options)(x, steps / 1000 + 1e-3, labels)
    expected = (steps, steps / 1000, steps / 1000 + 1e-3)
    for (kind, time), right in zip(told, expected, strict=True):
        assert kind == dtype
        np.testing.assert_allclose(time.double().numpy(), right, rtol=2e-6)


def test_a_network_that_wants_its_steps_in_half_precision_is_told_how():
    layer = torch.nn.Linear(1, 4, dtype=torch.bfloat16).requires_grad_(False)
    options = {"num_classes": 3, "event_shape": (1, 2, 2), "dtype": torch.bfloat16}
    own = mb.from_x0(lambda x, t, c: layer(t[:, None]).reshape(x.shape), **options)
    x, labels = torch.randn(4, 1, 2, 2), torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"steps in torch.float32.*`\.to\(x\.dtype\)`"):
        own(x, 1.0, labels)
    cast = mb.from_x0(lambda x, t, c: layer(t[:, None].to(x.dtype)).reshape(x.shape), **options)
    assert cast(x, 1.0, labels).shape == x.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float32"}, "`dtype` must be one of .*; got 'float32'"),
        ({"dtype": torch.int32}, "`dtype` must be one of"),
        ({"half": torch.float32}, "`half` must be torch.float16"),
        ({"device": "cuda:97"}, "'cuda:97' is not there"),
        ({"class_names": (1, 2)}, "2 different names"),
        ({"class_names": "ab"}, "2 different names"),
        ({"class_names": ("a", "b", "b")}, "2 different names"),
    ],
)
def test_arguments_of_wrappers_are_named(options, message, unchecked):
    abar = np.linspace(0.99, 0.01, 20)
    with pytest.raises(ValueError, match=message):
        mb.from_epsilon(lambda x, t, label: x, abar, num_classes=2, event_shape=(3,), **options)
