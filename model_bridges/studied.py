"""A model under study: a denoiser with everything that an experiment asks of it besides denoising.

    states      what the model works on, in the units of sigma
    images      what a judge of its pictures sees: the states themselves, or what an autoencoder shows
    pictures    what a report shows

    pixels --pixels--> images --encode--> states --decode--> pictures --from_pictures--> images

The part `train` of its data is what a mixture, a classifier and a judge are fitted to; averages run over
`held_out`. Both are read, and the judge is trained, when they are first asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Num, UInt8
from torch import Tensor

from gmm_speciation.partitions import Partition
from gmm_speciation.progress import SILENT, Progress
from model_bridges.classes.groups import ClassGroups
from model_bridges.classes.names import ClassNames
from model_bridges.denoisers.arrays import as_labels
from model_bridges.denoisers.base import UNCONDITIONAL_NETWORK, Denoiser
from model_bridges.denoisers.base import Reference as Unconditional
from model_bridges.denoisers.checks import check_denoiser, class_weights, in_turn
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.guidance import Guidance
from model_bridges.images.labelled import LabelledImages
from model_bridges.images.reading import read_parts
from model_bridges.images.sets import ImageSet, Parts
from model_bridges.quality import FeatureClassifier, Floor, Quality, Reference, assess, floor
from model_bridges.samplers import Method, karras_sigmas, sample

NUM_STEPS = 32
ENCODER = 1  # random stream of a seed
_BATCH = 512  # of states drawn at once
Images = Float[Tensor, "n *event"]


def scaled_pixels(pixels: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Bytes as values from -1 to 1."""
    return pixels.float() / 127.5 - 1


@dataclass(frozen=True, eq=False)
class StudiedModel:
    """A model with what is known about it; `models.study` makes one by name, `study_denoiser` of a denoiser.

    Args:
        name: For titles.
        denoiser: The model, counting its evaluations.
        class_names: Of its classes.
        class_name: What to call a class.
        partitions: Groupings of the classes that it knows by name, coarsest first.
        units: Those of sigma, in words.
        sigma_data: Standard deviation of the states; measured on `train` if None.
        unconditional: What its unconditional part is.
        covariance: Of the theory's mixture; chosen by likelihood if None.
        data: What it is studied on.
        picture_shape: `(channels, size)` of pictures that become its images.
        pixels: Bytes to images.
        stored_images: The array `images` of an `.npz` to images, where that has a meaning.
        encode: Images to states, with a generator for what an encoder draws; None: they are the same.
        decode: States to pictures; None: they are the same.
        from_pictures: Pictures to images.
        show: Images to pictures.
        train_judge: Trains the classifier that judges its images.
        folder: Keeps images that were drawn, for a study that is killed and continued.
    """

    name: str
    denoiser: CountingDenoiser
    class_names: tuple[str, ...]
    class_name: str = "class"
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    units: str = "the model's units"
    sigma_data: float | None = None
    unconditional: Unconditional = UNCONDITIONAL_NETWORK
    covariance: str | None = None
    data: Parts | None = None
    picture_shape: Callable[[], tuple[int, int]] | None = None
    pixels: Callable[[Tensor], Images] = scaled_pixels
    stored_images: Callable[[Num[np.ndarray, "..."]], Images] | None = None
    encode: Callable[[Images, torch.Generator], Tensor] | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    from_pictures: Callable[[Tensor], Images] = torch.Tensor.contiguous
    show: Callable[[Images], Tensor] | None = None
    train_judge: Callable[[LabelledImages], FeatureClassifier] = lambda train: (
        FeatureClassifier.train(train.images, train.labels)
    )
    folder: Path | None = None

    def __repr__(self) -> str:
        shape = tuple(self.denoiser.event_shape)
        return f"StudiedModel({self.name!r}, {len(self.class_names)} classes, {shape}, {self.data})"

    # Data

    @property
    def words(self) -> ClassNames:
        """What its classes are called."""
        own = getattr(self.denoiser.denoiser, "vocabulary", None)
        return own if isinstance(own, ClassNames) else ClassNames.of_classes(self.class_names)

    @property
    def averaged(self) -> ImageSet:
        """What averages run over.

        Raises:
            ValueError: If there are no data.
        """
        if self.data is None or self.data.held_out is None:
            raise ValueError(
                f"{self.name!r} comes without data: give `--data PATH` (one subfolder of pictures a class, "
                "MNIST or CIFAR-10 binary files, or an .npz with states and labels) or `--generate N`."
            )
        return self.data.held_out

    @property
    def fitted(self) -> ImageSet:
        """What is fitted: a mixture, a classifier, a judge.

        Raises:
            ValueError: If there is nothing.
        """
        if self.data is None or self.data.train is None:
            raise ValueError(
                f"nothing was set aside of {self.averaged.law} to fit: give `--train-data PATH`."
            )
        return self.data.train

    def with_data(
        self,
        data: str | Path | None = None,
        train_data: str | Path | None = None,
        *,
        split: bool = False,
    ) -> "StudiedModel":
        """The model on other data.

        Args:
            data: A path as `read_parts` takes it, or "held-out" or "train" of the model's own. Its own
                held-out part by default.
            train_data: What is fitted instead of the training part there is: that of the model, else that
                of the data.
            split: Whether data of one piece are halved, where nothing else is there to fit.

        Raises:
            ValueError: As `read_parts`.
        """
        own = self.data or Parts(None)
        if own.held_out is not None and (data is None or str(data) in ("held-out", "train")):
            found = Parts(own.train if str(data) == "train" else own.held_out, own.train)
        else:
            found = Parts(None) if data is None else self._read(data)
            found = Parts(found.held_out, found.train if own.train is None else own.train)
        if train_data is not None:
            given = self._read(train_data)
            train = given.held_out if given.train is None else given.train
            # Files in two parts are both: what is fitted, and what is averaged over.
            other = None if given.train is None else given.held_out
            found = Parts(found.held_out or other, train)
        if split and found.train is None and found.held_out is not None:
            found = found.held_out.halves()
        return replace(self, data=found)

    def _read(self, path: str | Path) -> Parts:
        shape = self.picture_shape or partial(_picture_shape, self.denoiser.denoiser)
        return read_parts(path, self.words, shape, self.stored_images)

    def of_classes(self, groups: ClassGroups, whole: bool = False) -> "StudiedModel":
        """The model as one of the classes that the groups name; `whole` as of `ClassSubset`."""
        restricted = groups.restrict(self.denoiser.denoiser, whole)
        names = tuple(self.class_names[k] for k in groups.classes)
        data = None if self.data is None else self.data.of_classes(groups.classes, names)
        counted = CountingDenoiser(restricted, self.denoiser.say, self.denoiser.note)
        return replace(self, denoiser=counted, class_names=names, partitions={}, data=data)

    def first(self, limit: int | None) -> "StudiedModel":
        """The model on at most `limit` of the images that are averaged over."""
        train = None if self.data is None else self.data.train
        return replace(self, data=Parts(self.averaged.first(limit), train))

    def states(self, part: ImageSet, seed: int = 0) -> LabelledImages:
        """A part of the data in the model's states, with pictures where they are something else.

        Raises:
            ValueError: If they do not fit the model.
        """
        of_them = f"the labels of {part.law}"
        labels = as_labels(part.labels, len(part), self.denoiser.num_classes, of_them)
        pictures = None
        if part.kind == "states":
            states = part.read()
            if self.decode is not None:
                pictures = self.decode(states).cpu()
        elif self.encode is None:
            states = self._images(part)
        else:
            images = self._images(part)
            pictures = images if self.show is None else self.show(images)
            # Not the seed itself: noise drawn later from it would be the encoder's once more.
            word = np.random.SeedSequence([seed, ENCODER]).generate_state(1, np.uint64)[0]
            states = self.encode(images, torch.Generator().manual_seed(int(word >> 1))).cpu()
        return LabelledImages(states, labels, part.law, pictures)

    def images(self, part: ImageSet) -> LabelledImages:
        """A part of the data as the judge sees it. Errors as `states`."""
        labels = torch.from_numpy(part.labels.astype(np.int64))
        return LabelledImages(self._images(part), labels, part.law)

    def _images(self, part: ImageSet) -> Images:
        values = part.read()
        if part.kind == "states":
            return self.to_images(values)
        images = self.pixels(values) if part.kind == "pixels" else values
        shape, own = tuple(images.shape[1:]), tuple(self.denoiser.event_shape)
        if self.encode is None and shape != own:
            raise ValueError(
                f"{self.name} draws states of shape {own} and the images of {part.law} have {shape}; the "
                "states must be the images, values -1 to 1."
            )
        return images

    def to_images(self, states: Tensor) -> Images:
        """Images of states, for the judge."""
        shown = states if self.decode is None else self.decode(states)
        return self.from_pictures(shown.cpu())

    # The judge

    @cached_property
    def train(self) -> LabelledImages:
        """Images that the judge is trained on and drawn images are compared with."""
        return self.images(self.fitted)

    @cached_property
    def held_out(self) -> LabelledImages:
        """Other images of the same distribution."""
        return self.images(self.averaged)

    @cached_property
    def judge(self) -> FeatureClassifier:
        """The classifier of its images.

        Raises:
            ValueError: If the data are of other classes than the model's.
        """
        judge = self.train_judge(self.train)
        if self.denoiser.num_classes != judge.num_classes:
            raise ValueError(
                f"{self.name} has {self.denoiser.num_classes} classes and the data {judge.num_classes}; "
                "they must be the same ones."
            )
        return judge

    @cached_property
    def reference(self) -> Reference:
        """Features of `train`."""
        return Reference.of(self.judge, self.train.images, self.train.labels)

    def check_guided(self) -> None:
        """Refuse a model that cannot be guided.

        Raises:
            ValueError: If it has no unconditional part.
        """
        if not self.denoiser.has_unconditional:
            raise ValueError(
                f"{self.name} has no unconditional part to guide against; give a model with one."
            )

    def assess(self, images: Float[Tensor, "N *event"], removed: int | None = None) -> Quality:
        """The judge's metrics of drawn images. Errors as `quality.assess`."""
        return assess(images, self.judge, self.reference, removed, balance_to=self._balance_to)

    @property
    def _balance_to(self) -> Float[np.ndarray, " C"]:
        return class_weights(None, self.denoiser)

    def floor(self, num_images: int, removed: int | None = None) -> Floor:
        """What as many true images score, or half of `train`. Errors as `quality.floor`."""
        kept = int((self.train.labels != (-1 if removed is None else removed)).sum())
        return floor(
            self.judge,
            self.reference,
            self.held_out.images,
            self.held_out.labels,
            removed=removed,
            num_images=min(num_images, kept // 2),
            balance_to=self._balance_to,
        )

    # Samples

    def balanced_labels(self, num: int) -> Int[Tensor, " n"]:
        """The classes in turn, each as often as the model's `class_prior` says; equally without one."""
        return in_turn(class_weights(None, self.denoiser), num)

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


def study_denoiser(
    denoiser: Denoiser, name: str, say: Callable[[str], object] = SILENT.say, **known: Any
) -> StudiedModel:
    """Any denoiser as a model to study; it comes without data.

    Args:
        denoiser: The model. A method `encode` makes its states of pictures, `decode` shows them.
        name: For titles.
        say: Called with one line when a batch had to be split.
        **known: Fields of `StudiedModel` that are known better.
    """
    check_denoiser(denoiser)
    numbers = tuple(map(str, range(denoiser.num_classes)))
    own: dict[str, Any] = {"class_names": tuple(getattr(denoiser, "class_names", None) or numbers)}
    if hasattr(denoiser, "encode"):
        own |= _way(denoiser)
    return StudiedModel(name, CountingDenoiser(denoiser, say), **(own | known))


def _way(denoiser: Any) -> dict[str, Any]:
    """From pictures to the states of a model with an autoencoder, and back."""
    if not hasattr(denoiser, "latent_scaling"):  # diffusers: values from -1 to 1
        return {"encode": denoiser.encode, "decode": denoiser.decode}
    if denoiser.latent_scaling is None:  # `latents` says that these see pixels, and what to do
        return {"pixels": lambda pixels: denoiser.latents}
    return {  # EDM2: values from 0 to 1
        "encode": lambda images, rng: denoiser.encode(((images + 1) / 2).clamp(0, 1), rng),
        "decode": lambda states: denoiser.decode(states) * 2 - 1,
    }


def _picture_shape(denoiser: Any) -> tuple[int, int]:
    """`(channels, size)` of the pictures that become states.

    Raises:
        ValueError: If none do.
    """
    shape = tuple(denoiser.event_shape)
    encodes = hasattr(denoiser, "encode")
    plain = encodes or (len(shape) == 3 and shape[0] in (1, 3))
    if not plain or shape[-1] != shape[-2]:  # pictures are cut square
        raise ValueError(
            f"pictures cannot become states of shape {shape}; give an .npz with `states`, or a "
            "model with `encode` and square states."
        )
    if not encodes:
        return shape[0], shape[1]
    holder = denoiser.latents if hasattr(denoiser, "latents") else denoiser
    settings = holder.autoencoder.config
    # Every block of the encoder but the last halves the picture.
    return settings.in_channels, shape[-1] * 2 ** (len(settings.block_out_channels) - 1)
