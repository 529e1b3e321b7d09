"""EDM2 weights from files as denoisers."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import official_files as files
import pytest
import torch
from denoiser_contract import check_denoiser
from refusals import refused

import model_bridges as mb
from model_bridges.checkpoints import EDM2_LATENTS, LatentScaling, UnsafeCheckpointError
from model_bridges.checkpoints.converted import write_converted
from model_bridges.cli import main
from model_bridges.edm2 import weights

CONDITIONAL = files.TINY
UNCONDITIONAL = files.TINY | {"label_dim": 0}
NAME, PARTNER = "edm2-img512-xs-2147483-0.045.pkl", "edm2-img512-xs-uncond-2147483-0.045.pkl"


@pytest.fixture
def pair(tmp_path):
    """Two official files and the networks in them, rounded to float16 as the files are."""
    networks = [
        files.write(tmp_path / NAME, CONDITIONAL, seed=1),
        files.write(tmp_path / PARTNER, UNCONDITIONAL, seed=2),
    ]
    for network in networks:
        with torch.no_grad():
            for value in network.state_dict().values():
                value.copy_(value.half())
    return tmp_path / NAME, tmp_path / PARTNER, *networks


@pytest.fixture
def x():
    return torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_a_pair_of_files_is_the_pair_of_networks(pair, x):
    conditional, unconditional = pair[2:]
    model = mb.edm2.load(*pair[:2])
    check_denoiser(model, x, 1.5, 1e-5)
    label = torch.tensor([0, 1, 2, 1, 0])
    torch.testing.assert_close(model(x, 1.5, label), conditional(x, 1.5, label))
    torch.testing.assert_close(model(x, 1.5, mb.UNCONDITIONAL), unconditional(x, 1.5))
    assert model.sigma_range == (0.002, 80.0)
    assert model.class_names == ("0", "1", "2")
    assert NAME in model.provenance
    assert PARTNER in model.provenance
    assert mb.edm2.read_checkpoint(pair[0]).sha256[:16] in model.provenance


def test_names_and_conversions_give_the_same_model(pair, x, tmp_path, capsys):
    converted = [tmp_path / f"{part}.safetensors" for part in ("c", "u")]
    for source, target in zip(pair[:2], converted, strict=True):
        assert main(["convert", str(source), str(target)]) == 0
    printed = capsys.readouterr().out
    assert "CC BY-NC-SA 4.0" in printed
    assert mb.edm2.read_checkpoint(pair[0]).sha256 in printed
    expected = mb.edm2.load(*pair[:2])
    for name in (f"edm2:{pair[0]},{pair[1]}", f"edm2:{converted[0]}, {converted[1]}"):
        model = mb.load(name)
        assert model.provenance == expected.provenance
        assert model.latent_scaling == expected.latent_scaling
        for label in (torch.arange(5) % 3, mb.UNCONDITIONAL):
            torch.testing.assert_close(
                model(x, 0.7, label), expected(x, 0.7, label), rtol=0, atol=0
            )


def test_differences_of_classes_are_float32_without_the_skip_term(pair, x):
    """At sigma = 1e-2 the skip term is 50 times the contrast and cancels exactly."""
    model, double = mb.edm2.load(pair[0]), mb.edm2.load(pair[0], dtype=torch.float64)
    labels = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    contrast = mb.difference(model, x, 1e-2, *labels)
    exact = mb.difference(double, x.double(), 1e-2, *labels)
    assert model.raw(x, 1e-2, labels[0]).dtype == torch.float32
    error = (contrast - exact).norm() / exact.norm()
    plain = model(x, 1e-2, labels[0]) - model(x, 1e-2, labels[1])
    assert error < 1e-5
    assert error < (plain - exact).norm() / exact.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_weights_in_memory_still_compute_in_float32(pair, x, dtype):
    model = mb.edm2.load(*pair[:2], dtype=dtype)
    label = torch.arange(5) % 3
    assert model.raw(x, 1.5, label).dtype == torch.float32
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 5e-2}[dtype]
    full = mb.edm2.load(*pair[:2])(x, 1.5, label)
    torch.testing.assert_close(model(x, 1.5, label), full, rtol=tolerance, atol=tolerance)


def test_the_conditional_network_alone_has_no_unconditional_unless_asked_by_name(pair, x):
    alone = mb.load(f"edm2:{pair[0]}")
    assert not alone.has_unconditional
    with pytest.raises(ValueError, match="Add the unconditional network of the pair"):
        alone(x, 1.0, mb.UNCONDITIONAL)
    for model in (mb.load(f"edm2:{pair[0]},zero-label"), mb.edm2.load(pair[0], "zero-label")):
        torch.testing.assert_close(model(x, 1.0, mb.UNCONDITIONAL), pair[2](x, 1.0, None))
        assert "zero label, never trained" in model.provenance
        check_denoiser(model, x, 1.5, 1e-5)


def test_networks_that_are_no_pair_are_refused(pair, tmp_path):
    def other(name=None, kwargs=UNCONDITIONAL, **options):
        path = tmp_path / (name or f"other-{len(list(tmp_path.iterdir()))}.pkl")
        files.write(path, kwargs, **options)
        return path

    for partner, message in (
        (pair[0], "has 3 classes"),
        (other(kwargs=UNCONDITIONAL | {"img_resolution": 8}), r"\(1, 4, 4\)"),
        (other(kwargs=UNCONDITIONAL | {"sigma_data": 1.0}), "sigma_data"),
        (other(latent_scaling=LatentScaling((1.0,), (0.0,))), "latent scaling differs"),
        (other(noise=(-0.8, 1.0)), "distribution of noise levels differs"),
    ):
        with pytest.raises(ValueError, match=message):
            mb.edm2.load(pair[0], partner)
    with pytest.raises(ValueError, match="Give the conditional network of the pair first"):
        mb.edm2.load(pair[1], pair[0])
    shorter = other("edm2-img512-xs-uncond-1073741-0.045.pkl")
    with pytest.warns(UserWarning, match="training length or EMA width"):
        mb.edm2.load(pair[0], shorter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mb.edm2.load(*pair[:2])


def test_hashes_are_compared_file_by_file(pair):
    hashes = tuple(mb.edm2.read_checkpoint(path).sha256 for path in pair[:2])
    mb.edm2.load(*pair[:2], expected_sha256=hashes)
    mb.edm2.load(pair[0], expected_sha256=hashes[0])
    with pytest.raises(UnsafeCheckpointError, match="not the expected"):
        mb.edm2.load(*pair[:2], expected_sha256=hashes[::-1])
    with pytest.raises(ValueError, match="no second file"):
        mb.edm2.load(pair[0], expected_sha256=hashes)


def test_levels_outside_the_trained_range_are_reported(pair, x, tmp_path):
    model = mb.edm2.load(pair[0])
    with pytest.warns(UserWarning, match=r"trained range \[0.002, 80\]"):
        model(x, 100.0, torch.zeros(5, dtype=torch.long))
    files.write(tmp_path / "narrow.pkl", CONDITIONAL, noise=(-1.0, 0.5))
    low, high = mb.edm2.load(tmp_path / "narrow.pkl").sigma_range
    assert np.log([low, high]) == pytest.approx([-4.0, 2.0])
    assert weights.trained_range((0.0, 1e9)) == (0.002, 80.0)
    assert weights.trained_range(None) == (0.002, 80.0)


def test_the_licence_is_printed_once(pair, capsys, monkeypatch):
    monkeypatch.setattr(weights, "_announced", set())
    mb.edm2.load(*pair[:2])
    mb.edm2.load(*pair[:2])
    assert capsys.readouterr().err.count("CC BY-NC-SA 4.0") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_channels": 8}, "do not fit its arguments"),
        ({"model_channels": 10**9}, "out of all proportion"),
        ({"model_channels": 60_000}, "do not fit its arguments"),
        ({"num_blocks": 10**6}, "out of all proportion"),
        ({"num_blocks": "3"}, "out of all proportion"),
        ({"channel_mult": [1] * 40}, "out of all proportion"),
        ({"img_resolution": "4"}, "make no EDM2 network"),
        ({"img_resolution": 0}, "do not fit|make no"),
        ({"channel_mult": []}, "make no EDM2 network"),
        ({"logvar_channels": None}, "make no EDM2 network"),
        ({"surprise": 1}, "make no EDM2 network"),
        ({"label_dim": 5}, "emb_label.weight"),
    ],
)
def test_arguments_that_do_not_fit_the_tensors_are_refused(tmp_path, changes, message):
    network = files.network(CONDITIONAL)
    path = tmp_path / "net.pkl"
    files.official.write_official_pickle(path, network, CONDITIONAL | changes)
    with pytest.raises(UnsafeCheckpointError, match=message):
        mb.edm2.load(path)


def test_values_that_are_not_finite_are_refused(tmp_path):
    network = files.network(CONDITIONAL)
    network.unet.out_gain.fill_(float("nan"))
    files.official.write_official_pickle(tmp_path / "net.pkl", network, CONDITIONAL)
    with pytest.raises(UnsafeCheckpointError, match=r"finite weights; unet\.out_gain"):
        mb.edm2.load(tmp_path / "net.pkl")
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        mb.edm2.load(tmp_path / "net.pkl", dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to(torch.float8_e4m3fn), "16 to 64 bits; .* is torch.float8_e4m3fn"),
        (lambda value: (20 * value).to(torch.int32), "16 to 64 bits; .* is torch.int32"),
        (lambda value: value > 0, "16 to 64 bits; .* is torch.bool"),
        (lambda value: value.to(torch.complex64), "16 to 64 bits; .* is torch.complex64"),
        (lambda value: (20 * value).round(), "whole numbers only"),
        (lambda value: 0 * value, "all its matrices are zero"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(pair, tmp_path, change, message):
    checkpoint = mb.edm2.read_checkpoint(pair[0])
    state = {name: change(value) for name, value in checkpoint.state_dict.items()}
    write_converted(replace(checkpoint, state_dict=state), tmp_path / "c.safetensors")
    with pytest.raises(UnsafeCheckpointError, match=message):
        mb.edm2.load(tmp_path / "c.safetensors")


def test_a_device_that_is_not_there_is_named(pair):
    with pytest.raises(ValueError, match="'cuda:97' is not there"):
        mb.edm2.load(pair[0], device="cuda:97")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convert", "absent.pkl", "out.safetensors"], "cannot be read"),
        (["convert", "page.pkl", "out.safetensors"], "web page"),
        (["convert", "page.pkl", "out.pkl"], "must end in .safetensors"),
        (["convert", "page.pkl", "out.safetensors", "--sha256", "00"], "64 hexadecimal digits"),
        (["convert", "page.pkl"], "OUT.safetensors"),
    ],
)
def test_a_mistake_in_convert_is_one_line_and_exit_code_2(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.pkl").write_text("<html>404</html>")
    refused(main, words, message, capsys)
    assert not (tmp_path / "out.safetensors").exists()


def test_the_writer_keeps_its_reference_network(tmp_path):
    """The published micro network, through an official file and back, gives its reference outputs."""
    data = Path(__file__).parents[1] / "data" / "edm2" / "micro_cond.npz"
    with np.load(data) as archive:
        arrays = {name: archive[name] for name in archive.files}
    kwargs = json.loads(str(arrays["kwargs"]))
    network = mb.edm2.EDM2Network(**kwargs)
    state = {k[6:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("state:")}
    network.load_state_dict(state)
    scaling = LatentScaling(EDM2_LATENTS.scale[:3], EDM2_LATENTS.bias[:3])
    path = tmp_path / "micro.pkl"
    files.official.write_official_pickle(path, network, kwargs, latent_scaling=scaling)
    model = mb.edm2.load(path, "zero-label")
    x, sigma, label = (torch.from_numpy(arrays[f"io:{name}"]) for name in ("x", "sigma", "label"))
    denoised = model(x, sigma, label)
    expected = torch.from_numpy(arrays["io:D_cond_fp32up"])
    torch.testing.assert_close(denoised, expected, rtol=0, atol=1e-5)
    free = torch.from_numpy(arrays["io:D_none_fp32up"])
    torch.testing.assert_close(model(x, sigma, mb.UNCONDITIONAL), free, rtol=0, atol=1e-5)


@pytest.fixture
def measurement(monkeypatch):
    """The script that measures the full size, `benchmarks/edm2_xs.py`."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import edm2_xs

    return edm2_xs


def check_measurement(result):
    entropy = np.array(result["curve"]["entropy_nats"])
    assert entropy.shape == (2,)
    assert np.isfinite(entropy).all()
    # At the largest level the posterior is the prior of the two classes named.
    assert entropy[1] == pytest.approx(np.log(2))
    assert result["read_peak_bytes"] <= 2 * result["file_bytes"] + 32 * 2**20


def test_the_measurement_of_the_full_size_on_a_small_network(measurement, tmp_path):
    check_measurement(measurement.measure(tmp_path, measurement.QUICK))


@pytest.mark.slow
def test_a_full_size_xs_goes_from_official_files_to_a_curve(measurement, tmp_path):
    result = measurement.measure(tmp_path, measurement.XS)
    check_measurement(result)
    assert result["parameters"] == 124_713_253
    assert result["tensors"] == 203
