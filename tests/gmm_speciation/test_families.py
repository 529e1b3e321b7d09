"""Named mixtures have the geometry their names promise."""

import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import families


def _distances(means):
    return np.linalg.norm(means[:, None] - means[None], axis=-1)


def test_symmetric_pair():
    mixture = families.symmetric_pair(9, 2.0, 0.5)
    np.testing.assert_allclose(np.sum(np.asarray(mixture.means) ** 2, -1), 36.0)
    np.testing.assert_allclose(mixture.moments().mean, 0.0, atol=1e-12)


@pytest.mark.parametrize("num", [1, 2, 5, 17])
def test_equidistant(num):
    mixture = families.equidistant(num, 20, 3.0)
    distances = _distances(np.asarray(mixture.means))
    np.testing.assert_allclose(distances, 3.0 * (1 - np.eye(num)), atol=1e-12)
    np.testing.assert_allclose(mixture.means.mean(0), 0.0, atol=1e-12)


def test_equidistant_points_are_the_same_on_every_processor():
    """A triangle and a tetrahedron of side 1 by hand; a basis of a solver depends on its processor."""
    h = np.sqrt(3) / 6  # inradius of the triangle
    triangle = np.array([[-0.5, -h], [0.5, -h], [0.0, 2 * h]])
    np.testing.assert_allclose(families.equidistant(3, 2, 1.0).means, triangle, atol=1e-15)
    r = 1 / np.sqrt(24)  # inradius of the tetrahedron
    corners = np.concatenate([np.c_[triangle, -r * np.ones(3)], [[0.0, 0.0, 3 * r]]])
    np.testing.assert_allclose(families.equidistant(4, 3, 1.0).means, corners, atol=1e-15)


def test_hierarchy():
    mixture, levels = families.hierarchy((2, 3), (10.0, 1.0), 7)
    assert [p.num_classes for p in levels] == [2, 6]
    assert levels[1].refines(levels[0])
    distances = _distances(np.asarray(mixture.means))
    group = np.array(levels[0].labels)
    same = group[:, None] == group[None]
    siblings = distances[same & ~np.eye(6, dtype=bool)]
    np.testing.assert_allclose(siblings, 1.0)
    centres = np.stack([np.asarray(mixture.means)[group == g].mean(0) for g in (0, 1)])
    np.testing.assert_allclose(np.linalg.norm(centres[0] - centres[1]), 10.0)


def test_empirical_and_equal_means(rng):
    points = rng.normal(size=(6, 2))
    np.testing.assert_allclose(families.empirical(points).means, points)
    mixture = families.equal_means(8, [0.5, 1.5])
    np.testing.assert_allclose(np.diag(mixture.moments().covariance), 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: families.symmetric_pair(0), "at least 1"),
        (lambda: families.symmetric_pair(4, -1.0), "positive"),
        (lambda: families.equidistant(5, 3, 1.0), "num_classes - 1"),
        (lambda: families.hierarchy((2,), (1.0, 2.0), 8), "one entry a level"),
        (lambda: families.hierarchy((1,), (1.0,), 8), "at least 2"),
        (lambda: families.equal_means(4, [-1.0]), "negative"),
        (lambda: families.empirical([[np.nan]]), "NaN"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_family_works_in_the_pipeline():
    for mixture in (families.symmetric_pair(4), families.equal_means(64, [0.2, 2.0])):
        curve = gs.entropy_curve(mixture, gs.transition_grid(mixture), num_samples=2048)
        assert 0 < curve.window().mass < 1


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda n: families.hierarchy((n, 2), (2.0, 1.0), 8), "branching"),
        (lambda n: families.equidistant(n, 8, 1.0), "num_classes"),
        (lambda n: gs.hopfield.equidistant_patterns(n), "num_patterns"),
        (lambda n: gs.hopfield.random_patterns(n, 3), "num_patterns"),
        (lambda n: gs.hopfield.random_patterns(3, n), "dim"),
        (lambda n: gs.hopfield.digit_patterns(n), "num_patterns"),
        (lambda n: gs.hopfield.retrieve(np.eye(3), np.ones(3), 1.0, n), "num_steps"),
        (lambda n: gs.hopfield.hysteresis_loop(np.eye(3), n, [1.0, 2.0, 3.0]), "index"),
        (lambda n: gs.hopfield.Network(np.eye(3)).pattern(n), "index"),
        (lambda n: gs.DDPM.linear(num_steps=n), "num_steps"),
        (lambda n: gs.DDPM.scaled_linear(num_steps=n), "num_steps"),
    ],
)
@pytest.mark.parametrize("count", [2.5, -1, np.nan])
def test_a_count_is_a_whole_number(call, name, count, unchecked):
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number of .*; got {count}"):
        call(count)
