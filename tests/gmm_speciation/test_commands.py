"""How commands begin, print and end: the current folder, extras, control characters, Ctrl-C."""

import importlib
import json
import signal
import subprocess
import sys
import time
from subprocess import PIPE

import jax.numpy as jnp
import numpy as np
import pytest

from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.stored import load_result
from gmm_speciation.reporting.tables import plain


@pytest.mark.parametrize("package", ["gmm_speciation", "model_bridges"])
def test_modules_in_the_current_folder_are_found(package, tmp_path, monkeypatch, capsys):
    (tmp_path / "found_here.py").write_text("def thing():\n    return 3\n")
    (tmp_path / "json.py").write_text(
        "raise RuntimeError('a file here takes the place of a library')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))]
    )
    main = importlib.import_module(f"{package}.cli").main
    words = {
        "gmm_speciation": ["benchmark", "--estimator", "found_here:thing", "--out", "out"],
        "model_bridges": ["entropy", "found_here:thing", "--generate", "20"],
    }[package]
    assert main(words) == 2
    says = capsys.readouterr().err
    assert "must be a subclass" in says or "must return a denoiser" in says
    assert importlib.reload(json).__file__ != str(tmp_path / "json.py")
    sys.modules.pop("found_here", None)


@pytest.mark.parametrize("package", ["gmm_speciation", "model_bridges"])
@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_of_the_commands_is_one_line(package, missing, capsys, monkeypatch):
    for name in list(sys.modules):
        if name.startswith((f"{package}.cli", "gmm_speciation.reporting")) or name == missing:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    main = importlib.import_module(f"{package}.cli").main
    assert main(["--help"]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err == (
        f'error: the commands need {missing}; install it with: pip install "gmm-speciation[cli]"\n'
    )


def test_importing_ends_nobodys_interpreter():
    """Every module of the theory without the extras: an ImportError at most."""
    code = """
import importlib, pkgutil, sys
for name in ("typer", "rich", "click", "markdown_it", "matplotlib", "sklearn", "flax", "optax"):
    sys.modules[name] = None
import gmm_speciation
left = []
for found in pkgutil.walk_packages(gmm_speciation.__path__, "gmm_speciation.", onerror=lambda name: None):
    if found.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(found.name)
    except ImportError:
        left.append(found.name)
assert "gmm_speciation.benchmark.sweep" not in left, left
assert "gmm_speciation.cli" not in left, left
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


ESCAPES = "runs[/old]/sd \x1b[31mred\x1b]0;title\x07 \x9b2J \u202eelif \udce9.png"


def test_what_names_quote_steers_no_terminal_and_is_no_markup(tmp_path, capsys):
    shown = plain(ESCAPES)
    assert "\x1b" not in shown
    assert shown == (r"runs[/old]/sd \x1b[31mred\x1b]0;title\x07 \x9b2J \u202eelif \udce9.png")
    assert plain("É, 日本, a\tb\nc") == "É, 日本, a\tb\nc"
    terminal.show(terminal.table([ESCAPES, "b"], [[ESCAPES, "1"]], title=f"sd:{ESCAPES}"))
    terminal.show(ESCAPES)
    assert terminal._fail(ESCAPES) == 2
    with terminal.progress() as bar:
        bar.step(ESCAPES)
        bar.say(ESCAPES)
    streams = capsys.readouterr()
    for text in streams:
        assert "[/old]" in text
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\udce9"} & set(text)
    out = (
        Report(ESCAPES)
        .text(ESCAPES)
        .table([ESCAPES], [[ESCAPES]])
        .write(tmp_path / "out", {"name": ESCAPES})
    )
    assert load_result(out)["name"] == ESCAPES.replace("\udce9", r"\udce9")
    terminal.print_json({"name": ESCAPES})
    printed = capsys.readouterr().out
    assert json.loads(printed)["name"] == ESCAPES.replace("\udce9", r"\udce9")
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\udce9"} & set(printed)
    assert "\x1b" not in (out / "report.md").read_text() + (out / "report.html").read_text()


def program(work: str) -> list[str]:
    """The command line of a program whose command is the function `work` of this source."""
    return [sys.executable, "-c", PROGRAM.format(work)]


PROGRAM = """
import os, signal, sys, time, warnings, weakref
import numpy as np
from gmm_speciation.reporting import terminal

# A program started in the background of a shell would ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
app = terminal.application("x", "0", "x")
{}
app.command()(work)

@app.command()
def other(): ...

sys.argv = ["x", "work"]
sys.exit(terminal.run(app))
"""


def test_a_ctrl_c_that_is_swallowed_in_a_callback_comes_once_more():
    """The interpreter prints and forgets what a callback of a weak reference raises; a warning is a line."""
    command = program("""
class Thing: ...

def pressed(reference):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)

def work():
    warnings.warn("mind \\x1b this")
    thing = Thing()
    kept = weakref.ref(thing, pressed)
    del thing
    time.sleep(600)  # the run ends before
    print("went on")
""")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = "warning: mind \\x1b this\nerror: interrupted\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)


def _lack_of_memory():
    """XLA's own error."""
    with pytest.raises(RuntimeError) as raised:
        jnp.zeros(1 << 50).block_until_ready()
    return raised.value


def test_a_ctrl_c_during_the_import_of_jax_waits_for_its_end():
    command = program("""
imported = []

class Pressed:
    def find_spec(self, name, path=None, target=None):
        if name == "jaxlib._jax":
            imported.append(name)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Pressed())

def work():
    try:
        terminal.use_float64()
    finally:
        print(imported, "jax" in sys.modules, flush=True)
    print("went on")
""")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (
        130,
        "['jaxlib._jax'] True\n",
        "error: interrupted\n",
    )


@pytest.mark.parametrize("error", [OverflowError("too big"), MemoryError(), _lack_of_memory()])
def test_numbers_beyond_the_machine_are_one_line(error, capsys):
    app = terminal.application("x", "0", "x")

    @app.command()
    def work():
        raise error

    @app.command()
    def other(): ...

    assert terminal.run(app, ["work"]) == 2
    says = capsys.readouterr().err
    assert says.startswith("error: ")
    assert says.count("\n") == 1


BUSY = program("""
def work():
    import gmm_speciation as gs
    for dim in range(2, 10**6):
        means = np.random.default_rng(dim).normal(size=(3, dim))
        law = gs.GaussianMixture.full(means, np.eye(dim) * np.arange(1, 4)[:, None, None])
        gs.entropy_curve(law, np.linspace(4, -4, 9), num_samples=64)
        if dim == 2:
            print("ready", flush=True)  # JAX is loaded
""")


@pytest.mark.slow
def test_no_ctrl_c_is_lost_while_jax_compiles_and_runs():
    """At thirty moments of work whose every step compiles, runs and drops programs."""
    ends = []
    for moment in np.random.default_rng(7).uniform(0.0, 4.0, 30):
        with subprocess.Popen(BUSY, stdout=PIPE, stderr=PIPE, text=True) as busy:
            assert busy.stdout.readline() == "ready\n"
            time.sleep(moment)
            busy.send_signal(signal.SIGINT)
            try:
                _, said = busy.communicate(timeout=30)
            finally:
                busy.kill()
        ends.append((busy.returncode, said))
    assert ends == [(130, "error: interrupted\n")] * 30


@pytest.mark.parametrize("columns", [20, 60, 79, 80, 81, 120])
def test_no_number_and_no_word_of_a_table_is_cut(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    headers = ["variable", "side", "H(C)", "H at σ_min", "peak σ", "80 % window σ", "half H at σ"]
    numbers = ["0.672", "0.005±0.005", "0.952±0.030", "0.464–2.67", "0.995±0.019"]
    terminal.show(terminal.table(headers, [["closed loop", "theory", *numbers]], "digits"))
    printed = capsys.readouterr().out.split()
    assert {"variable", "closed", "loop", "theory", *numbers} <= set(printed)
