"""The cross-check: on an exact model theory and model are one; on digits the shipped model passes."""

import dataclasses
import json
import warnings

import jax
import numpy as np
import pytest
import torch
from scipy.special import log_expit

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.stored import load_curve
from gmm_speciation.reporting.trust import TrustWarning
from model_bridges.crosscheck import plotting
from model_bridges.crosscheck.compare import _difference
from model_bridges.crosscheck.noisy_classifier import noisy_cross_entropy
from model_bridges.crosscheck.report import crosscheck_record, crosscheck_report
from model_bridges.crosscheck.study import crosscheck
from model_bridges.entropy.windows import place
from model_bridges.images.labelled import LabelledImages
from model_bridges.tracking.readouts import decision_sigma

PARTITIONS = {"half": gs.Partition([0, 0, 1, 1])}


@pytest.fixture(scope="module")
def mixture():
    return gs.families.equidistant(4, 6, 3.0, variance=0.25)


@pytest.fixture(scope="module")
def data(mixture):
    x, component = mixture.sample(jax.random.key(3), 400)
    return LabelledImages(
        torch.from_numpy(np.array(x)), torch.from_numpy(np.array(component)), "the mixture"
    )


@pytest.fixture(scope="module")
def result(mixture, data):
    return crosscheck(
        mb.mixture_denoiser(mixture),
        data,
        mixture,
        partitions=PARTITIONS,
        nested=("half", "class"),
        num_paths=3,
        num_samples=4096,
        sigmas=np.geomspace(0.02, 80, 32),
    )


def test_an_exact_model_agrees_with_its_own_theory(result):
    """Tracking, both gaps and the closed form, for the classes and for the coarser variable."""
    for check in result.variables.values():
        curves = (check.tracked, check.bayes, check.unconditional)
        for curve in curves:
            error = np.hypot(curve.entropy.stderr, check.theory.entropy.stderr)
            deviation = np.abs(curve.entropy.value - np.asarray(check.theory.entropy.value))
            assert np.all(deviation < 4 * error + 0.01), curve.method


def test_pictures_leave_no_variable_and_no_bound_out(result):
    check = dataclasses.replace(result.main, bounds=dict.fromkeys("abc", result.main.cross_entropy))
    many = dataclasses.replace(result, variables={f"variable {i}": check for i in range(9)})
    for figure, names in (
        (plotting.plot_crosscheck(check, "the mixture"), {"a (≥ H)", "b (≥ H)", "c (≥ H)"}),
        (plotting.plot_variables(many), set(many.variables)),
    ):
        (legend,) = figure.legends
        assert names <= {text.get_text() for text in legend.get_texts()}


def test_an_exact_model_passes_its_checks(result):
    verdicts = {check.statement: check.verdict for check in result.checks}
    assert [claim for claim, verdict in verdicts.items() if verdict == "no"] == []
    # 400 images are too few for a budget within 5 %: 0.993 ± 0.047.
    unresolved = [claim for claim, verdict in verdicts.items() if verdict == "open"]
    assert [claim for claim in unresolved if "budget" not in claim] == []
    assert result.reliability.expected_error < 0.02


def once(mixture, data, sigmas):
    """The cross-check of a mixture with itself on these data: one path an image, the single classes."""
    words = {"partitions": {}, "num_paths": 1, "num_samples": 1024, "sigmas": sigmas}
    return crosscheck(mb.mixture_denoiser(mixture), data, mixture, **words)


def test_labels_of_other_classes_fail_the_claim_of_naming(mixture, data):
    shifted = dataclasses.replace(data, labels=(data.labels + 1) % 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustWarning)
        found = once(mixture, shifted, np.geomspace(0.02, 80, 32))
    (naming,) = (claim for claim in found.checks if "labels named" in claim.statement)
    assert naming.verdict == "no"
    assert naming.measured.value < -0.5


def test_an_exact_model_fails_no_claim_where_classes_overlap_and_levels_are_few():
    """Labels cannot be named as often, and a coarse integral cannot close; neither is the model's fault."""
    mixture = gs.families.equidistant(3, 2, 1.0, variance=1.0)
    x, labels = mixture.sample(jax.random.key(5), 2000)
    data = LabelledImages(
        torch.from_numpy(np.array(x)), torch.from_numpy(np.array(labels)), "the mixture"
    )
    result = once(mixture, data, np.geomspace(0.05, 40, 24))
    assert [claim for claim in result.checks if claim.verdict == "no"] == []
    (naming,) = (claim for claim in result.checks if "labels named" in claim.statement)
    assert result.main.accuracy.value[0] < 0.6
    assert abs(naming.measured.value) < 0.1
    budget = result.checks[0]  # of 0.1 nats lost, 24 levels leave more than that open
    assert budget.verdict == "open"
    assert abs(budget.measured.value - 1) > 0.3


def test_a_half_entropy_point_beyond_the_grid_is_said_so(result):
    """Levels that end while most is open: no table may give the end of the grid for the place."""
    curve = result.main.tracked
    beyond = curve.sigma > 1.2 * np.exp(-float(curve.crossing(curve.prior_entropy / 2).value) / 2)
    short = EntropyCurve(
        curve.log_snr[beyond],
        curve.entropy[beyond],
        curve.rate[beyond],
        curve.prior_entropy,
        curve.method,
    )
    assert place(short, "half") == "beyond the grid"
    low, high = (np.exp(-end / 2) for end in curve.crossing(curve.prior_entropy / 2).interval())
    value, half = map(float, place(curve, "half").split(" ± "))
    # Of the delta method: the interval of log sigma is not quite symmetric in sigma.
    assert value + half == pytest.approx(float(low), rel=0.01)
    assert value - half == pytest.approx(float(high), rel=0.01)


def test_the_chain_rule_is_carried_by_the_nested_curve(result):
    fine, coarse = result.variables["class"].tracked, result.variables["half"].tracked
    nested = result.nested["class given half, model"]
    np.testing.assert_allclose(
        nested.entropy.value, fine.entropy.value - coarse.entropy.value, atol=1e-9
    )
    np.testing.assert_allclose(nested.prior_entropy, np.log(2), rtol=1e-6)


def test_paths_of_one_image_are_one_observation(mixture, data):
    """Three paths shrink the error, but count as the images they belong to."""
    denoiser, sigmas = mb.mixture_denoiser(mixture), np.geomspace(0.1, 20, 9)
    images, labels = data.images[:100], data.labels[:100]
    one = mb.track(denoiser, images, labels, sigmas=sigmas)
    three = mb.track(denoiser, images, labels, sigmas=sigmas, num_paths=3)
    assert three.num_images == 100
    assert three.log_posterior.shape[1] == 300
    curve = mb.tracked_curve(three)
    assert curve.entropy.dof == 99
    # The noisiest level starts from the prior and has no error to compare.
    ratio = curve.entropy.stderr[:-1] / mb.tracked_curve(one).entropy.stderr[:-1]
    assert np.median(ratio) < 0.9
    # The paths of an image are different, and an image's average is that of its paths.
    assert not np.allclose(three.log_posterior[:, 0], three.log_posterior[:, 1])
    np.testing.assert_allclose(
        three.by_image(three.bayes_gap)[:, 7], three.bayes_gap[:, 21:24].mean(1)
    )
    subset = three.images(slice(10, 20))
    np.testing.assert_array_equal(subset.log_posterior, three.log_posterior[:, 30:60])
    with pytest.raises(ValueError, match="num_paths"):
        mb.track(denoiser, images, labels, sigmas=sigmas, num_paths=0)


def test_decisions_lie_where_the_posterior_crosses_a_half(result):
    record, sigmas = result.posterior, decision_sigma(result.posterior)
    final = record.log_posterior[0].argmax(-1)
    for path in range(0, 60, 7):
        level = int(np.argmin(np.abs(record.sigmas - sigmas[path])))
        led = np.exp(record.log_posterior[: level + 1, path, final[path]])
        assert led[1:].min(initial=1.0) > 0.5 or level == 0
        if level + 1 < len(record.sigmas):
            assert np.exp(record.log_posterior[level + 1, path, final[path]]) <= 0.5


def test_the_report_is_complete_and_reads_back(result, tmp_path):
    report = crosscheck_report(result, "Test", list("abcd"))
    report.write(tmp_path / "out", crosscheck_record(result))
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert {check["claim"] for check in content["checks"]} == {c.statement for c in result.checks}
    curve = load_curve(tmp_path / "out", "class: tracked")
    np.testing.assert_allclose(curve.entropy.value, result.main.tracked.entropy.value)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 7
    assert "Does the information budget close?" in page


def test_a_mixture_of_another_size_is_refused(data, mixture):
    other = gs.families.equidistant(3, 6, 1.0)
    with pytest.raises(ValueError, match=r"one component a class \(4\); got 3"):
        crosscheck(mb.mixture_denoiser(mixture), data, other, partitions={})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": np.zeros((3, 8, 8))}, "labels"),
        ({"images": np.zeros((3, 4, 4)), "labels": np.arange(3)}, r"\(n, 8, 8\)"),
        ({"images": np.full((3, 8, 8), 17.0), "labels": np.arange(3)}, "from 0 to 16"),
        ({"images": np.full((3, 8, 8), np.nan), "labels": np.arange(3)}, "finite"),
        ({"images": np.zeros((3, 8, 8)), "labels": np.ones(3)}, "integers"),
        (
            {"images": np.array([{}]), "labels": np.arange(1)},
            r"\.npz: `images` must be real numbers",
        ),
    ],
)
def test_bad_data_files(tmp_path, content, message):
    np.savez(tmp_path / "bad.npz", **content)
    with pytest.raises(ValueError, match=message):
        mb.study("digits", data=tmp_path / "bad.npz")


def test_a_data_file_is_read_in_grey_levels(tmp_path):
    digits = mb.digits.load_digits()
    pixels = digits.to_pixels(digits.held_out_images)[:, 0].round().numpy()
    np.savez(tmp_path / "mine.npz", images=pixels, labels=digits.held_out_labels.numpy())
    model = mb.study("digits", data=tmp_path / "mine.npz")
    images = model.states(model.averaged).images
    torch.testing.assert_close(images, digits.held_out_images, atol=1e-5, rtol=0)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ValueError, match=r"\.npz: it is damaged"):
        mb.study("digits", data=tmp_path / "broken.npz")
    with pytest.raises(ValueError, match=r"'held-out' or 'train', .* or .* \.npz"):
        mb.study("digits", data="tomorrow")


@pytest.mark.slow
def test_the_shipped_model_on_held_out_digits():
    """The main job at full size: budget, calibration, labels, agreement of peaks with the theory."""
    result = crosscheck(mb.study("digits"))
    verdicts = {check.statement: check for check in result.checks}
    for claim, check in verdicts.items():
        if "unconditional" not in claim:
            # 360 images leave the budget unresolved: 0.971 ± 0.033 within 0.05 of 1.
            allowed = ("yes", "open") if "budget" in claim else ("yes",)
            assert check.verdict in allowed, (claim, f"{check.measured}")
    main = result.main
    # Every posterior that is no better than the truth gives an upper bound: none may lie far below.
    for bound in main.bounds.values():
        shortfall = np.asarray(main.tracked.entropy.value) - np.asarray(bound.value)
        error = np.hypot(main.tracked.entropy.stderr, bound.stderr)
        assert np.all(shortfall < 4 * error + 0.05)
    excess = main.budget.integrals["unconditional"].value / main.budget.difference.value
    assert excess > 1.5  # two networks: the unconditional form counts their disagreement


def test_the_public_name_is_the_function_whatever_was_imported_before():
    assert callable(mb.crosscheck)
    assert mb.crosscheck is crosscheck


def test_a_crosscheck_prints_its_points_and_verdicts(result):
    text = repr(result)
    for name, check in result.variables.items():
        assert f"\n{name}: H(C) = " in text
        assert f"λ = {check.points['half entropy, model'].log_snr}" in text
    verdicts = [claim.verdict for claim in result.checks]
    assert f"checks: {sum(v == 'yes' for v in verdicts)} yes" in text
    assert repr(result.pairs) in text
    assert repr(result.tree) in text


def test_what_is_certain_in_every_batch_is_not_known_beyond_its_draws():
    """The entropy of the fine given the coarse, at the clean end of levels where no draw was uncertain."""
    levels, number = np.array([2.0, 0.0, -2.0]), 100
    rng = np.random.default_rng(0)
    curves = []
    for total in (1.5, 0.5):
        batches = np.abs(total / 2 + 0.05 * rng.normal(size=(16, 3))) * [0, 1, 2]
        estimate = Estimate.from_samples(batches)
        curves.append(
            EntropyCurve(levels, estimate, estimate, total, "own", Batches(batches, batches))
        )
    found = _difference(*curves, number)
    np.testing.assert_allclose(found.entropy.stderr[0], 0)  # no spread says no draw at all
    rare = [dataclasses.replace(one, batches=Batches(*2 * [_rare(one)])) for one in curves]
    found = _difference(*rare, number)
    assert found.entropy.stderr[0] >= 2 * np.log(2) / number
    assert found.entropy.stderr[1] < 2 * np.log(2) / number


def _rare(curve):
    """Its batches, with an uncertain draw in one of them at the clean end."""
    values = np.array(curve.batches.entropy)
    values[0, 0] = 0.01 * curve.prior_entropy
    return values


def test_a_cross_entropy_that_few_images_carry_has_its_interval():
    """Of the exact posterior it is H: from three images' worth on the boundary to a three hundredth."""
    sigmas, many = np.array([0.2, 0.25, 0.3, 0.35]), 200
    scale = np.sqrt(0.01 + sigmas**2)[:, None]
    x = 1 + scale * np.linspace(-12, 12, 4001)
    density = np.exp(-(((x - 1) / scale) ** 2) / 2) / (scale * np.sqrt(2 * np.pi))
    truth = np.trapezoid(density * np.logaddexp(0, -2 * x / scale**2), x)

    def log_posterior(x, sigma):
        log_odds = 2 * x[:, 0].numpy() / (0.01 + sigma**2)
        return np.stack([log_expit(-log_odds), log_expit(log_odds)], 1)

    hits = np.zeros(len(sigmas))
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, many)
        images = torch.from_numpy((2 * labels - 1)[:, None] + 0.1 * rng.normal(size=(many, 1)))
        low, high = noisy_cross_entropy(log_posterior, images, labels, sigmas, seed=seed).interval()
        hits += (low <= truth) & (truth <= high)
    assert hits.min() >= 54, hits


def test_labelled_images_are_tensors_or_refused(unchecked):
    """Arrays of numpy are taken as they are; what has no label an image is named where it is made."""
    x, labels = np.zeros((6, 2), np.float32), np.arange(6) % 3
    data = LabelledImages(x, labels, "zeros")
    assert data.images.dtype == torch.float32
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    for images, classes, message in (
        (x, labels[:3], r"`labels` must be integers of shape \(6,\)"),
        (x, "abc", "`labels` must be real numbers"),
        (x, labels / 1.0, "`labels` must be integers"),
        (x, labels - 1, "must be in 0"),
        (x.astype(np.uint8), labels, "Bytes are not scaled by a guess"),
        ("pictures", labels, "`images` must be real numbers"),
        (1.0, labels, "a single number"),
    ):
        with pytest.raises(ValueError, match=message):
            LabelledImages(images, classes, "no images")
