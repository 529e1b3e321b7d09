"""What a row depends on besides its cell: the code that made it, the versions, the limits.

The code of a cell are the modules of its estimator and of its task and all that these import, in turn, from
this package or from the user's own files; of the standard library and of installed packages the versions
stand for it. A row counts as long as none of this has changed: after an edit or an upgrade its cell runs
again. Of a user's task the distribution itself belongs to the key, for it may come from a file of data.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gmm_speciation.benchmark.cells import estimator_of, task_of
from gmm_speciation.benchmark.isolation import Limits
from gmm_speciation.benchmark.truth import digest

_PACKAGES = ("gmm-speciation", "jax", "numpy", "scipy", "scikit-learn", "flax", "optax")
_OWN = __name__.partition(".")[0]
_INSTALLED = tuple(
    Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Keys:
    """Keys of rows under some limits, by task and estimator; sources are read once, when first asked for."""

    def __init__(self, limits: Limits):
        self._common = json.dumps([versions(), list(limits)])
        self._sources: dict[str, tuple[str, frozenset[str]] | None] = {}
        self._code = cache(self._code_of)
        self._of_task = cache(self._task)
        self._of_estimator = cache(self._estimator)

    def of(self, task: str, estimator: str) -> str:
        """The key of the rows of an estimator on a task.

        Raises:
            ValueError: If one of them is unknown.
        """
        parts = self._common, self._of_task(task), self._of_estimator(estimator)
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24]

    @property
    def sources(self) -> dict[str, str]:
        """Hashes of the modules that were followed so far, by name."""
        return {module: found[0] for module, found in self._sources.items() if found is not None}

    def _task(self, id: str) -> str:
        if ":" in id:
            return digest(task_of(id)) + self._code(id.partition(":")[0])
        return self._code("gmm_speciation.benchmark.catalogue")

    def _estimator(self, id: str) -> str:
        modules = [one.__module__ for one in estimator_of(id).__mro__]
        modules += [id.partition(":")[0]] if ":" in id else []
        return "".join(map(self._code, modules))

    def _code_of(self, module: str) -> str:
        """Hash of the sources of a module and of all that it imports, where they are followed."""
        todo, seen, hashes = [module], {module}, set[str]()
        while todo:
            source = self._source(todo.pop())
            if source is not None:
                hashes.add(source[0])
                todo += source[1] - seen
                seen |= source[1]
        return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()

    def _source(self, module: str) -> tuple[str, frozenset[str]] | None:
        """Hash and imports of a module of this package or of the user's own; None for others."""
        if module not in self._sources:
            path = _file(module)
            self._sources[module] = None
            if path is not None:
                text = path.read_bytes()
                self._sources[module] = (
                    hashlib.sha256(text).hexdigest(),
                    frozenset(_imports(text, module, path.name == "__init__.py")),
                )
        return self._sources[module]


def _file(module: str) -> Path | None:
    """Where the source of a module is, if it is this package's or the user's."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # no module, but a name in one
        return None
    if spec is None or not spec.has_location or not (spec.origin or "").endswith(".py"):
        return None
    path = Path(spec.origin or "")
    own = module.partition(".")[0] == _OWN or not any(map(path.is_relative_to, _INSTALLED))
    return path if own else None


def _imports(source: bytes, module: str, is_package: bool) -> Iterator[str]:
    """Names of modules, or of things in them, that a source imports, wherever in it."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield base
            yield from (f"{base}.{name.name}" for name in node.names)
