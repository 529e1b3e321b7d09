"""Models on a device: every family moves there, in any precision, and says what it took or cannot do."""

import functools
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from controlled import law
from elsewhere import DEVICE, There, elsewhere, host
from oracle import ten_classes
from refusals import refused
from tiny_pipeline import PROMPTS

import model_bridges as mb
from gmm_speciation import GaussianMixture
from model_bridges.classes.groups import read_selection
from model_bridges.cli import main
from model_bridges.cli.inputs import studied_model
from model_bridges.cli.options import Study
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.devices import (
    ImmovableError,
    Placement,
    _held,
    beside,
    find_device,
    place,
)
from model_bridges.digits import load_denoiser
from model_bridges.pipelines import load as load_pipeline

ABAR = np.linspace(0.999, 0.001, 50)


class Own(torch.nn.Module):
    """A network of a user's: noise predicted from the state, the step and an embedding of the class."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding = torch.nn.Embedding(4, 16)
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(3 + 16, 32), torch.nn.SiLU(), torch.nn.Linear(32, 2)
            )
        self.to(dtype).requires_grad_(False)

    def forward(self, x, step, label):
        return self.layers(torch.cat([x, step[:, None] / 50, self.embedding(label)], 1))


def own(make=lambda network: network):
    return mb.from_epsilon(
        make(Own()), ABAR, num_classes=3, event_shape=(2,), unconditional_label=3
    )


def low_rank():
    rng = np.random.default_rng(3)
    return GaussianMixture.low_rank(rng.normal(size=(3, 6)), rng.normal(size=(3, 6, 2)), 0.1)


FAMILIES = {
    "EDM2": load_denoiser,
    "some classes": lambda: mb.ClassSubset(load_denoiser(), (3, 1), (0.25, 0.75)),
    "isotropic mixture": lambda: mb.mixture_denoiser(law()),
    "mixture of low rank": lambda: mb.mixture_denoiser(low_rank()),
    "mixture of full covariances": lambda: mb.mixture_denoiser(ten_classes("full")),
    "module": own,
    "bound method": lambda: own(lambda network: network.forward),
    "partial": lambda: own(lambda network: functools.partial(network)),
    "closure": lambda: own(lambda network: lambda x, t, c: network(x, t, c)),
    "closure of closures": lambda: own(lambda n: (lambda f: lambda x, t, c: f(x, t, c))(n.forward)),
    "counted": lambda: CountingDenoiser(CountingDenoiser(own())),
}


def states(denoiser, num=5, sigma=1.0):
    generator = torch.Generator().manual_seed(1)
    return sigma * torch.randn(num, *denoiser.event_shape, generator=generator)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_moves(name):
    def answers(denoiser):
        x, label = states(denoiser), torch.arange(5) % denoiser.num_classes
        found = [denoiser(x, 1.0, label), denoiser.raw(x, torch.linspace(0.5, 2, 5), label)]
        if denoiser.has_unconditional:
            found.append(denoiser.raw(x, 1.0, mb.UNCONDITIONAL))
        return found

    here = answers(FAMILIES[name]())
    with elsewhere():
        moved = place(FAMILIES[name](), DEVICE)
        assert torch.device(moved.device) == DEVICE
        there = answers(moved)
        # The posterior mean comes where its state is, the raw output where the network is.
        assert not isinstance(there[0], There)
        assert all(isinstance(raw, There) for raw in there[1:])
        for one, other in zip(here, there, strict=True):
            np.testing.assert_allclose(host(other), host(one), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_pipeline_moves_with_its_prompts_and_its_autoencoder(dtype, tolerance, folder):
    def answers(model):
        x = states(model, 4)
        latents = model.encode(torch.zeros(2, 3, 16, 16), torch.Generator().manual_seed(0))
        raw = model.raw(x, 1.0, torch.tensor([0, 1, 2, 0]))
        return latents, raw, model.raw(x, 1.0, mb.UNCONDITIONAL), model.decode(x)

    here = answers(load_pipeline(folder, PROMPTS, dtype=dtype))
    model = load_pipeline(folder, PROMPTS, dtype=dtype)
    # Read here: diffusers itself reads by way of the device without memory.
    autoencoder = model.read_autoencoder()
    with elsewhere():
        moved = place(model, DEVICE)
        vars(moved)["autoencoder"] = autoencoder.to(moved.device)
        there = answers(moved)
        assert all(isinstance(values, There) for values in there)
        for one, other in zip(here, there, strict=True):
            assert one.dtype == other.dtype
            # Of a few roundings of the dtype: kernels are chosen by device.
            assert (other.cpu() - one).abs().max() <= tolerance * one.abs().max()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("make", [load_denoiser, own])
def test_evidence_is_float64_whatever_the_network_computes_in(dtype, make):
    full, model = make(), place(make(), "cpu", dtype)
    x, label = states(full, 6), torch.arange(6) % full.num_classes
    raw, exact = (d.raw(x, 1.0, label).double() for d in (model, full))
    error = float((raw - exact).norm() / exact.norm())
    assert (0 < error < 0.05) if dtype != "float32" else error == 0
    low, high = model.sigma_range
    record = mb.track(model, x, label, sigmas=np.geomspace(2 * low, high / 2, 9))
    for values in (record.log_posterior, record.bayes_gap, record.label_error, record.log_ratio):
        assert values.dtype == np.float64
    # The sums are no rounder than float64: posteriors add up to 1.
    total = np.exp(record.log_posterior).sum(-1)
    np.testing.assert_allclose(total, 1, rtol=0, atol=1e-13)


@pytest.mark.skipif(
    shutil.which("g++") is None or " " in torch.__file__,
    reason="torch compiles for a CPU with g++, and links by its own path, which it does not quote",
)
def test_a_compiled_network_gives_the_same_numbers():
    network = Own()
    model, compiled = own(), place(own(lambda _: network), "cpu", compile=True)
    x, label = states(model, 6), torch.arange(6) % 3
    torch.testing.assert_close(
        compiled.raw(x, 1.0, label), model.raw(x, 1.0, label), rtol=1e-5, atol=1e-5
    )
    assert network._compiled_call_impl is not None


def test_auto_takes_what_is_there_and_says_so(monkeypatch):
    lines = []
    model = mb.load("digits", say=lines.append)
    assert lines == ["the network computes on cpu, no accelerator is there"]
    assert torch.device(model.device) == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda:1")
    assert find_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ValueError, match=r"'cuda:2' is not there.*cuda, mps, cuda:0, cuda:1"):
        find_device("cuda:2")


def test_what_has_no_float64_is_accompanied_by_the_host():
    assert beside(SimpleNamespace(device="mps")) == torch.device("cpu")
    placement = Placement(torch.device("mps"))
    assert placement.weights(torch.float64) is torch.float32
    assert placement.weights(torch.bfloat16) is torch.bfloat16


@pytest.mark.parametrize("command", ["crosscheck", "entropy", "windows", "guidance", "remove"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda"], "'cuda' is not there"),
        (["--device", "mps"], "'mps' is not there"),
        (["--device", "gpu"], "must be auto, cpu, cuda"),
        (["--device", "meta"], "'meta' is not there"),  # has no memory
        (["--device", "xpu"], "'xpu' is not there"),
        (["--dtype", "float8"], "Unknown dtype 'float8'"),
    ],
)
def test_a_device_that_is_not_there_is_one_line_and_exit_code_2(command, words, message, capsys):
    if getattr(torch, words[1], None) and getattr(torch, words[1]).is_available():
        pytest.skip("it is there")
    refused(main, [command, "digits", *words], message, capsys)


def test_a_command_hands_on_what_it_is_told():
    options = Study(model="digits", device="cpu", dtype="bfloat16", compile=True)
    lines = []
    model = studied_model(options, say=lines.append)
    inner = model.denoiser.denoiser
    assert (inner.device, inner.dtype, inner.half) == (
        torch.device("cpu"),
        torch.float32,
        torch.bfloat16,
    )
    networks, _ = _held(inner.raw_function)
    assert len(networks) == 2
    assert all(network.unet._compiled_call_impl is not None for network in networks)
    assert model.denoiser.note == ""  # only "auto" has to say what it took


def test_what_auto_took_is_said_when_the_network_begins():
    lines = []
    model = studied_model(Study(model="digits"), say=lines.append)
    few = model.of_classes(read_selection("0 | 1", model.words))
    assert lines == []
    for _ in range(2):
        few.denoiser.raw(states(few.denoiser, 2), 1.0, torch.tensor([0, 1]))
    assert lines == ["the network computes on cpu, no accelerator is there"]


class Stranger:
    """A denoiser of a user's own making."""

    num_classes, event_shape, sigma_range = 2, (2,), (0.1, 10.0)
    provenance, has_unconditional = "a stranger", False

    def raw(self, x, sigma, label):
        return x

    def __call__(self, x, sigma, label):
        return x

    def coefficients(self, sigma):
        return torch.zeros(()), torch.ones(())


class Delegating:
    """What Python's delegation makes a wrapper: half of the noise's effect, all else as inside."""

    def __init__(self, denoiser):
        self._inner = denoiser

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def raw(self, x, sigma, label):
        return self._inner.raw(x, sigma, label) / 2

    def __call__(self, x, sigma, label):
        return self._inner(x, sigma, label)


class Halved(Delegating):
    """The same with a way to move."""

    def placed(self, placement):
        return Halved(self._inner.placed(placement))


def test_a_wrapper_that_delegates_is_not_lost_on_the_way():
    """`placed` of what is inside would give it back without the wrapper: another model."""
    x, label = torch.randn(5, 2, dtype=torch.float64), torch.zeros(5, dtype=torch.long)
    halved = Halved(own())
    expected = own().raw(x, 1.0, label) / 2
    with elsewhere():
        moved = place(halved, DEVICE)
        found = moved.raw(x.to(DEVICE), 1.0, label.to(DEVICE)).cpu()
    torch.testing.assert_close(found, expected)


def test_what_cannot_be_moved_is_refused_and_left_where_it_is(monkeypatch):
    table = torch.ones(2, 2)
    loose = mb.from_x0(lambda x, s, c: x + table[c], num_classes=2, event_shape=(2,))
    nothing = mb.from_x0(lambda x, s, c: x, num_classes=2, event_shape=(2,))
    mixed = own(lambda network: lambda x, t, c: network(x, t, c) + table[0])
    for model, message in (
        (loose, "no torch module was found"),
        (nothing, "no torch module was found"),
        (mixed, r"tensor of shape \(2, 2\) outside of a module"),
        (Stranger(), "Stranger does not say how it moves"),
        (CountingDenoiser(Stranger()), "Stranger does not say how it moves"),
        (Delegating(own()), "Delegating does not .* would come back without it"),
        (CountingDenoiser(Delegating(own())), "Delegating does not .* would come back without it"),
    ):
        assert place(model, "cpu") is model
        with elsewhere(), pytest.raises(ImmovableError, match=message):
            place(model, DEVICE)
        if model is not mixed:  # all of whose parts are on the host
            with pytest.raises(ImmovableError, match=message):
                place(model, "cpu", "float32")
        lines = []
        with monkeypatch.context() as patch:
            patch.setattr("model_bridges.denoisers.devices.find_device", lambda name: DEVICE)
            assert place(model, say=lines.append) is model
        assert len(lines) == 1
        assert "stays on cpu" in lines[0]


def test_wrappers_leave_what_they_wrap():
    counted = CountingDenoiser(own())
    with elsewhere():
        moved = place(counted, DEVICE)
        moved(states(moved), 1.0, torch.zeros(5, dtype=torch.long))
    assert (counted.evaluations, moved.evaluations) == (0, 5)
    assert torch.device(counted.device) == torch.device("cpu")
