"""Posteriors and scores against the matrix products that they cannot do without.

Reference and subject read the same arrays in the same loop. "Centred data" leaves out the pass that
subtracts the mixture's centre and runs as part of a compiled program; every other row is the public
method as a user calls it, and its reference where it centres is the product and one read-and-write of
the data: in place, because a fresh array can cost more than the traffic. "Discriminant kept" is
`mixture.discriminant().posterior(x)` with the discriminant made once.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import jax
from cases import PRODUCT, Row, Sizes, data, dtypes, isotropic, matrices_for, product, variances_for
from cases import means_for as means
from timing import Measured, Work, in_turn, paired

import gmm_speciation as gs
from gmm_speciation.covariances import Full

SECTION = "theory against the product"
_SUBTRACT = jax.jit(lambda x, row: x - row[None, :], donate_argnums=0)
_KEPT = ", discriminant kept"
_DISPATCH = "what is left is the dispatch of the call and the softmax"


def _posterior(mixture: gs.GaussianMixture, x: jax.Array, kept: bool) -> Work:
    """The public method, on the mixture or on its discriminant, made beforehand."""
    law = jax.block_until_ready(mixture.discriminant()) if kept else mixture
    return lambda: law.posterior(x)


def _posterior_of_centred(mixture: gs.GaussianMixture, y: jax.Array) -> Work:
    """The posterior of data relative to the centre, its coefficients at hand."""
    form = jax.block_until_ready(mixture.discriminant().form)
    leaves, structure = jax.tree.flatten(form)

    @jax.jit
    def posterior(leaves, y):
        return jax.tree.unflatten(structure, leaves)(y, near=jax.nn.softmax)

    return lambda: posterior(leaves, y)


def _read_and_write(x: jax.Array, row: jax.Array) -> Work:
    """One pass over a copy of `x` that changes it in place."""
    held = [jax.block_until_ready(x + 0)]

    def work():
        held[0] = _SUBTRACT(held[0], row)
        return held[0]

    return work


def _shared(num_components: int, dim: int, dtype: type) -> gs.GaussianMixture:
    covariance = matrices_for(1, dim, dtype)[0]
    return gs.GaussianMixture.full(means(num_components, dim, dtype), covariance)


def _diagonal(num_components: int, dim: int, dtype: type) -> gs.GaussianMixture:
    variances = variances_for(num_components, dim, dtype)
    return gs.GaussianMixture.diagonal(means(num_components, dim, dtype), variances)


def _full(num_components: int, dim: int, dtype: type) -> gs.GaussianMixture:
    covariances = matrices_for(num_components, dim, dtype)
    return gs.GaussianMixture.full(means(num_components, dim, dtype), covariances)


def _product(x: jax.Array, mixture: gs.GaussianMixture) -> Work:
    weights = jax.block_until_ready(mixture.offsets.T.copy())
    return lambda: product()(x, weights)


def rows(sizes: Sizes) -> Iterator[Row]:
    """The rows of this subject."""
    n, d, large, effort = sizes.num_samples, sizes.dim, sizes.large_dim, sizes.effort

    def centred(make, num_components: int, dim: int, dtype: type) -> Measured:
        mixture = make(num_components, dim, dtype)
        y = jax.block_until_ready(mixture.centred(data(n, dim, dtype)))
        return paired(_posterior_of_centred(mixture, y), _product(y, mixture), effort)

    def with_centring(make, num_components: int, dim: int, dtype: type, kept: bool) -> Measured:
        mixture, x = make(num_components, dim, dtype), data(n, dim, dtype)
        reference = in_turn(_product(x, mixture), _read_and_write(x, mixture.centre))
        return paired(_posterior(mixture, x, kept), reference, effort)

    def two_products(num_components: int, dtype: type, kept: bool) -> Measured:
        mixture, x = _diagonal(num_components, d, dtype), data(n, d, dtype)
        one = _product(x, mixture)
        return paired(_posterior(mixture, x, kept), in_turn(one, one), effort)

    def square_products(num_components: int, dtype: type) -> Measured:
        mixture, x = _full(num_components, d, dtype), data(n, d, dtype)
        assert isinstance(mixture.covariance, Full)
        bases = list(mixture.covariance.basis)
        each = [lambda basis=basis: product()(x, basis) for basis in bases]
        return paired(lambda: mixture.posterior(x), in_turn(*each), effort)

    def score(num_components: int, dtype: type) -> Measured:
        mixture, x = isotropic(num_components, d, dtype), data(n, d, dtype)
        posterior = jax.block_until_ready(mixture.posterior(x))
        back = lambda: product()(posterior, mixture.offsets)  # noqa: E731
        return paired(lambda: mixture.score(x), in_turn(_product(x, mixture), back), effort)

    def density(num_components: int, dtype: type) -> Measured:
        mixture, x = isotropic(num_components, d, dtype), data(n, d, dtype)
        return paired(lambda: mixture.log_prob(x), lambda: mixture.posterior(x), effort)

    kinds = [
        ("isotropic posterior", isotropic, large),
        ("isotropic posterior", isotropic, d),
        ("shared full posterior", _shared, d),
    ]
    for kind, make, dim in kinds:
        turned = "the basis of d x d turns the K means twice a call" if make is _shared else ""
        for dtype in dtypes():
            name = f"{kind}, d = {dim}, {dtype.__name__}"
            for k in sizes.num_components:
                yield Row(
                    SECTION,
                    f"{name}, centred data",
                    f"K = {k}",
                    partial(centred, make, k, dim, dtype),
                    against=PRODUCT,
                    target=1.15,
                    reason=_DISPATCH,
                )
            for kept in (True, False) if make is _shared else (False,):
                for k in sizes.num_components:
                    yield Row(
                        SECTION,
                        f"{name}, with centring{_KEPT if kept else ''}",
                        f"K = {k}",
                        partial(with_centring, make, k, dim, dtype, kept),
                        against=f"{PRODUCT} + read-and-write",
                        target=1.15,
                        reason=_DISPATCH if kept else turned,
                    )
    for kept, dtype in itertools.product((True, False), dtypes()):
        for k in sizes.num_components:
            yield Row(
                SECTION,
                f"diagonal posterior, d = {d}, {dtype.__name__}{_KEPT if kept else ''}",
                f"K = {k}",
                partial(two_products, k, dtype, kept),
                against=f"2 {PRODUCT}",
                target=1.2,
                reason="squaring the data, and K d logarithms unless the coefficients are kept",
            )
    for dtype in dtypes():
        yield Row(
            SECTION,
            f"full posterior, d = {d}, {dtype.__name__}",
            "K = 10",
            partial(square_products, 10, dtype),
            against="K (n,d)@(d,d)",
            target=1.1,
        )
    work: Callable[[int, type], Measured]
    for kind, work, against, target, reason in (
        (
            "score",
            score,
            f"{PRODUCT} + (n,K)@(K,d)",
            1.15,
            "centring, and the term linear in x, read the data once more each",
        ),
        ("log-density", density, "posterior", 2.0, "its common square reads the data once more"),
    ):
        for dtype, k in itertools.product(dtypes(), sizes.num_components):
            yield Row(
                SECTION,
                f"isotropic {kind}, d = {d}, {dtype.__name__}",
                f"K = {k}",
                partial(work, k, dtype),
                against=against,
                target=target,
                reason=reason,
            )
