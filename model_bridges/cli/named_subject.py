"""A subject of the commands restricted to the classes that `--partition` names.

`--partition "golden retriever | tabby"` makes the model one of two classes. Pictures and stored states of
other classes are passed over; folders are found by name, WordNet id or label of the whole model. Above
`--max-classes` the groups are represented by a sample (`selections`), and only the groups are measured.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gmm_speciation.partitions import Partition
from model_bridges.classes.groups import Selection, read_selection, vocabulary_of
from model_bridges.cli.inputs import Subject
from model_bridges.denoisers.counted import Metered
from model_bridges.denoisers.subset import NamedClasses
from model_bridges.entropy.measure import Measurement
from model_bridges.entropy.windows import place
from model_bridges.images.labelled import LabelledImages
from model_bridges.runs.folder import Say

Rows = tuple[list[str], list[list[str]]]


def restrict_subject(
    chosen: Subject,
    texts: Sequence[str],
    max_classes: int,
    *,
    seed: int = 0,
    sample: int = 0,
    say: Say = lambda line: None,
) -> tuple[Subject, dict[str, Partition], Selection]:
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
        chosen, denoiser=Metered(restricted, say), class_names=restricted.class_names, partitions={}
    )
    return subject, partitions, selection


def named_images(
    chosen: Subject, data: str, *, limit: int | None = None, seed: int = 0
) -> LabelledImages:
    """Pictures or stored states of the classes named; labels are places among these.

    Raises:
        ValueError: If fewer than two are there, a folder names no class of the model, and as
            `folder_images`.
    """
    from model_bridges.images import folders as pictures

    restricted = chosen.denoiser.denoiser
    assert isinstance(restricted, NamedClasses)
    place = {k: index for index, k in enumerate(restricted.classes)}
    path = Path(data)
    if not path.is_dir():
        stored = pictures.folder_images(restricted.denoiser, data, chosen.class_names)
        keep = torch.tensor([int(k) in place for k in stored.labels], dtype=torch.bool)
        labels = [place[int(k)] for k in stored.labels[keep]][:limit]
        law = f"{len(labels)} states of the classes named in {stored.law}"
        found = LabelledImages(
            stored.images[keep][:limit], torch.tensor(labels, dtype=torch.long), law
        )
    else:
        files, labels = _files(path, restricted, place, limit)
        channels, size = pictures.picture_shape(restricted.denoiser)
        pixels = np.stack([pictures.read_picture(file, size, channels) for file in files])
        states = pictures.encode_pictures(restricted.denoiser, torch.from_numpy(pixels), seed)
        law = f"{len(files)} pictures of the classes named in {path.name}"
        found = LabelledImages(states, torch.tensor(labels), law)
    if len(found.images) < 2:
        raise ValueError(
            f"{data} must hold at least two pictures or states of the classes named, "
            f"{', '.join(chosen.class_names[:8])}; found {len(found.images)}."
        )
    return found


def sample_rows(results: Sequence[Measurement]) -> Rows:
    """Headers and rows: what tracking says with each sample of classes, and how far they differ.

    The last row of a variable holds standard deviations between the samples: of the entropy in nats,
    of positions in log sigma.
    """
    headers = ["variable", "classes", "H, lowest σ", "peak σ", "half at σ"]
    rows = []
    for name in results[0].variables:
        curves = [result.variables[name].curves["tracking"] for result in results]
        ends = [float(curve.entropy.value[0]) for curve in curves]
        for index, curve in enumerate(curves):
            marks = place(curve, "peak"), place(curve, "half")
            rows.append([name, f"sample {index + 1}", f"{curve.entropy[0]:.3f}", *marks])
        peaks = [-float(curve.peak().log_snr.value) / 2 for curve in curves]
        spread = [f"{np.std(values, ddof=1):.2g}" for values in (ends, peaks)]
        try:
            halves = [-float(c.crossing(c.prior_entropy / 2).value) / 2 for c in curves]
            spread.append(f"{np.std(halves, ddof=1):.2g}")
        except ValueError:  # one of them lies beyond the grid
            spread.append("—")
        rows.append([name, "spread", *spread])
    return headers, rows


def _files(
    root: Path, restricted: NamedClasses, place: dict[int, int], limit: int | None
) -> tuple[list[Path], list[int]]:
    """Pictures in the folders of the classes named, classes in turn."""
    from model_bridges.images.folders import SUFFIXES

    words = vocabulary_of(restricted.denoiser)
    columns = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        classes = words.find(folder.name).classes
        if len(classes) > 1:
            raise ValueError(
                f"the folder {folder.name!r} in {root} names {len(classes)} classes; a folder must hold "
                "one. Name it by the id or the label of its class."
            )
        if classes[0] in place:
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
            columns.append([(path, place[classes[0]]) for path in files])
    longest = max(map(len, columns), default=0)
    rows = [column[i] for i in range(longest) for column in columns if i < len(column)][:limit]
    if len(rows) < 2:
        raise ValueError(
            f"{root} must hold at least two pictures ({', '.join(SUFFIXES)}) in folders of the classes "
            f"named, {', '.join(restricted.class_names[:8])}; found {len(rows)}."
        )
    return [path for path, _ in rows], [label for _, label in rows]


def _title(text: str) -> str:
    return Path(text.strip()).stem if text.strip().endswith(".json") else text
