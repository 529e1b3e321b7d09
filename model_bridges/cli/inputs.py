"""What a command studies: the model with its data, and the semantic variables that were asked for.

`--partition "golden retriever | tabby"` makes a model one of two classes; groups that hold all classes are a
coarser variable of the whole model. Above `--max-classes` groups are represented by a sample of their
classes (`classes.groups`), and only the groups are measured.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from gmm_speciation.partitions import Partition
from gmm_speciation.progress import SILENT, Progress
from model_bridges.classes.groups import ClassGroups, read_selection
from model_bridges.cli.options import Study
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.weighted import Weighted
from model_bridges.entropy.own_samples import on_own_samples
from model_bridges.models import study
from model_bridges.runs.folder import process_place, take_own_device
from model_bridges.studied import StudiedModel

Say = Callable[[str], object]


def own_rank(options: Study) -> int:
    """Rank of this process in a launch of several; the first reports for all.

    Raises:
        ValueError: If there are several and no folder to share.
    """
    rank, world = process_place()
    take_own_device()
    if world > 1 and options.folder is None:
        raise ValueError(
            "Several processes share a run through its folder; give `--folder DIR`, one that all can reach."
        )
    return rank


def studied_model(options: Study, *, split: bool = False, say: Say = SILENT.say) -> StudiedModel:
    """The model of a command, and its data as far as they are files.

    Args:
        options: Of the command.
        split: Whether it needs something to fit.
        say: Called with one line when a batch had to be split.

    Raises:
        ValueError: As `study`; if both data and samples are asked for, or neither is there; if
            `--class-prior` is neither C weights nor `data`.
    """
    if options.data is not None and options.generate is not None:
        raise ValueError(
            "Give `--data` or `--generate`, not both: an average has one distribution."
        )
    asked = {name: getattr(options, name) for name in ("config", "variant", "revision", "fetch")}
    model = study(
        options.model,
        data=options.data,
        train_data=options.train_data,
        split=split and options.generate is None,
        prompts=options.prompt,
        device=options.device,
        dtype=options.dtype,
        compile=options.compile,
        say=say,
        **{name: value for name, value in asked.items() if value},
    )
    if options.class_prior is not None:
        counted, weights = model.denoiser, _weights(options, model)
        inner = Weighted(counted.denoiser, tuple(float(w) for w in weights))
        model = replace(model, denoiser=CountingDenoiser(inner, counted.say, counted.note))
    if options.generate is None:
        _ = model.averaged  # there are data, or it is said before anything long begins
    return model


def _weights(options: Study, model: StudiedModel) -> Float[np.ndarray, " C"]:
    """What `--class-prior` says: numbers, or the shares of the data's labels."""
    text = str(options.class_prior)
    if text == "data":
        if options.generate is not None and (model.data is None or model.data.held_out is None):
            raise ValueError(
                "`--class-prior data` takes the shares of labelled data, and the model draws by its own "
                "weights: give numbers with `--generate`, or `--data PATH`."
            )
        labels = model.averaged.labels
        return np.bincount(labels, minlength=len(model.class_names)) / len(labels)
    try:
        return np.array([float(word) for word in text.split(",")])
    except ValueError:
        raise ValueError(
            f"`--class-prior` takes one weight a class, such as 0.2,0.3,0.5, or `data`; got {text!r}."
        ) from None


def with_samples(
    model: StudiedModel,
    options: Study,
    progress: Progress,
    *,
    split: bool = False,
) -> StudiedModel:
    """The model on samples of its own, where these are asked for. Errors as `on_own_samples`."""
    if options.generate is None:
        return model
    progress.step("samples of the model")
    return on_own_samples(
        model,
        options.generate,
        split=split,
        seed=options.seed,
        folder=None if options.folder is None else options.folder / "samples",
        progress=progress,
    )


def chosen(
    model: StudiedModel,
    texts: Sequence[str] | None,
    max_classes: int = 32,
    *,
    seed: int = 0,
    sample: int = 0,
    whole: bool = False,
    say: Say = SILENT.say,
) -> tuple[StudiedModel, dict[str, Partition], bool]:
    """The model of the classes that are named, its groupings, and whether classes were sampled.

    Args:
        model: The whole model.
        texts: Names that it knows, groups written out, or JSON files; all must name the same classes. The
            groupings that it knows, if there are none.
        max_classes: Above it, groups are sampled.
        seed, sample: They fix the sample.
        whole: Whether the model of named classes keeps the unconditional part of the whole one.
        say: Called with one line when classes were left out.

    Raises:
        ValueError: If a text is no partition, they name different classes, or several of them would
            have to be sampled.
    """
    single = Partition(np.arange(len(model.class_names)), names=model.class_names)
    named = {_title(text): _groups(model, text) for text in texts or () if text != model.class_name}
    if not named:
        known = {} if texts else dict(model.partitions)
        return model, {model.class_name: single} | known, False
    first, *others = named.values()
    if any(sorted(one.classes) != sorted(first.classes) for one in others):
        raise ValueError(
            "each `--partition` must name the same classes, for there is one semantic variable a run; "
            f"got {', '.join(str(one) for one in named.values())}. Run once for each."
        )
    groups = first.sample(max_classes, seed, sample)
    if groups.is_sample and others:
        raise ValueError(
            f"{len(first.classes)} classes are more than `--max-classes {max_classes}`; groups can "
            "be sampled for one `--partition` at a time."
        )
    if groups.is_sample:
        say(f"classes sampled: {groups}; the result depends on the sample")
    classes: Sequence[int] = range(len(model.class_names))
    if len(groups.classes) < len(model.class_names):
        if not groups.is_sample:
            say(f"the model of {len(groups.classes)} of {len(model.class_names)} classes: {groups}")
        model, classes = model.of_classes(groups, whole), groups.classes
        single = Partition(np.arange(len(classes)), names=model.class_names)
    partitions = {}
    if not (groups.is_sample or (len(named) == 1 and first.partition.is_trivial)):
        partitions[model.class_name] = single
    for title, one in named.items():
        owner = {k: index for index, group in enumerate(one.named) for k in group}
        partitions[title] = Partition([owner[k] for k in classes], one.names)
    return model, partitions, groups.is_sample


def _groups(model: StudiedModel, text: str) -> ClassGroups:
    if text in model.partitions:
        return ClassGroups.of_partition(model.partitions[text])
    if model.partitions and "|" not in text and not text.strip().endswith(".json"):
        near = difflib.get_close_matches(text.strip(), model.partitions, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"`--partition` takes a name this model knows ({', '.join(map(repr, model.partitions))}), a "
            f".json file of groups, or groups such as '{model.class_names[0]} | {model.class_names[-1]}'; "
            f"got {text!r}.{hint}"
        )
    return read_selection(text, model.words)


def _title(text: str) -> str:
    return Path(text.strip()).stem if text.strip().endswith(".json") else text
