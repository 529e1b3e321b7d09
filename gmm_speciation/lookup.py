"""One of several by name; a name that is not there is an error that says which are."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def pick(name: str, table: Mapping[str, T], what: str) -> T:
    """The entry called `name`.

    Raises:
        ValueError: If there is none; names the nearest one and all that exist.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"Unknown {what} {name!r}.{hint} Choose from: {', '.join(table)}.")
