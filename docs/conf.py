"""The documentation site: Sphinx, MyST and furo; `make docs`. Warnings are errors.

Docstrings of the packages are plain text with `code` in single backticks and formulas in indented blocks,
which reStructuredText would read as emphasis, references and quotes; `_docstring` says what they are.
"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import gmm_speciation  # noqa: E402

project = "gmm-speciation"
author = copyright = "The gmm-speciation authors"
release = version = gmm_speciation.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["*.py", "results", "_build"]
html_theme = "furo"
html_title = "gmm-speciation"
html_theme_options = {"source_edit_link": "", "source_view_link": ""}
html_show_sourcelink = False
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
default_role = "literal"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
suppress_warnings = ["myst.xref_missing"] if os.environ.get("DOCS_DRAFT") else []
# Notebooks are jupytext scripts, copied here by `make docs`.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True


def _docstring(app, what, name, obj, options, lines):
    """Formulas become literal blocks, and nothing outside of backticks is markup."""
    shown, formula = [], False
    sections = False  # below "Args:" an indented line is an entry, no formula
    for line in "\n".join(lines).split("\n"):
        if re.match(r"[A-Z]\w*:$", line):
            sections = True
        indented = line.startswith("    ") and not sections
        if indented and not formula:
            shown += ["::", ""]
        formula = indented or (formula and not line)
        shown.append(line if formula else _escaped(line))
    lines[:] = shown


def _escaped(line):
    parts = re.split(r"(`[^`]+`)", line)
    # Args: `name: text` must stay as napoleon reads it, so only marks inside words are masked.
    return "".join(
        part if part.startswith("`") else re.sub(r"([*|_])", r"\\\1", part) for part in parts
    )


def setup(app):
    app.connect("autodoc-process-docstring", _docstring, priority=100)  # before napoleon
