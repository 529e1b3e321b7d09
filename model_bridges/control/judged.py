"""A model with data to compare its pictures with and a judge of them: what experiments on control need.

States are what the model works on, images what the judge sees; for latents the two differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.progress import SILENT, Progress
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.guidance import Guidance
from model_bridges.images.labelled import LabelledImages
from model_bridges.quality import Judge, Quality, Reference, assess
from model_bridges.samplers import Method, karras_sigmas, sample

NUM_STEPS = 32
_BATCH = 512  # of states drawn at once


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model with its judge.

    Args:
        name: For titles.
        denoiser: The model, counting its evaluations; it needs an unconditional part.
        class_names: Of its classes, which are the judge's.
        train: Images that the judge was trained on and drawn images are compared with.
        held_out: Other images of the same law.
        judge: The classifier.
        reference: Features of `train`.
        to_images: From states to images.
        states: From images to states, with the seed of an encoder's noise; the images by default.
    """

    name: str
    denoiser: CountingDenoiser
    class_names: tuple[str, ...]
    train: LabelledImages
    held_out: LabelledImages
    judge: Judge
    reference: Reference
    to_images: Callable[[Tensor], Tensor] = lambda states: states
    states: Callable[[LabelledImages, int], LabelledImages] = lambda images, seed: images

    def __post_init__(self) -> None:
        if not self.denoiser.has_unconditional:
            raise ValueError(
                f"{self.name} has no unconditional part to guide against; give a model with one."
            )
        if self.denoiser.num_classes != self.judge.num_classes:
            raise ValueError(
                f"{self.name} has {self.denoiser.num_classes} classes and the data "
                f"{self.judge.num_classes}; they must be the same ones."
            )

    def balanced_labels(self, num: int) -> Int[Tensor, " n"]:
        """The classes in turn."""
        return torch.arange(num) % self.denoiser.num_classes

    def draw(
        self,
        guidance: Callable[[Int[Tensor, " B"]], Guidance],
        num: int,
        *,
        sigmas: Float[Tensor, " T"] | None = None,
        method: Method = "ancestral",
        seed: int = 0,
        progress: Progress = SILENT,
    ) -> Float[Tensor, "N *event"]:
        """Images drawn under a guidance; image i has the same noise whatever the guidance.

        Args:
            guidance: Made for the labels of a batch, the classes in turn.
            num: How many.
            sigmas: The sampler's levels; 32 of Karras' by default.
            method: Of the sampler.
            seed: Of all noise.
            progress: Told of the states through a step.
        """
        levels = karras_sigmas(NUM_STEPS, *self.denoiser.sigma_range) if sigmas is None else sigmas
        labels, drawn = self.balanced_labels(num), []
        steps = len(levels) - 1
        for index, own in enumerate(labels.split(_BATCH)):
            before = index * _BATCH * steps

            def through(done: int, _: int, size: int = len(own), before: int = before) -> None:
                progress.part(before + size * done, num * steps)

            states = sample(
                self.denoiser,
                (len(own), *self.denoiser.event_shape),
                levels,
                guidance=guidance(own),
                generator=torch.Generator().manual_seed(seed + 7919 * index),
                method=method,
                progress=through,
            )
            drawn.append(self.to_images(states))
        return torch.cat(drawn)

    def assess(self, images: Float[Tensor, "N *event"], removed: int | None = None) -> Quality:
        """The judge's metrics of drawn images. Errors as `quality.assess`."""
        return assess(images, self.judge, self.reference, removed)


def digits_model(name: str, say: Callable[[str], object] = SILENT.say) -> JudgedModel:
    """The shipped `digits` or `digits-text`, judged on digits of 8 x 8."""
    from model_bridges.digits.data import load_digits
    from model_bridges.digits.subject import digits_images, digits_subject

    digits = load_digits()
    to_images: Callable[[Tensor], Tensor]
    if name == "digits":
        subject = digits_subject()
        to_images = torch.Tensor.contiguous
    else:
        from model_bridges.digits.text.data import to_digits
        from model_bridges.digits.text.subject import text_subject

        subject = text_subject()
        decode = subject.decode
        assert decode is not None  # states are latents

        def to_images(states: Tensor) -> Tensor:
            return to_digits(digits, decode(states))

    train, held_out = (digits_images(digits, part) for part in ("train", "held-out"))
    judge = Judge.train(train.images, train.labels)
    return JudgedModel(
        name,
        CountingDenoiser(subject.denoiser, say),
        tuple(map(str, range(10))),
        train,
        held_out,
        judge,
        Reference.of(judge, train.images, train.labels),
        to_images,
        subject.states,
    )


def own_model(model: str, folder: Path, say: Callable[[str], object] = SILENT.say) -> JudgedModel:
    """A model named as `module:function`, judged on MNIST or CIFAR-10 files of a folder.

    Raises:
        ValueError: If the files are malformed, or model and data do not fit each other.
    """
    from model_bridges.images import read_image_files
    from model_bridges.models import load

    parts, denoiser = read_image_files(folder), load(model)
    shape = tuple(parts.train.images.shape[1:])
    if tuple(denoiser.event_shape) != shape:
        raise ValueError(
            f"{model} draws states of shape {tuple(denoiser.event_shape)} and the images of {folder} "
            f"have {shape}; the states must be the images, values -1 to 1."
        )
    judge = Judge.train(parts.train.images, parts.train.labels)
    # Files may be sorted, and the first half of MNIST's test images is the cleaner one.
    order = torch.randperm(len(parts.test.labels), generator=torch.Generator().manual_seed(0))
    held_out = replace(parts.test, images=parts.test.images[order], labels=parts.test.labels[order])
    return JudgedModel(
        model,
        CountingDenoiser(denoiser, say),
        tuple(map(str, range(denoiser.num_classes))),
        parts.train,
        held_out,
        judge,
        Reference.of(judge, parts.train.images, parts.train.labels),
    )
