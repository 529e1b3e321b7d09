"""Removal of a class from an exact mixture, fronts of strengths, and verdicts."""

import numpy as np
import pytest
import torch
from heard import Heard
from scipy.stats import binomtest

from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import at_least, at_most, check_records, check_rows, equal
from gmm_speciation.reporting.records import percent
from gmm_speciation.shares import Share
from model_bridges.control import removal as removing
from model_bridges.control.plotting import plot_removal
from model_bridges.control.removal import CLASSES, DNG, NP, SLD, STRENGTHS, remove_class
from model_bridges.quality import Quality, QualityCurve
from model_bridges.quality.frontier import compare_fronts, compare_shares
from model_bridges.quality.jackknife import Jackknifed

# Removal


@pytest.fixture(scope="module")
def removal(judged):
    return remove_class(
        judged,
        0,
        num_images=400,
        num_steps=24,
        strengths={NP: (0.2, 2.0), SLD: (4.0,), DNG: (1.0,), CLASSES: (1.0,)},
    )


def test_dynamic_guidance_of_strength_one_draws_the_law_without_the_class(judged, removal):
    """Also where the class has a share of its own: what is left of it is the overlap of the others."""
    kept = judged.held_out.images[judged.held_out.labels != 0]
    overlap = float((judged.judge.predict(kept) == 0).mean())
    exact_one = removal.curves[CLASSES].points[1]
    left = exact_one.removed_share
    error = 4 * np.hypot(float(left.stderr), np.sqrt(overlap * (1 - overlap) / len(kept)) + 1e-3)
    print(f"left {left.value:.4f}, overlap {overlap:.4f}; balance {exact_one.balance.value:.4f}")
    assert abs(left.value - overlap) < error
    assert exact_one.balance.value < exact_one.balance_floor + 4 * exact_one.balance.stderr
    assert removal.unguided.removed_share.value > 0.3
    # And as near to the data without the class as other data of it.
    gap = exact_one.frechet - removal.floor.held_out.frechet
    assert gap.value < 4 * gap.stderr


def test_one_strength_everywhere_spoils_the_balance_and_a_dynamic_one_does_not(removal):
    points = {name: curve.points[-1] for name, curve in removal.curves.items()}
    np_, classes = points[NP].balance, points[CLASSES].balance
    assert np_.value - classes.value > 4 * np.hypot(np_.stderr, classes.stderr)
    check = next(c for c in removal.checks if c.statement.startswith("NP spoils"))
    assert check.verdict == "yes"


def test_removal_keeps_its_books(judged, removal):
    for curve in removal.curves.values():
        assert curve.strengths[0] == 0
        assert curve.points[0] is removal.unguided
    assert removal.evaluations == {"unguided": 24, NP: 48, SLD: 48, DNG: 48, CLASSES: 24 * 5}
    pairs = {(a, b, m) for a in (DNG, CLASSES) for b in (NP, SLD) for m in ("balance", "frechet")}
    assert set(removal.comparisons) == pairs
    assert all(np.isfinite(float(check.measured.value)) for check in removal.checks)
    for words, message in (
        ({"removed": 4}, "0 to 3; got 4"),
        ({"removed": -1}, "0 to 3; got -1"),
        ({"strengths": {"nonsense": (1.0,)}}, "got nonsense"),
        ({"strengths": {NP: (1.0, 1.0)}}, "increase strictly"),
        ({"strengths": {NP: (0.0,)}}, "must be positive"),
        ({"strengths": {NP: ()}}, "must be positive"),
        ({"strengths": {NP: (float("nan"),)}}, "finite"),
    ):
        before = judged.denoiser.evaluations
        with pytest.raises(ValueError, match=message):
            remove_class(judged, **{"removed": 0} | words)
        assert judged.denoiser.evaluations == before  # said before anything is drawn


def made_curve(strengths, prices, gains, noise):
    """A curve of known values; what is left out of a batch moves all of them alike."""
    one = Share.counted(0.5, 100)
    points = []
    for price, gain in zip(prices, gains, strict=True):
        replicates = {
            name: Jackknifed(np.asarray(value), value + noise)
            for name, value in (("frechet", price), ("removed_share", gain))
        }
        points.append(Quality(100, 0, "made", one, one, one, one, one, one, one, one, replicates))
    return QualityCurve("made", np.array(strengths, float), tuple(points))


def test_the_area_between_fronts_is_that_of_its_triangles(rng):
    """In log price: a falls at once from 10 to 0 over a factor e^2, b over e^4 and stays at 2."""
    noise = 0.01 * rng.normal(size=20)
    a = made_curve([0, 1], np.exp([0.0, 2.0]), [10.0, 0.0], 0 * noise)
    b = made_curve([0, 1, 2], np.exp([0.0, 4.0, 5.0]), [10.0, 2.0, 3.0], 0 * noise)
    found = compare_fronts(a, b, "frechet", "removed_share", floor=0.5)
    # Integrals from 0 to 4, where b has reached its least: 10 of a, (10 + 2) / 2 * 4 = 24 of b.
    np.testing.assert_allclose(found.area.value, (10 - 24) / 4, rtol=1e-4)
    np.testing.assert_allclose(found.budgets[[0, -1]], np.exp([0.0, 4.0]))
    np.testing.assert_allclose(found.y_a.value, [10, 5, 0, 0, 0])
    np.testing.assert_allclose(found.y_b.value, [10, 8, 6, 4, 2])
    assert found.area.stderr < 1e-12
    back = compare_fronts(b, a, "frechet", "removed_share", floor=0.5)
    np.testing.assert_allclose(back.area.value, -found.area.value)
    assert compare_fronts(b, b, "frechet", "removed_share", floor=0.5).area.value == 0
    # More of a curve that has reached its end, dearer and no better, changes nothing.
    more = made_curve([0, 1, 2, 3], np.exp([0.0, 2.0, 6.0, 9.0]), [10.0, 0.0, 1.0, 0.0], 0 * noise)
    longer = compare_fronts(more, b, "frechet", "removed_share", floor=0.5)
    np.testing.assert_allclose(longer.area.value, found.area.value, rtol=1e-9)
    # A grid that ends too early is another front: the weak setting alone leaves 5.
    early = made_curve([0, 1], np.exp([0.0, 1.0]), [10.0, 5.0], 0 * noise)
    assert compare_fronts(early, b, "frechet", "removed_share", floor=0.5).area.value > -1.4
    for floor, start in ((0.0, 0), (0.5, 1)):
        other = made_curve([start, 2], np.exp([0.0, 2.0]), [10.0, 0.0], noise)
        with pytest.raises(ValueError, match="start at strength 0"):
            compare_fronts(a, other, "frechet", "removed_share", floor=floor)


def test_a_budget_buys_the_cheaper_of_a_price_that_first_falls():
    """Prices below that of exact draws are noise, and what no price buys is not bought."""
    a = made_curve([0, 1, 2], np.exp([2.0, 0.0, 4.0]), [10.0, 4.0, 2.0], np.zeros(20))
    b = made_curve([0, 1, 2], [np.exp(2.0), np.nan, np.exp(3.0)], [10.0, 0.0, 9.0], np.zeros(20))
    found = compare_fronts(a, b, "frechet", "removed_share", floor=1.0)
    np.testing.assert_allclose(found.y_a.value, [4, 3.5, 3, 2.5, 2])
    np.testing.assert_allclose(found.y_b.value[:3], 10)
    raised = compare_fronts(a, b, "frechet", "removed_share", floor=np.exp(1.0))
    np.testing.assert_allclose(raised.budgets[0], np.exp(1.0))


def test_the_interval_of_an_area_covers_the_true_one():
    """Gains of 20 batches with known noise, part of it shared by both kinds, which cancels."""
    rng, hits, widths = np.random.default_rng(5), 0, []
    price = np.exp([0.0, 1.0, 2.0])
    for _ in range(200):
        shared, own = rng.normal(size=(20, 1)), 0.1 * rng.normal(size=(2, 20, 3))
        curves = []
        for noise, gains in zip(own, ([1.0, 0.4, 0.1], [1.0, 0.6, 0.3]), strict=True):
            noise[:, 0] = 0  # one unguided run for both
            batches = np.array(gains) + shared + noise
            points = []
            for s in range(3):
                values = batches[:, s]
                share = Jackknifed(np.asarray(values.mean()), (values.sum() - values) / 19)
                one = Share.counted(0.5, 100)
                replicates = {
                    "frechet": Jackknifed(np.asarray(price[s]), np.full(20, price[s])),
                    "removed_share": share,
                }
                points.append(Quality(100, 0, "", *[one] * 8, replicates))
            curves.append(QualityCurve("made", np.arange(3.0), tuple(points)))
        area = compare_fronts(*curves, "frechet", "removed_share", floor=1e-3).area
        truth = -0.2 * 0.75  # trapezoid of 0, -0.2, -0.2
        low, high = area.interval()
        hits += bool(low <= truth <= high)
        widths.append(float(area.half_width()))
    assert 182 <= hits <= 198  # 190 expected, deviation 3
    assert np.mean(widths) < 0.1  # shared noise of 1 / sqrt(20) would give 0.47


def test_strengths_go_on_until_the_front_ends(judged, tmp_path, monkeypatch):
    """Weak negative prompting is doubled to its floor; a second run reads every image."""

    heard = Heard()
    words = {"num_images": 60, "num_steps": 8, "folder": tmp_path}
    found = remove_class(judged, 0, strengths={NP: None, DNG: (1.0,)}, progress=heard, **words)
    strengths = found.curves[NP].strengths
    extended = strengths[strengths > 0.8]
    np.testing.assert_allclose(extended, 1.6 * 2.0 ** np.arange(len(extended)))
    runs = [name for name in heard.steps if name.startswith(NP)]
    assert len(extended) == len(runs) - len(STRENGTHS[NP])
    assert found.ends[DNG] == "given"
    assert found.ends[NP] != "given"
    if "as little" in found.ends[NP]:
        least = float(found.floor.held_out.removed_share.value)
        assert float(found.curves[NP].points[-1].removed_share.value) <= least + 1 / 60
    before = judged.denoiser.evaluations
    again = remove_class(judged, 0, strengths={NP: None, DNG: (1.0,)}, **words)
    assert judged.denoiser.evaluations == before
    for key, images in found.pictures.items():
        torch.testing.assert_close(images, again.pictures[key], rtol=0, atol=0)
    assert again.evaluations == found.evaluations
    damaged = sorted(tmp_path.glob("*.npz"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-7])
    heard = Heard()
    remove_class(judged, 0, strengths={NP: None, DNG: (1.0,)}, progress=heard, **words)
    assert judged.denoiser.evaluations > before  # drawn again
    (line,) = heard.lines
    assert damaged.name in line
    assert "drawn again" in line
    # Another constant of one kind: its images are drawn, those of the other kind are read.
    before = judged.denoiser.evaluations
    remove_class(judged, 0, strengths={NP: None, DNG: (1.0,)}, **words)
    assert judged.denoiser.evaluations == before
    monkeypatch.setattr(removing, "_MAX_POSTERIOR", 0.8)
    remove_class(judged, 0, strengths={NP: None}, **words)
    assert judged.denoiser.evaluations == before
    remove_class(judged, 0, strengths={DNG: (1.0,)}, **words)
    assert judged.denoiser.evaluations > before
    # And another version of what computes: everything is.
    before = judged.denoiser.evaluations
    monkeypatch.setattr(removing, "versions", lambda: {"torch": "0"})
    remove_class(judged, 0, strengths={NP: None}, **words)
    assert judged.denoiser.evaluations > before
    other = judged.denoiser.evaluations
    remove_class(judged, 0, strengths={NP: (0.4,)}, seed=1, **words)
    assert judged.denoiser.evaluations > other  # another seed reads nothing of this one


def test_labels_of_strengths_cover_each_other_nowhere(removal):
    figure = plot_removal(removal)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [
            t.get_window_extent() for t in axes.texts if t.get_text().replace(".", "").isdigit()
        ]
        assert len(boxes) == 5
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_two_runs_without_a_difference_are_not_known_to_be_alike(rng):
    """Fronts of runs of 100 images that all leave nothing, or the same; of runs whose errors are known."""
    none, noise = np.zeros(20), 0.01 * rng.normal(size=20)
    a, b = (made_curve([0, 1], np.exp([0.0, end]), [0.3, 0.0], none) for end in (1.0, 2.0))
    same = compare_shares(a, a, "frechet", "removed_share", floor=0.5)
    assert same.area.stderr == pytest.approx(1 / 100)
    assert at_most("less", same.area, 0.0).verdict == "open"
    assert (same.difference.stderr >= 1 / 100).all()
    found = compare_shares(a, b, "frechet", "removed_share", floor=0.5)
    low, high = found.y_a.interval()
    assert found.y_a.value[-1] == 0 == low[-1]
    assert high[-1] > binomtest(0, 100).proportion_ci().high
    assert percent(found.y_a[-1]).startswith("0.0 (0.0–")
    wild = [made_curve([0, 1], np.exp([0.0, 1.0]), [0.3, end], noise) for end in (0.1, 0.2)]
    drawn, plain = (
        f(*wild, "frechet", "removed_share", floor=0.5) for f in (compare_shares, compare_fronts)
    )
    np.testing.assert_array_equal(drawn.area.value, plain.area.value)
    np.testing.assert_array_equal(drawn.y_a.value, plain.y_a.value)


# Verdicts


def test_verdicts_need_the_whole_interval():
    """Half-widths of 95 %: 1.96 standard errors."""
    low, near, high = (Estimate(v, 0.1) for v in (-1.0, 0.1, 1.0))

    def said(claim, *arguments):
        rows = check_rows([claim("a", one, *arguments) for one in (low, near, high)])[1]
        return [row[-1] for row in rows]

    assert said(at_most, 0.0) == ["yes", "open", "no"]
    assert said(at_least, 0.0) == ["no", "open", "yes"]
    assert said(equal, 0.0, 0.2) == ["no", "open", "no"]
    assert said(equal, 0.0, 0.3) == ["no", "yes", "no"]
    assert said(equal, 0.5, 0.25) == ["no", "open", "no"]
    # Few samples widen the interval; nothing known decides nothing.
    assert at_most("a", Estimate(-0.3, 0.1, 1.0), 0.0).verdict == "open"
    assert at_most("a", Estimate(np.nan, np.nan), 0.0).verdict == "open"


def test_claims_are_recorded_with_their_verdicts():
    known = at_most("a claim", Estimate(0.1, 0.1), 0.0, "a source")
    unknown = equal("another", Estimate(np.nan, np.nan), 0.5, 0.4)
    records = check_records([known, unknown])
    assert records[0].pop("half_width") == pytest.approx(0.196, abs=1e-4)
    texts = [records[0][key] for key in ("claim", "expected", "verdict", "note")]
    assert texts == ["a claim", "≤ 0", "open", "a source"]
    assert (records[0]["measured"], records[0]["holds"]) == (0.1, False)
    assert (records[1]["expected"], records[1]["half_width"]) == ("0.5 ± 0.4", None)
    assert check_rows([at_least("a", Estimate(1.0, 0.1), 0.0)])[1][0][1] == "≥ 0"
