"""The package's papers agree with it."""

import re
import tomllib
from pathlib import Path

import yaml

import gmm_speciation

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == PROJECT["version"] == gmm_speciation.__version__
    assert cited["license"] == PROJECT["license"]
    assert [one["name"] for one in cited["authors"]] == [one["name"] for one in PROJECT["authors"]]


def test_the_changelog_has_this_version_and_runs_backwards():
    text = (ROOT / "CHANGELOG.md").read_text()
    found = re.findall(r"^## \[(\d+)\.(\d+)\.(\d+)\] - (unreleased|\d{4}-\d\d-\d\d)$", text, re.M)
    assert len(found) == text.count("\n## ")
    versions = [tuple(map(int, one[:3])) for one in found]
    assert versions == sorted(versions, reverse=True)
    assert tuple(map(int, PROJECT["version"].split("."))) in versions
    assert all(date != "unreleased" for *_, date in found[1:])


def test_public_names_in_the_papers_exist():
    import model_bridges

    packages = {"gs": gmm_speciation, "mb": model_bridges}
    for paper in ("README.md", "CHANGELOG.md", "SECURITY.md"):
        text = (ROOT / paper).read_text()
        names = set(re.findall(r"(?<![\w/.])(gs|mb)\.([A-Za-z_][\w.]*\w)", text))
        assert names, paper
        for package, name in names:
            thing = packages[package]
            for part in name.split("."):
                assert hasattr(thing, part), f"{paper}: {package}.{name}"
                thing = getattr(thing, part)
