"""What the packages load, and what the tree promises, checked in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest

HEAVY = ("torch", "flax", "optax", "matplotlib", "sklearn", "diffusers")


def loaded_modules(statement: str) -> set[str]:
    """Top-level modules in `sys.modules` after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {line.split(".")[0] for line in done.stdout.splitlines()}


def test_importing_the_theory_loads_no_jax():
    assert not loaded_modules("import gmm_speciation") & {"jax", "typer", *HEAVY}


def test_using_the_theory_loads_nothing_heavier_than_jax():
    statement = (
        "import gmm_speciation as gs\n"
        "gs.class_entropy(gs.families.symmetric_pair(4), 0.0)\n"
        "gs.speciation_times(gs.families.symmetric_pair(4))\n"
        "from gmm_speciation.guidance import ExactPosterior, Feedback\n"
        "import jax.numpy as jnp\n"
        "kind = Feedback(0, 0.9, ExactPosterior(gs.families.symmetric_pair(4), 0))\n"
        "x = jnp.ones((2, 4))\n"
        "kind.step(kind.init(x), x, (0.6, 0.8), lambda label: 0 * x)"
    )
    modules = loaded_modules(statement)
    assert "jax" in modules
    assert not modules & set(HEAVY)


def test_importing_the_bridges_loads_no_torch():
    assert not loaded_modules("import model_bridges") & {"jax", *HEAVY}


def test_types_are_checked_while_tests_run():
    """Of a function that is called seldom: `conftest.often_enough` checks the first calls alone."""
    import gmm_speciation as gs
    from gmm_speciation.control import line_error

    with pytest.raises(jaxtyping.TypeCheckError, match="times"):
        line_error(gs.GaussianMixture.isotropic([[0.0]], 1.0), gs.VarianceExploding(), "half")


@pytest.mark.parametrize("folder", ["gmm_speciation", "model_bridges", "tests", "benchmarks"])
def test_no_file_is_longer_than_four_hundred_lines(folder):
    files = (Path(__file__).parent.parent / folder).rglob("*.py")
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert lengths
    assert [path for path, length in lengths.items() if length > 400] == []


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


# Names that others rely on, wherever their modules stand.
PUBLIC = {
    "gmm_speciation": """
        GaussianMixture.isotropic GaussianMixture.diagonal GaussianMixture.full GaussianMixture.low_rank
        GaussianMixture.perturb GaussianMixture.log_prob GaussianMixture.score GaussianMixture.posterior
        GaussianMixture.sample Partition Hierarchy class_posterior
        OrnsteinUhlenbeck VarianceExploding DDPM.linear DDPM.scaled_linear Cosine LinearInterpolant
        DiffusionProcess.alpha DiffusionProcess.sigma DiffusionProcess.log_snr
        DiffusionProcess.diffusion_squared DiffusionProcess.time
        class_entropy entropy_rate entropy_curve EntropyCurve.peak EntropyCurve.peaks EntropyCurve.window
        EntropyCurve.on speciation_times speciation.SpeciationPoint.on reduce families fit
        exact.binary_entropy exact.binary_mmse exact.clone_agreement exact.equidistant_entropy
        exact.equidistant_mmse hopfield.energy hopfield.retrieve hopfield.critical_betas
        load_result load_curve estimate_class_entropy EntropyCurve.plot
    """,
    "model_bridges": """
        load from_epsilon from_x0 from_velocity from_flow mixture_denoiser UNCONDITIONAL entropy_curve
        Trust.ok TrustWarning crosscheck guidance_interval GuidanceInterval.as_callback
        critical_times decision_tree Pairs.plot DecisionTree.plot
        edm2.EDM2Network edm2.read_checkpoint edm2.load checkpoints.UnsafeCheckpointError
    """,
}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_stay(package):
    import importlib
    from functools import reduce

    for name in PUBLIC[package].split():
        reduce(getattr, name.split("."), importlib.import_module(package))


@pytest.mark.parametrize("package", ["gmm_speciation", "model_bridges"])
def test_every_module_can_be_imported(package):
    import importlib
    import pkgutil

    root = importlib.import_module(package)
    names = [one.name for one in pkgutil.walk_packages(root.__path__, f"{package}.")]
    assert len(names) > 100
    for name in names:
        importlib.import_module(name)


PRODUCTS = {"einsum", "matmul", "dot", "vdot", "inner", "tensordot"}


def imprecise(source):
    """Lines with a product of JAX's that leaves its precision to the device."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(ast.Attribute(ast.Name("jnp"), name), _, options) if name in PRODUCTS:
                if not any(option.arg == "precision" for option in options):
                    yield node.lineno
            case ast.FunctionDef() if any("jit" in ast.unparse(d) for d in node.decorator_list):
                inside = (one for one in ast.walk(node) if isinstance(one, ast.BinOp))
                yield from (one.lineno for one in inside if isinstance(one.op, ast.MatMult))


def test_every_product_of_the_theory_is_at_full_precision():
    """An accelerator takes float32 in ten bits unless it is told otherwise: three digits of a posterior."""
    bad = "def f(x):\n    return jnp.einsum('i,i', x, x)\n@jax.jit\ndef g(x):\n    return x @ x"
    assert sorted(imprecise(bad)) == [2, 5]
    folder = Path(__file__).parent.parent / "gmm_speciation"
    files = [path for path in folder.rglob("*.py") if "learned" not in path.parts]  # networks
    found = {path: list(imprecise(path.read_text(encoding="utf-8"))) for path in files}
    assert len(found) > 100
    assert {str(path): lines for path, lines in found.items() if lines} == {}
