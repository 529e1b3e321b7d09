"""Classes as groups of components."""

import jax.numpy as jnp
import numpy as np
import pytest

import gmm_speciation as gs


def test_log_sum_is_the_sum_of_members(rng):
    partition = gs.Partition([0, 1, 0, 2, 1])
    values = rng.normal(size=(4, 5)) * 300  # far beyond what exp can hold
    ours = partition.log_sum(jnp.asarray(values))
    members = np.array(partition.labels)
    for c in range(3):
        expected = np.logaddexp.reduce(values[:, members == c], -1)
        np.testing.assert_allclose(ours[:, c], expected, rtol=1e-12)
    assert partition.log_sum(jnp.full((5,), -jnp.inf)).tolist() == [-np.inf] * 3


def test_hierarchies_must_refine():
    coarse, fine = gs.Partition([0, 0, 1, 1]), gs.Partition([0, 1, 2, 2])
    assert fine.refines(coarse)
    assert not coarse.refines(fine)
    assert fine.refines(list(coarse.labels))
    assert len(gs.Hierarchy([coarse, fine])) == 2
    with pytest.raises(ValueError, match="Level 1 must refine level 0"):
        gs.Hierarchy([fine, coarse])
    with pytest.raises(ValueError, match="at least one"):
        gs.Hierarchy([])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2], "Class 1 is empty"),
        ([0, 10**15], "Class 1 is empty"),  # refused before anything is as large as a label says
        ([-1, 0], "0..C-1"),
        ([0.0, 1.0], "integer"),
        ([], "integer"),
        ([[0, 1]], "integer"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        gs.Partition(labels)


def test_names_and_sizes_are_checked():
    with pytest.raises(ValueError, match="one name a class"):
        gs.Partition([0, 1], names=("only",))
    mixture = gs.families.equidistant(3, 4, 1.0)
    with pytest.raises(ValueError, match="each of the 3 components or classes; got labels of 2"):
        gs.class_posterior(mixture, jnp.zeros(4), gs.Partition([0, 1]))
