"""Data, networks, pictures and modules of a user's own: taken for what they are, or refused in one line."""

import os
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from model_bridges.classes.names import ClassNames
from model_bridges.denoisers.base import UNCONDITIONAL
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.denoisers.parametrisation import from_epsilon, from_flow, from_x0
from model_bridges.denoisers.subset import ClassSubset
from model_bridges.entropy.curve import entropy_curve
from model_bridges.entropy.measure import measure
from model_bridges.entropy.own_samples import SamplingJob
from model_bridges.entropy.problem import problem
from model_bridges.images import read_idx
from model_bridges.images.folders import labelled_files, read_picture
from model_bridges.models import load
from model_bridges.studied import study_denoiser
from model_bridges.tracking.forward import track

ANIMALS = ClassNames.of_classes(["cat", "dog", "bird"])

SHAPE = (1, 2, 2)
MEANS = torch.linspace(-1, 1, 3)


def raw(x, sigma, label):
    """Three point-like classes; the mean of the class, or of all."""
    if label is UNCONDITIONAL:
        return torch.zeros_like(x)
    return MEANS[label].to(x)[:, None, None, None].expand_as(x)


def denoiser(function=raw, **options):
    settings = {"num_classes": 3, "event_shape": SHAPE, "sigma_range": (0.01, 10.0)} | options
    return NetworkDenoiser(
        function, lambda s: (torch.zeros_like(s), torch.ones_like(s)), **settings
    )


def data(num=8):
    labels = np.arange(num) % 3
    images = MEANS.numpy()[labels][:, None, None, None] + np.zeros((num, *SHAPE), np.float32)
    return images, labels


def one_line(call, says):
    with pytest.raises(ValueError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# Where data, labels and noise levels enter.
ENTRANCES = {
    "problem": lambda x, labels: problem(denoiser(), x, labels),
    "track": lambda x, labels: track(denoiser(), x, labels, sigmas=[0.1, 1.0]),
    "entropy_curve": lambda x, labels: entropy_curve(denoiser(), x, labels),
}


def test_numpy_and_torch_are_the_same():
    x, labels = data()
    levels = np.array([0.1, 0.5, 2.0], np.float32)
    curves = [
        entropy_curve(denoiser(), *both, sigmas=sigmas, prior=prior)
        for both in ((x, labels), (torch.from_numpy(x), torch.from_numpy(labels)))
        for sigmas in (levels, torch.from_numpy(levels))
        for prior in ([0.5, 0.25, 0.25], torch.tensor([0.5, 0.25, 0.25]))
    ]
    for curve in curves[1:]:
        np.testing.assert_array_equal(curve.entropy.value, curves[0].entropy.value)
    # Reversed, big-endian, read-only and unsigned: the same numbers.
    odd = x[::-1].astype(">f4")[::-1]
    odd.flags.writeable = False
    again = problem(denoiser(), odd, labels.astype(np.uint8))
    np.testing.assert_array_equal(again.x0.numpy(), x)
    assert again.labels.dtype == torch.int64
    one = denoiser()
    states, classes = torch.from_numpy(x), torch.from_numpy(labels)
    expected = one(states, 0.5, classes)
    for level in (0.5, np.float64(0.5), np.full(8, 0.5), torch.full((8,), 0.5), torch.tensor(0.5)):
        torch.testing.assert_close(one(x, level, labels), expected)
    torch.testing.assert_close(
        ClassSubset(one, (2, 0), (0.5, 0.5))(x, 0.5, np.zeros(8, int)), one(x, 0.5, 2 + 0 * labels)
    )


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: (x * 255).astype(np.uint8), r"uint8.*`x / 127\.5 - 1`"),
        (lambda x: torch.from_numpy(x * 255).to(torch.uint8), r"uint8.*`x / 127\.5 - 1`"),
        (lambda x: x.astype(np.int64), "floating-point numbers in the model's units; got int64"),
        (lambda x: x > 0, "got bool"),
        (lambda x: x + 0j, "real numbers; got ndarray of dtype complex"),
        (lambda x: torch.from_numpy(x) + 0j, "real numbers; got torch.complex"),
        (lambda x: np.ma.masked_less(x, 0), "masked"),
        (lambda x: x.astype(object), "real numbers; got ndarray of dtype object"),
        (lambda x: x.astype(str), "real numbers"),
        (lambda x: torch.from_numpy(x).to_sparse(), "dense"),
        (lambda x: x * np.nan, "finite"),
        (lambda x: x[:, :, :1], "must have shape"),
    ],
)
def test_images_that_are_no_numbers_in_the_models_units_are_refused(entrance, change, says):
    x, labels = data()
    one_line(lambda: ENTRANCES[entrance](change(x), labels), says)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda y: y.astype(float), r"integers of shape \(8,\).* got float64"),
        (lambda y: torch.from_numpy(y).float(), "integers.* got float32"),
        (lambda y: y > 0, "got bool"),
        (lambda y: np.ma.masked_equal(y, 2), "masked"),
        (lambda y: y.astype(str), "real numbers"),
        (lambda y: y + 1, r"in 0\.\.2; got 1 to 3"),
        (lambda y: y - 1, r"in 0\.\.2; got -1 to 1"),
        (lambda y: y.astype(np.uint64) + np.uint64(2**63), r"in 0\.\.2"),
    ],
)
def test_labels_that_are_no_classes_of_the_model_are_refused(entrance, change, says):
    x, labels = data()
    one_line(lambda: ENTRANCES[entrance](x, change(labels)), says)


@pytest.mark.parametrize(
    "levels",
    [[0.1 + 1j, 1.0], ["0.1", "1.0"], np.ma.masked_array([0.1, 1.0], [0, 1]), [[0.1], [1.0, 2.0]]],
)
def test_levels_that_are_no_real_numbers_are_refused(levels):
    x, labels = data()
    one_line(lambda: track(denoiser(), x, labels, sigmas=levels), "`sigmas` must")
    one_line(lambda: problem(denoiser(), x, labels, sigmas=levels), "`sigmas` must")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (lambda x: x[:, :, :1], r"shape of its states, \(4, 1, 2, 2\); it gave float32 of shape"),
        (lambda x: x[:1], "it gave float32 of shape"),
        (lambda x: (x, None), "it gave tuple of Tensor, NoneType. Take the tensor out of it"),
        (lambda x: None, "it gave NoneType"),
        (lambda x: x.numpy(), "it gave numpy.ndarray"),
        (lambda x: x.long(), "a tensor of torch.int64"),
        (lambda x: torch.cat([x, x], 1), r"learned variance.*\[:, :1\]"),
    ],
)
def test_a_network_that_gives_something_else_is_told_what_it_gave(output, says):
    x, labels = (torch.from_numpy(part) for part in data(4))
    own = denoiser(lambda x, sigma, label: output(x))
    for call in (own, own.raw):
        one_line(lambda call=call: call(x, 1.0, labels), says)


ABAR = np.linspace(0.99, 0.01, 100)


def test_a_network_without_a_null_class_gets_the_remedy():
    table = torch.randn(4, 4)

    def network(x, time, label):
        return table[label].reshape(x.shape)

    x, labels = (torch.from_numpy(part) for part in data(4))
    for own in (
        from_epsilon(
            lambda x, t, c: torch.nn.functional.embedding(c, table).reshape(x.shape),
            ABAR,
            num_classes=3,
            event_shape=SHAPE,
        ),
        from_flow(
            lambda x, t, c: table[c.long()].reshape(x.shape), num_classes=3, event_shape=SHAPE
        ),
    ):
        assert own(x, 1.0, labels).shape == x.shape
        one_line(
            lambda own=own: own(x, 1.0, UNCONDITIONAL),
            "`has_unconditional=False`.*`unconditional_label`",
        )
    fine = from_x0(network, ABAR, num_classes=3, event_shape=SHAPE, unconditional_label=3)
    assert fine(x, 1.0, UNCONDITIONAL).shape == x.shape
    for null in (0, 2):  # a class that is taken for none
        with pytest.raises(ValueError, match=r"must be none of the 3 classes.*got"):
            from_x0(network, ABAR, num_classes=3, event_shape=SHAPE, unconditional_label=null)


def test_a_network_that_looks_its_steps_up_is_offered_whole_ones():
    torch.manual_seed(0)
    table, seen = torch.nn.Embedding(100, 4), []

    def network(x, time, label):
        seen.append(time)
        return table(time).reshape(x.shape).detach()

    x, labels = (torch.from_numpy(part) for part in data(4))
    own = from_epsilon(network, ABAR, num_classes=3, event_shape=SHAPE)
    one_line(lambda: own(x, 1.0, labels), "fractional steps.*`integer_steps=True`")
    whole = from_epsilon(network, ABAR, num_classes=3, event_shape=SHAPE, integer_steps=True)
    sigmas = np.sqrt((1 - ABAR) / ABAR)
    for step in (0, 7, 50, 99):
        seen.clear()
        whole(x, float(sigmas[step]), labels)
        assert seen[0].dtype == torch.int64
        assert seen[0].tolist() == [step] * 4


@pytest.mark.parametrize(
    "changes",
    [{"num_classes": "2"}, {"num_classes": 2.0}, {"num_classes": True}, {"event_shape": ("1", 2)}],
)
def test_sizes_are_whole_numbers(changes):
    # Typeguards of the tests see some of them before.
    with pytest.raises((ValueError, TypeError), match=r"whole numbers|Type-check"):
        denoiser(**changes)


def test_more_samples_than_memory_are_refused():
    one_line(lambda: SamplingJob(CountingDenoiser(denoiser()), 10**21), "do not fit in memory")


def test_one_group_decides_nothing():
    x, labels = data()
    one_line(lambda: problem(denoiser(), x, labels, partitions={"all": [0, 0, 0]}), "two groups")


@pytest.mark.filterwarnings("ignore::gmm_speciation.reporting.trust.TrustWarning")
def test_the_sampled_gap_of_groups_alone_is_refused_before_the_work():
    x, labels = data(40)
    own = problem(denoiser(), x, labels, partitions={"pair": [0, 0, 1], "class": [0, 1, 2]})
    found = measure(own, ["gap-sampled"])
    assert list(found.variables) == ["class"]
    groups = problem(denoiser(), x, labels, partitions={"pair": [0, 0, 1]})
    one_line(lambda: measure(groups, ["gap-sampled"]), "single classes only")


# Pictures.


@pytest.fixture
def grey(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (32, 32)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "sixteen.png")
    return tmp_path, values


def test_sixteen_bits_are_scaled_by_their_range(grey):
    folder, values = grey
    found = read_picture(folder / "sixteen.png", 32, 1)[0]
    np.testing.assert_allclose(found, values / 65535 * 255, atol=0.5 + 1e-9)
    assert read_picture(folder / "sixteen.png", 32, 3).std() > 50


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_a_camera_wrote_is_obeyed(tmp_path, orientation):
    """The eight of EXIF's table, each undone by hand."""
    upright = np.zeros((8, 8), np.uint8)
    upright[0, :4], upright[1, 0] = 255, 128
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo(upright))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", 8, 1)[0], upright)


def test_files_that_are_no_pictures_of_the_kinds_named_are_refused(tmp_path):
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.new("L", (8, 8)).save(tmp_path / "a.gif")
    shutil.copy(tmp_path / "a.gif", tmp_path / "gif.png")
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "bomb.png").read_bytes()[:500])
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("script.png", "gif.png", "bomb.png", "cut.png", "empty.png"):
        one_line(lambda name=name: read_picture(tmp_path / name, 8, 3), f"{name} is not a readable")
    os.mkfifo(tmp_path / "pipe.png")
    one_line(lambda: read_picture(tmp_path / "pipe.png", 8, 3), "pipe")
    one_line(lambda: read_idx(tmp_path / "pipe.png", tmp_path / "pipe.png"), "pipe")


def test_what_file_managers_leave_is_passed_over_and_digits_are_digits(tmp_path):
    for place in ("0", "1", ".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / place).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / place / "a.png")
        (tmp_path / place / "._a.png").write_bytes(b"\x00\x05\x16\x07")
    files, labels = labelled_files(tmp_path, ANIMALS)
    assert [path.name for path in files] == ["a.png"] * 2
    assert labels == [0, 1]
    for place in ("1/b.tiff", "1/more.png/c.png", "2/d.TIF"):  # what is not read is named
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / place)
    one_line(lambda: labelled_files(tmp_path, ANIMALS), r"'2' .* no pictures .* 1 of .* 'd\.TIF'")
    Image.new("L", (8, 8)).save(tmp_path / "2" / "e.png")
    (tmp_path / "1" / "more.png").rename(tmp_path / "1" / "more")
    with pytest.warns(
        UserWarning, match=r"3 in the class folders .* passed over, such as 'b\.tiff'"
    ):
        assert len(labelled_files(tmp_path, ANIMALS)[0]) == 3
    (tmp_path / "²").mkdir()
    one_line(
        lambda: labelled_files(tmp_path, ANIMALS),
        "names no class",
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"states": np.zeros((4, *SHAPE), np.uint8), "labels": np.arange(4) % 3}, "x / 127.5 - 1"),
        ({"states": np.zeros((4, *SHAPE)), "labels": np.arange(4)}, r"in 0\.\.2; got 0 to 3"),
        ({"states": np.zeros((4, *SHAPE)), "labels": np.zeros(4)}, "integers"),
        ({"states": np.zeros((4, *SHAPE)), "labels": np.array(["a"] * 4)}, "real numbers"),
        ({"states": np.zeros((4, *SHAPE)) + 0j, "labels": np.zeros(4, int)}, "real numbers"),
        ({"states": np.zeros((4, *SHAPE))}, "no `labels`"),
    ],
)
def test_stored_states_are_checked_as_all_data(tmp_path, content, says):
    np.savez(tmp_path / "a.npz", **content)
    model = study_denoiser(denoiser(), "mine", class_names=("a", "b", "c"))

    def states():
        given = model.with_data(tmp_path / "a.npz")
        return given.states(given.averaged)

    message = one_line(states, says)
    assert "a.npz" in message


# The user's own modules.

MODULES = {
    "broken": ("def f(:\n", ["SyntaxError", "broken.py, line 1"]),
    "ends": ("import sys\nsys.exit(3)\n", ["SystemExit", "ends.py, line 2"]),
    "lacks": (
        "import not_there_at_all\n",
        ["No module named 'not_there_at_all'", "lacks.py, line 1"],
    ),
    "raises": ("def f():\n    raise KeyError('two\\nlines')\n", ["KeyError", "raises.py, line 2"]),
    "other": ("def f():\n    return 3\n", ["must return a denoiser", "got int"]),
    "needs": ("def f(a):\n    return 3\n", ["TypeError", "positional argument"]),
    "empty": ("", ["has no 'f'", "empty.py"]),
    "surprises": ("def __getattr__(name):\n    raise RuntimeError('no')\n", ["RuntimeError: no"]),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_failure_of_the_users_module_is_told_from_ours(tmp_path, monkeypatch, name):
    text, says = MODULES[name]
    (tmp_path / f"hard_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    message = one_line(lambda: load(f"hard_{name}:f"), f"hard_{name}:f")
    assert all(word in message for word in says), message
    sys.modules.pop(f"hard_{name}", None)


@pytest.mark.parametrize(
    "name", [".x:y", "os:system", "a:", ":b", "a b:c", "os:sep", "..:..", "a/b:c"]
)
def test_names_that_name_no_denoiser_are_refused(name):
    one_line(lambda: load(name), ".")


def test_a_class_or_an_instance_may_be_named(tmp_path, monkeypatch):
    (tmp_path / "hard_fine.py").write_text(
        "from test_hard_inputs import denoiser\nmade = denoiser()\n"
        "class Own(type(made).__mro__[-1]):\n"
        "    num_classes, event_shape, sigma_range, has_unconditional = 3, (1,), (0.1, 1.0), False\n"
        "    provenance = ''\n"
        "    def __call__(self, x, sigma, label): return x\n"
        "    def raw(self, x, sigma, label): return x\n"
        "    def coefficients(self, sigma): return sigma, sigma\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load("hard_fine:made").num_classes == 3
    assert not isinstance(load("hard_fine:Own"), type)
