"""Distances and steps of all classes against their definitions in extended precision, class by class."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import model_bridges.tracking.distances as module
from gmm_speciation import Partition
from model_bridges.tracking.distances import Outputs, Step, bayes_output, distances

WIDE = np.longdouble


def case(num_classes, images, event, seed, *, common=0.0, sharp=1.0, dtype=torch.float64):
    """Outputs with a part that all share, and two posteriors, one of which gives a class no weight."""
    rng = np.random.default_rng(seed)
    shape = (images, *event)
    raw = common * rng.normal(size=shape) + rng.normal(size=(num_classes, *shape))
    log_p = sharp * rng.normal(size=(2, images, num_classes))
    log_p[1, :, -1] = -np.inf
    chains = torch.log_softmax(torch.from_numpy(log_p), 2)
    residual, free, after = (torch.from_numpy(rng.normal(size=shape)) for _ in range(3))
    labels = torch.from_numpy(rng.integers(num_classes, size=images))
    outputs = Outputs(torch.from_numpy(raw).to(dtype), 0.7, residual, free.to(dtype), labels)
    return outputs, {"fine": chains[0], "coarse": chains[1]}, Step(after, 0.3, 0.2)


def by_definition(outputs, chains, groups, step):
    """The same, from the denoisers of each image in extended precision; `{}` where nothing is asked."""
    found = {}

    def add(name, value):
        found.setdefault(name, []).append(value)

    for image in range(outputs.raw.shape[1]):
        a, b, v = (WIDE(n) for n in (outputs.scale, step.gain, step.variance))
        d = a * outputs.raw[:, image].double().numpy().astype(WIDE).reshape(len(outputs.raw), -1)
        x0 = outputs.residual[image].numpy().astype(WIDE).ravel()
        free = a * outputs.free[image].double().numpy().astype(WIDE).ravel()
        own = d[outputs.labels[image]]
        for name, chain in chains.items():
            p = np.exp(chain[image].numpy().astype(WIDE))
            mean = p @ d
            add(f"{name} bayes_gap", p @ ((d - mean) ** 2).sum(1))
            add(f"{name} bayes_error", ((x0 - mean) ** 2).sum())
            add(f"{name} excess", ((mean - free) ** 2).sum())
            total = WIDE(0)
            for group in np.unique(groups):
                weight = p[groups == group].sum()
                if weight > 0:
                    centre = p[groups == group] @ d[groups == group] / weight
                    total += weight * ((centre - mean) ** 2).sum()
            add(f"{name} group g", total)
        add("label_error", ((x0 - own) ** 2).sum())
        add("unconditional_error", ((x0 - free) ** 2).sum())
        add("labelled_gap", ((own - free) ** 2).sum())
        rest = step.residual[image].numpy().astype(WIDE).ravel()
        likelihoods = -((rest - b * d) ** 2).sum(1) / (2 * v)
        add("step 0", likelihoods)
        add("free step 0", -((rest - b * free) ** 2).sum() / (2 * v))
    return {name: np.stack(values) for name, values in found.items()}


def agree(found, truth, tolerance, posterior, contrast=1.0):
    """Equal to rounding; likelihoods up to one number for all classes and the unconditional model."""
    assert found.keys() >= truth.keys()
    for name, exact in truth.items():
        value = found[name].numpy()
        if "step" in name:
            centre = (np.exp(posterior) * truth["step 0"]).sum(1)
            ours = (np.exp(posterior) * found["step 0"].numpy()).sum(1)
            if exact.ndim == 2:
                centre, ours = centre[:, None], ours[:, None]
            exact, value = exact - centre, value - ours
        exact = exact.astype(float)
        scale = max(np.abs(exact).max(), contrast)  # a gap may vanish, and differences of it not
        np.testing.assert_allclose(value, exact, rtol=tolerance, atol=tolerance * scale)


GROUPS = {3: [0, 0, 1], 7: [2, 0, 1, 1, 0, 2, 1], 40: list(range(20)) * 2}


@pytest.mark.parametrize("block", [64, 1 << 12, 1 << 17])
@pytest.mark.parametrize("num_classes", GROUPS)
@pytest.mark.parametrize("event", [(5,), (2, 9, 11)])
def test_distances_are_their_definitions(num_classes, event, block, monkeypatch):
    """In one block and in many, of which the last is shorter."""
    monkeypatch.setattr(module, "_ON_HOST", block)
    outputs, chains, step = case(num_classes, 5, event, seed=num_classes)
    groups = np.array(GROUPS[num_classes])
    partitions = {"g": Partition(groups), "single": Partition.trivial(num_classes)}
    before = outputs.raw.clone()
    found = distances(outputs, chains, partitions, [step])
    torch.testing.assert_close(outputs.raw, before, rtol=0, atol=0)  # they are not overwritten
    truth = by_definition(outputs, chains, groups, step)
    agree(found, truth, 1e-11, chains["fine"].numpy())
    for name in chains:
        torch.testing.assert_close(found[f"{name} group single"], found[f"{name} bayes_gap"])


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    common=st.sampled_from([0.0, 1e2, 1e5]),
    sharp=st.sampled_from([0.1, 3.0, 300.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
def test_what_all_classes_share_takes_no_digits(seed, common, sharp, dtype):
    """A common part of 1e5 contrasts, posteriors down to e^-1000, outputs of any type."""
    outputs, chains, step = case(7, 2, (3, 50), seed, common=common, sharp=sharp, dtype=dtype)
    found = distances(outputs, chains, {"g": Partition(GROUPS[7])}, [step])
    truth = by_definition(outputs, chains, np.array(GROUPS[7]), step)
    # A mean of outputs rounds at 2e-16 of the common part, and is squared beside contrasts of 1.
    agree(found, truth, 1e-11 * max(1.0, common / 100), chains["fine"].numpy())


def test_a_certain_posterior_leaves_the_gap_its_digits():
    """With a posterior of 1 - 1e-12 the gap is 1e-12 |D_a - D_b|^2, not what differences leave of 0."""
    outputs, _, _ = case(2, 3, (4, 40), 0)
    log_p = torch.log(torch.tensor([[1 - 1e-12, 1e-12]] * 3, dtype=torch.float64))
    gap = distances(outputs, {"one": log_p}, {})["one bayes_gap"]
    apart = (0.7 * (outputs.raw[0] - outputs.raw[1])).square().flatten(1).sum(1)
    np.testing.assert_allclose(gap, 1e-12 * apart, rtol=1e-4)


def test_scale_and_kernel_may_differ_from_state_to_state():
    outputs, chains, step = case(7, 4, (30,), 1)
    values = {
        "scale": [0.5, 1.0, 2.0, 3.0],
        "gain": [0.1, 0.2, 0.3, 0.4],
        "variance": [1.0, 2.0, 3.0, 4.0],
    }
    many = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}
    whole = distances(
        Outputs(outputs.raw, many["scale"]),
        chains,
        {},
        [Step(step.residual, many["gain"], many["variance"])],
    )
    for i in range(4):
        own = slice(i, i + 1)
        one = distances(
            Outputs(outputs.raw[:, own], values["scale"][i]),
            {name: chain[own] for name, chain in chains.items()},
            {},
            [Step(step.residual[own], values["gain"][i], values["variance"][i])],
        )
        assert one.keys() == whole.keys()
        for name, value in one.items():
            torch.testing.assert_close(value[0], whole[name][i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", [64, 1 << 17])
def test_the_output_of_the_mixture_is_its_definition(block, monkeypatch):
    monkeypatch.setattr(module, "_ON_HOST", block)
    outputs, chains, _ = case(7, 5, (2, 9, 11), 2, dtype=torch.float32)
    truth = np.einsum("bk,kb...->b...", chains["fine"].exp().numpy(), outputs.raw.double().numpy())
    np.testing.assert_allclose(bayes_output(outputs.raw, chains["fine"]), truth, atol=1e-13)


def test_memory_is_that_of_the_outputs():
    """A thousand classes: nothing of K x K numbers, and nothing of the outputs' size in float64."""
    num_classes, dim = 1000, 4096
    outputs, chains, step = case(num_classes, 1, (dim,), 3, dtype=torch.float32)
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for one in result if isinstance(result, tuple | list) else [result]:
                if isinstance(one, torch.Tensor) and one.data_ptr() not in given:
                    largest = max(largest, one.numel() * one.element_size())
            return result

    groups = {"g": Partition(np.arange(num_classes) // 4)}
    given = range(outputs.raw.data_ptr(), outputs.raw.data_ptr() + outputs.raw.nbytes)
    with Largest():
        distances(Outputs(outputs.raw, outputs.scale), chains, groups, [step])
    assert largest < 4 * num_classes * dim
