"""What the outputs of all classes say at one level, in O(K d) for each image.

Denoisers share a term: `D_k = s + a F_k` with the raw outputs `F_k` of K classes. With a class posterior p,

    Dbar = sum_k p_k D_k,    D_g = sum_{k in g} p(k|x,g) D_k,    spread = sum_g p_g |D_g - Dbar|^2

is what the decision between the groups g leaves, and along a chain with the kernel `N(c + b D_k, v I)` the
next state x' moves the log-likelihoods by

    l_k = (b r . a C_k - b^2 |a C_k|^2 / 2) / v,    r = x' - c - b Dbar,    C_k = F_k - sum_j p_j F_j

up to one number for all classes. Everything is relative to the mean of the first posterior: its spread is
`a^2 sum_k p_k |C_k|^2`, a sum of positive terms, and what all classes share loses no digits. Of another
posterior q the spread is `a^2 (sum_k q_k |C_k|^2 - |sum_k q_k C_k|^2)`.

Outputs stay in the network's type. They are widened to float64 block by block of images and entries, so
that a block is in the processor's cache when it is used again. Distances are sums over the entries of a
state, in its squared units.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.partitions import Partition
from gmm_speciation.tracking import reverse_kernel

# Numbers of a block: 1 MB on a processor, 256 MB on an accelerator.
_ON_HOST, _ELSEWHERE = 1 << 17, 1 << 25
PerState = Float[Tensor, " B"] | float
_FEWEST = 64  # entries of a state: shorter runs of memory cost more to fetch than to use


class Step(NamedTuple):
    """To the next state x' of a chain with the kernel `N(c + b D_k, v I)`."""

    residual: Float[Tensor, "B *event"]  # x' - c - b s
    gain: PerState  # b
    variance: PerState  # v


@dataclass(frozen=True, eq=False)
class Outputs:
    """Raw outputs of all classes for some states, and what they are compared with."""

    raw: Float[Tensor, "K B *event"]
    scale: PerState  # a
    residual: Float[Tensor, "B *event"] | None = None  # x_0 - s
    free: Float[Tensor, "B *event"] | None = None  # raw output of the unconditional model
    labels: Int[Tensor, " B"] | None = None


def step_between(
    x: Float[Tensor, "B *event"],
    after: Float[Tensor, "B *event"],
    skip: float,
    sigma: float,
    cleaner: float,
) -> Step:
    """The step of a reverse chain from x at sigma to the state after it, `s = skip x`."""
    shared, variance = reverse_kernel(x, skip * x, sigma, cleaner)
    return Step(after - shared, 1 - (cleaner / sigma) ** 2, variance)


def distances(
    outputs: Outputs,
    posteriors: Mapping[str, Float[Tensor, "B K"]],
    partitions: Mapping[str, Partition],
    steps: Sequence[Step] = (),
) -> dict[str, Tensor]:
    """All distances of the states of a batch, by name.

    Args:
        outputs: At the states.
        posteriors: Log-posteriors of the classes there, by name.
        partitions: Groupings of the classes whose spread is asked for besides that of the classes.
        steps: Of the chains that go on from these states.

    Returns:
        Of every posterior NAME "NAME bayes_gap", the spread of the classes; "NAME group KEY", that of
        a partition; "NAME bayes_error", `|x_0 - Dbar|^2`; "NAME excess", `|Dbar - D_u|^2`. Besides
        "label_error" `|x_0 - D_y|^2`, "unconditional_error" `|x_0 - D_u|^2`, "labelled_gap"
        `|D_y - D_u|^2`, all `(B,)` and as far as there are labels y, an unconditional model u and x_0.
        "step I", `(B, K)`, and "free step I", `(B,)`, are `l_k` and `l_u` of the step I.
    """
    weights = torch.stack([p.exp() for p in posteriors.values()], 1)
    groups = {key: _Groups.of(p, weights) for key, p in partitions.items() if not p.is_trivial}
    numbers = [_per_state(v, weights) for v in (outputs.scale, *(n for s in steps for n in s[1:]))]
    total: dict[str, Tensor] = {}
    for images, entries, rows in _widened(outputs.raw, weights):
        residual, free = (
            None if one is None else one.flatten(1)[images, entries].to(weights)
            for one in (outputs.residual, outputs.free)
        )
        after = [step.residual.flatten(1)[images, entries].to(weights) for step in steps]
        found = _Block(
            rows,
            weights[images],
            {key: one.images(images) for key, one in groups.items()},
            None if outputs.labels is None else outputs.labels[images],
            residual,
            free,
            after,
            [n[images] for n in numbers],
        ).distances()
        for name, value in found.items():
            whole = total.setdefault(name, value.new_zeros(len(weights), *value.shape[1:]))
            whole[images] += value
    total["bayes_gap"].clamp_(min=0)  # a difference, but for the first posterior
    for key in partitions.keys() - groups.keys():
        total[f"group {key}"] = total["bayes_gap"]
    named: dict[str, Tensor] = {}
    for name, value in total.items():
        if name.startswith(("bayes", "excess", "group")):
            named |= {f"{chain} {name}": value[:, i] for i, chain in enumerate(posteriors)}
        else:
            named[name] = value
    return named


def bayes_output(
    raw: Float[Tensor, "K B *event"], log_posterior: Float[Tensor, "B K"]
) -> Float[Tensor, "B *event"]:
    """`sum_k p_k F_k` in float64."""
    weights = log_posterior.exp()[:, None]
    mean = weights.new_empty(raw[0].flatten(1).shape)
    for images, entries, rows in _widened(raw, weights):
        mean[images, entries] = (weights[images] @ rows)[:, 0]
    return mean.reshape(raw.shape[1:])


class _Groups(NamedTuple):
    """A partition beside some posteriors."""

    owner: Int[Tensor, " K"]  # the group of each class
    share: Float[Tensor, "B M K"]  # p(k|x,g) of its own group
    weight: Float[Tensor, "B M G"]  # p_g

    @classmethod
    def of(cls, partition: Partition, weights: Float[Tensor, "B M K"]) -> "_Groups":
        owner = torch.tensor(partition.labels, device=weights.device)
        weight = weights.new_zeros(*weights.shape[:2], partition.num_classes)
        weight.index_add_(2, owner, weights)
        share = (weights / weight[:, :, owner]).nan_to_num(0.0)  # a group of weight 0 has none
        return cls(owner, share, weight)

    def images(self, images: slice) -> "_Groups":
        return _Groups(self.owner, self.share[images], self.weight[images])


class _Block(NamedTuple):
    """Some entries of some states; what they add to each quantity, `(B, M)` for each of M posteriors."""

    rows: Float[Tensor, "B K entries"]  # raw outputs, and overwritten
    weights: Float[Tensor, "B M K"]
    groups: Mapping[str, _Groups]
    labels: Int[Tensor, " B"] | None
    residual: Float[Tensor, "B entries"] | None  # x_0 - s
    free: Float[Tensor, "B entries"] | None  # unconditional output
    after: Sequence[Float[Tensor, "B entries"]]  # x' - c - b s of each step
    numbers: Sequence[Float[Tensor, " B"]]  # a, and b and v of each step

    def distances(self) -> dict[str, Tensor]:
        rows, weights, groups, labels, residual, alone, after, numbers = self
        a = numbers[0][:, None]
        mean = weights[:, :1] @ rows
        rows -= mean
        squares = (a * torch.linalg.vector_norm(rows, dim=2)) ** 2
        shift = a[..., None] * (weights @ rows)  # Dbar of each posterior minus that of the first
        found = {"bayes_gap": (weights @ squares[:, :, None])[..., 0] - _square(shift)}
        for key, (owner, share, weight) in groups.items():
            spread = []
            for i in range(weights.shape[1]):
                means = rows.new_zeros(len(rows), weight.shape[2], rows.shape[2])
                means.index_add_(1, owner, share[:, i, :, None] * rows)
                apart = _square(a[..., None] * means - shift[:, i, None])
                spread.append((weight[:, i] * apart).sum(1))
            found[f"group {key}"] = torch.stack(spread, 1)
        own = None
        if labels is not None:
            own = a * rows[torch.arange(len(rows), device=rows.device), labels]
        free = None if alone is None else a * (alone - mean[:, 0])
        if free is not None:
            found["excess"] = _square(free[:, None] - shift)
            if own is not None:
                found["labelled_gap"] = _square(own - free)
        if residual is not None:
            error = residual - a * mean[:, 0]
            found["bayes_error"] = _square(error[:, None] - shift)
            if free is not None:
                found["unconditional_error"] = _square(error - free)
            if own is not None:
                found["label_error"] = _square(error - own)
        for i, start in enumerate(after):
            gain, variance = numbers[1 + 2 * i : 3 + 2 * i]
            b, v = gain[:, None], variance[:, None]
            rest = b / v * (start - b * a * mean[:, 0])
            found[f"step {i}"] = a * (rows @ rest[:, :, None])[..., 0] - b**2 / (2 * v) * squares
            if free is not None:
                product = (free * rest).sum(1)
                found[f"free step {i}"] = product - gain**2 / (2 * variance) * _square(free)
        return found


def _per_state(value: PerState, like: Tensor) -> Float[Tensor, " B"]:
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(len(like))


def _widened(
    raw: Float[Tensor, "K B *event"], beside: Tensor
) -> Iterator[tuple[slice, slice, Float[Tensor, "b K entries"]]]:
    """Images, entries and outputs of every block, in the precision and on the device of another tensor."""
    flat = raw.flatten(2)
    num_classes, num_images, dim = flat.shape
    size = _ON_HOST if beside.device.type == "cpu" else _ELSEWHERE
    width = min(dim, max(_FEWEST, size // num_classes))
    height = max(1, size // (num_classes * width))
    for image in range(0, num_images, height):
        for entry in range(0, dim, width):
            cut = slice(image, image + height), slice(entry, entry + width)
            rows = flat[:, *cut].transpose(0, 1)
            yield *cut, rows.to(beside, copy=True, memory_format=torch.contiguous_format)


def _square(vectors: Float[Tensor, "*rows entries"]) -> Float[Tensor, "*rows"]:
    return vectors.square().sum(-1)
