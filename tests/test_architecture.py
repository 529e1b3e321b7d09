"""What the packages load, and what the tree promises, checked in fresh interpreters."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "flax", "optax", "matplotlib", "sklearn", "diffusers")


def loaded_modules(statement: str) -> set[str]:
    """Top-level modules in `sys.modules` after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {line.split(".")[0] for line in done.stdout.splitlines()}


def test_importing_the_theory_loads_no_jax():
    assert not loaded_modules("import gmm_speciation") & {"jax", *HEAVY}


def test_using_the_theory_loads_nothing_heavier_than_jax():
    statement = (
        "import gmm_speciation as gs\n"
        "gs.class_entropy(gs.families.symmetric_pair(4), 0.0)\n"
        "gs.speciation_times(gs.families.symmetric_pair(4))"
    )
    modules = loaded_modules(statement)
    assert "jax" in modules
    assert not modules & set(HEAVY)


def test_importing_the_bridges_loads_no_torch():
    assert not loaded_modules("import model_bridges") & {"jax", *HEAVY}


@pytest.mark.parametrize("package", ["gmm_speciation", "model_bridges"])
def test_every_public_name_exists_and_is_documented(package):
    import importlib

    module = importlib.import_module(package)
    for name in module.__all__:
        thing = getattr(module, name)
        assert thing.__doc__, f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", ["gmm_speciation", "model_bridges"])
def test_unknown_names_are_attribute_errors(package):
    import importlib

    with pytest.raises(AttributeError):
        importlib.import_module(package).nonsense  # noqa: B018
