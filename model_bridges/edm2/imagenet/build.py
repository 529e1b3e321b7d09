"""Makes `classes.json`: ImageNet's 1000 classes and the WordNet tree above them.

    apt-get install wordnet-base
    pip download --no-deps timm && unzip timm-*.whl 'timm/data/_info/imagenet_synsets.txt'
    python -m model_bridges.edm2.imagenet.build timm/data/_info/imagenet_synsets.txt

An id such as n02099601 is an offset into WordNet 3.0's file of nouns; the line there holds the names and
the pointers to what is above it (`@`, and `@i` for instances). Labels 0..999 follow the order of the ids.
"""

import json
import sys
from pathlib import Path

from gmm_speciation.files import write_text

WORDNET = Path("/usr/share/wordnet/data.noun")
NUM_CLASSES = 1000


def read_nouns(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Names of every noun synset, and the ids above it."""
    nouns = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence at the top
            continue
        fields = line.partition(" | ")[0].split(" ")
        num_names = int(fields[3], 16)
        names = [fields[4 + 2 * i].replace("_", " ") for i in range(num_names)]
        rest = fields[4 + 2 * num_names :]
        pointers = [rest[1 + 4 * i : 5 + 4 * i] for i in range(int(rest[0]))]
        nouns[f"n{fields[0]}"] = names, [f"n{p[1]}" for p in pointers if p[0] in ("@", "@i")]
    return nouns


def build(ids_file: Path, wordnet: Path = WORDNET) -> dict[str, dict]:
    """The classes in order, and everything above them.

    Raises:
        ValueError: If the ids are not 1000 in order, or one is not in WordNet.
    """
    ids = ids_file.read_text().split()
    if len(ids) != NUM_CLASSES or ids != sorted(set(ids)):
        raise ValueError(f"{ids_file} must hold {NUM_CLASSES} ids in order; got {len(ids)}.")
    nouns = read_nouns(wordnet)
    missing = [identifier for identifier in ids if identifier not in nouns]
    if missing:
        raise ValueError(f"{missing[0]} is not an offset of {wordnet}: it must be WordNet 3.0.")
    above: dict[str, list] = {}
    open_ids = list(ids)
    while open_ids:
        for parent in nouns[open_ids.pop()][1]:
            if parent not in above:
                above[parent] = list(nouns[parent])
                open_ids.append(parent)
    return {
        "classes": {identifier: list(nouns[identifier]) for identifier in ids},
        "above": dict(sorted(above.items())),
    }


def main(ids_file: str) -> None:
    """Write the file beside this script, an entry a line."""
    parts = []
    for name, entries in build(Path(ids_file)).items():
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items()]
        parts.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}")
    target = Path(__file__).parent / "classes.json"
    write_text(target, "{\n" + ",\n".join(parts) + "\n}\n")
    print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
