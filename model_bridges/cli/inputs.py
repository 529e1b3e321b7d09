"""What a command measures: a model by name, images by name of their law, and semantic variables.

Models of the digits bring their data, groupings and theory along; every other model takes pictures from a
folder, states from a file, or its own samples.

`--partition "golden retriever | tabby"` makes a model one of two classes. Above `--max-classes` the groups
are represented by a sample (`classes.groups`), and only the groups are measured.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.partitions import Partition
from gmm_speciation.progress import SILENT, Progress
from model_bridges.classes.groups import ClassGroups, read_selection, vocabulary_of
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.subset import ClassSubset
from model_bridges.entropy.own_samples import SamplingJob
from model_bridges.images.labelled import LabelledImages
from model_bridges.models import load
from model_bridges.runs.folder import run_job

DIGITS = ("digits", "digits-text")
Theory = Callable[[Partition, np.ndarray], EntropyCurve]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with the names of its classes and the groupings that it knows by name."""

    name: str
    denoiser: CountingDenoiser
    class_names: tuple[str, ...]
    class_name: str  # what to call a class
    partitions: dict[str, Partition]
    digits: Any = None  # the model's own data, where it is one of the digits


def subject(
    model: str, prompts: Sequence[str] | None = None, say: Callable[[str], object] = SILENT.say
) -> Subject:
    """The model of this name.

    Raises:
        ValueError: As `load`.
    """
    if model in DIGITS and not prompts:
        from model_bridges.digits.data import PARTITIONS
        from model_bridges.digits.subject import digits_subject

        if model == "digits":
            own = digits_subject()
        else:
            from model_bridges.digits.text.subject import text_subject

            own = text_subject()
        names = tuple(map(str, range(10)))
        return Subject(
            model, CountingDenoiser(own.denoiser, say), names, "digit", dict(PARTITIONS), own
        )
    denoiser: Denoiser = load(model, prompts=prompts) if prompts else load(model)
    numbers = tuple(map(str, range(denoiser.num_classes)))
    names = tuple(getattr(denoiser, "class_names", None) or numbers)
    return Subject(
        model, CountingDenoiser(denoiser, say), names, "prompt" if prompts else "class", {}
    )


def gather(
    chosen: Subject,
    data: str | None,
    generate: int | None,
    *,
    limit: int | None = None,
    seed: int = 0,
    run: Path | None = None,
    progress: Progress = SILENT,
) -> LabelledImages:
    """The images to average over, with the name of their law.

    Args:
        chosen: The model.
        data: For the digits "held-out" (by default), "train" or an `.npz`; else a folder with one
            subfolder a class, or an `.npz` with `states` and `labels`.
        generate: Number of the model's own samples, in place of data.
        limit: Most images to take.
        seed: Of samples and of encoders.
        run: Folder of the run; samples are kept there.
        progress: As in `run_job`.

    Raises:
        ValueError: If both or, for a model without data, neither is given; as the readers.
    """
    if data is not None and generate is not None:
        raise ValueError(
            "Give `--data` or `--generate`, not both: an average has one distribution."
        )
    if generate is not None:
        job = SamplingJob(chosen.denoiser, generate, seed=seed)
        folder = None if run is None else run / "samples"
        return job.images(run_job(job, folder, progress=progress))
    if data is not None and isinstance(chosen.denoiser.denoiser, ClassSubset):
        from model_bridges.images.folders import named_images

        return named_images(chosen.denoiser.denoiser, data, limit=limit, seed=seed)
    if data is not None and Path(data).is_dir():
        from model_bridges.images.folders import folder_images

        if chosen.digits is not None:
            from model_bridges.digits.subject import digit_pictures

            return digit_pictures(chosen.digits, Path(data), limit, seed)
        return folder_images(
            chosen.denoiser.denoiser, data, chosen.class_names, limit=limit, seed=seed
        )
    if chosen.digits is not None:
        from model_bridges.digits.data import load_digits
        from model_bridges.digits.subject import digits_images

        found = digits_images(load_digits(), data or "held-out")
        return _first(chosen.digits.states(found, seed), limit)
    if data is None:
        raise ValueError(
            f"{chosen.name!r} comes without data: give `--data DIR` (one subfolder of pictures a class, "
            "or an .npz with states and labels) or `--generate N`."
        )
    from model_bridges.images.folders import folder_images

    return folder_images(chosen.denoiser.denoiser, data, chosen.class_names, limit=limit, seed=seed)


def _first(images: LabelledImages, limit: int | None) -> LabelledImages:
    if limit is None or limit >= len(images.images):
        return images
    if limit < 2:
        raise ValueError(f"An error bar needs at least two images; got `--images {limit}`.")
    law = f"the first {limit} of {len(images.images)} {images.law}"
    return LabelledImages(images.images[:limit], images.labels[:limit], law)


def chosen_partitions(chosen: Subject, texts: Sequence[str]) -> dict[str, Partition]:
    """The single classes, and the groupings asked for; those that the model knows by default.

    Each text is a name that the model knows, a JSON file `{"group": ["class", ...], ...}`, or groups
    written out, `a, b | c, d`, with classes by name or number. Every class must be in one group.

    Raises:
        ValueError: If a text is none of these, or its groups do not cover the classes once.
    """
    result = {chosen.class_name: Partition.trivial(len(chosen.class_names))}
    result[chosen.class_name] = Partition(
        np.arange(len(chosen.class_names)), names=chosen.class_names
    )
    if not texts:
        return result | chosen.partitions
    for text in texts:
        if text in chosen.partitions:
            result[text] = chosen.partitions[text]
        elif text.endswith(".json"):
            result[Path(text).stem] = _grouped(chosen, _read_groups(Path(text)), text)
        elif "|" in text:
            groups = [[word.strip() for word in group.split(",")] for group in text.split("|")]
            named = {
                " + ".join(group) if len(group) < 4 else f"{group[0]} ...": group
                for group in groups
            }
            result[text] = _grouped(chosen, named, text)
        elif text != chosen.class_name:
            known = ", ".join(map(repr, chosen.partitions)) or "none"
            raise ValueError(
                f"`--partition` takes a name this model knows ({known}), a .json file of groups, or "
                f"groups such as '{chosen.class_names[0]} | {chosen.class_names[-1]}'; got {text!r}."
            )
    return result


def _read_groups(path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a file of groups: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise ValueError(f'{path} must hold groups, {{"name": ["class", ...], ...}}.')
    return {str(name): [str(word) for word in words] for name, words in content.items()}


def _grouped(chosen: Subject, groups: dict[str, list[str]], text: str) -> Partition:
    known = {name.lower(): index for index, name in enumerate(chosen.class_names)}
    labels = np.full(len(chosen.class_names), -1)
    for group, words in enumerate(groups.values()):
        for word in words:
            index = known.get(word.lower())
            if index is None and word.isdigit() and int(word) < len(labels):
                index = int(word)
            if index is None or labels[index] >= 0:
                problem = "is no class of the model" if index is None else "is in two groups"
                raise ValueError(f"in `--partition {text}`, {word!r} {problem}.")
            labels[index] = group
    if np.any(labels < 0):
        left = [chosen.class_names[i] for i in np.flatnonzero(labels < 0)[:5]]
        raise ValueError(
            f"`--partition {text}` must put every class in a group; left out: {', '.join(left)}."
        )
    return Partition(labels, names=tuple(groups))


def digits_theory(chosen: Subject, seed: int) -> Theory:
    """The closed-form curve of a mixture fitted to the training images."""
    import jax

    from gmm_speciation.entropy import entropy_curve
    from model_bridges.crosscheck.theory import fitted_mixture
    from model_bridges.digits.data import load_digits
    from model_bridges.digits.subject import digits_images

    train = chosen.digits.states(digits_images(load_digits(), "train"), seed + 1)
    mixture, _ = fitted_mixture(train)

    def theory(partition: Partition, log_snr: np.ndarray) -> EntropyCurve:
        return entropy_curve(
            mixture, log_snr, partition=partition, num_samples=2048, key=jax.random.key(seed)
        )

    return theory


def restrict_subject(
    chosen: Subject,
    texts: Sequence[str],
    max_classes: int,
    *,
    seed: int = 0,
    sample: int = 0,
    say: Callable[[str], object] = SILENT.say,
) -> tuple[Subject, dict[str, Partition], ClassGroups]:
    """The subject of the classes named in `texts`, their groupings, and what was selected.

    Args:
        chosen: The whole model.
        texts: Groups written out or in JSON files; all must name the same classes.
        max_classes: Above it, groups are sampled.
        seed, sample: They fix the sample.
        say: Called with one line when groups were sampled.

    Raises:
        ValueError: If a text is no partition, they name different classes, or several of them would
            have to be sampled.
    """
    words = vocabulary_of(chosen.denoiser.denoiser)
    named = {_title(text): read_selection(text, words) for text in texts}
    first, *others = named.values()
    if any(sorted(one.classes) != sorted(first.classes) for one in others):
        raise ValueError(
            "each `--partition` must name the same classes, for there is one semantic variable a run; "
            f"got {', '.join(str(one) for one in named.values())}. Run once for each."
        )
    selection = first.sample(max_classes, seed, sample)
    if selection.is_sample:
        if others:
            raise ValueError(
                f"{len(first.classes)} classes are more than `--max-classes {max_classes}`; groups can "
                "be sampled for one `--partition` at a time."
            )
        say(f"classes sampled: {selection}; the result depends on the sample")
    restricted = selection.restrict(chosen.denoiser.denoiser)
    partitions = {}
    if not (selection.is_sample or selection.partition.is_trivial):
        single = Partition(np.arange(restricted.num_classes), names=restricted.class_names)
        partitions[chosen.class_name] = single
    for title, one in named.items():
        owner = {k: index for index, group in enumerate(one.named) for k in group}
        partitions[title] = Partition([owner[k] for k in selection.classes], one.names)
    subject = replace(
        chosen,
        denoiser=CountingDenoiser(restricted, say),
        class_names=restricted.class_names,
        partitions={},
    )
    return subject, partitions, selection


def _title(text: str) -> str:
    return Path(text.strip()).stem if text.strip().endswith(".json") else text
