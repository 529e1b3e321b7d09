"""The command of Hopfield networks."""

import sys

import numpy as np
import pytest
from refusals import refused

from gmm_speciation import cli, hopfield
from gmm_speciation.reporting.stored import load_result


def test_the_command_writes_the_table(tmp_path, capsys):
    x = hopfield.random_patterns(3, 6, seed=1)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "out"
    words = ["hopfield", "--patterns", str(tmp_path / "x.npy"), "--track", "2"]
    words += ["--num-samples", "64"]
    assert cli.main([*words, "--out", str(out)]) == 0
    result = load_result(out)
    assert result["predicted"]["stability"] == 3
    direct = [hopfield.Network(x).pattern(index).betas.appearance for index in (0, 1)]
    np.testing.assert_allclose(
        result["measured"]["appearance"], [value for value in direct if value is not None]
    )
    assert {"bifurcations.png", "transitions.png"} <= {path.name for path in out.iterdir()}
    shown = capsys.readouterr().out
    for name in ("appearance", "equal energy", "stability", "half entropy", "collapse"):
        assert name in shown
    assert cli.main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--num-patterns", "1"], "at least 2"),
        (["--kind", "equidistnt"], "Did you mean 'equidistant'?"),
        (["--num-patterns", "5", "--dim", "3"], "dimension of at least 5"),
        (["--kind", "digits", "--dim", "3"], "64 dimensions"),
        (["--kind", "random", "--dim", "0"], "`dim` must be a whole number of at least 1"),
        (["--patterns", "absent.npy"], "no file 'absent.npy'"),
        (["--patterns", "absent.npy", "--dim", "3"], "not both"),
        (["--patterns", __file__], "holds no patterns"),
        (["--track", "0"], "--track"),
        (["--num-samples", "1"], "--num-samples"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, words, says):
    refused(cli.main, ["hopfield", *words], says, capsys)


def test_a_missing_scikit_learn_is_named(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert cli.main(["hopfield", "--kind", "digits"]) == 2
    assert 'pip install "gmm-speciation[bridge]"' in capsys.readouterr().err
