"""Gaussian mixtures, closed under the forward process.

    p(x) = sum_k w_k N(x; mu_k, Sigma_k),    law of alpha x + sigma eps:
    p_t(x) = sum_k w_k N(x; alpha mu_k, alpha^2 Sigma_k + sigma^2 I).

The noisy law is a `GaussianMixture` again, so posterior, score and entropy need no time argument.

Numerics. The means are kept as a centre and offsets from it, and data are centred before any product:
in float32 a common shift of all coordinates then costs no digits. The centre is a short number near
the middle of the means, so that taking it off is exact. The posterior is a softmax of log-odds in which
what is common to all components cancels before it is formed, and densities start from the likeliest
component of each point (`covariances.contrasts`): the order of the components does not matter.
Variances are floored at `eps^2` times the squared scale of the mixture, the size of rounding itself,
so that singular covariances without noise give certain posteriors instead of NaN; a mixture so narrow
that its inverse variances overflow is refused. Half precision
becomes float32.

Everything here is safe under jit, vmap and grad; the densities and scores compile themselves once
for each shape of their input. Axes: K components, d dimension.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gmm_speciation import checks, parameters
from gmm_speciation.checks import ArrayLike, as_float_array, known, light, require, state_method
from gmm_speciation.covariances import (
    Covariance,
    Diagonal,
    Full,
    Isotropic,
    LowRank,
    add_row,
    product,
)
from gmm_speciation.discriminants import Discriminant


class Moments(eqx.Module):
    """Mean `(d,)` and covariance `(d, d)` of a mixture."""

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]


class GaussianMixture(eqx.Module):
    """`p(x) = sum_k w_k N(x; mu_k, Sigma_k)`. Methods take `x` of shape `(*batch, d)`, a JAX array or
    one of another library (numpy, torch).

    Build one by `isotropic`, `diagonal`, `full` or `low_rank`.
    """

    log_weights: Float[Array, " K"]  # normalised; -inf for weight 0
    centre: Float[Array, " d"]
    # Means minus centre. No default but the one that lets three arguments be refused by name.
    offsets: Float[Array, "K d"] = eqx.field(default=None)
    covariance: Covariance = eqx.field(default=None)

    def __check_init__(self):
        if not isinstance(self.covariance, Covariance):
            raise TypeError(parameters.NOT_THE_CONSTRUCTOR)
        if self.log_weights.shape[0] != self.offsets.shape[0]:
            raise ValueError(
                "Weights and means must agree on the number of components; got "
                f"{self.log_weights.shape[0]} weights and {self.offsets.shape[0]} means."
            )
        if self.covariance.num_matrices not in (1, self.offsets.shape[0]):
            raise ValueError(
                f"There must be one covariance or one a component ({self.offsets.shape[0]}); "
                f"got {self.covariance.num_matrices}."
            )

    @classmethod
    def isotropic(
        cls, means: ArrayLike, variance: ArrayLike, weights: ArrayLike | None = None
    ) -> "GaussianMixture":
        """Components `N(mu_k, v_k I)`.

        Args:
            means: `(K, d)`.
            variance: One number, or `(K,)`; equal concrete values are kept as one, shared.
            weights: `(K,)`, summing to 1; equal by default.

        Raises:
            ValueError: If shapes disagree, a variance is negative, a weight is negative, the
                weights do not sum to 1, or a value is NaN.
        """
        mu = parameters.finite_means(means)
        return cls.of(mu, weights, Isotropic(parameters.variances(variance, mu)))

    @classmethod
    def diagonal(
        cls, means: ArrayLike, variances: ArrayLike, weights: ArrayLike | None = None
    ) -> "GaussianMixture":
        """Components `N(mu_k, diag(v_k))`.

        Args:
            means: `(K, d)`.
            variances: `(K, d)`, or `(d,)` for one that all components share.
            weights: `(K,)`, summing to 1; equal by default.

        Raises:
            ValueError: As `isotropic`.
        """
        mu = parameters.finite_means(means)
        v = as_float_array(variances, "variances").astype(mu.dtype)
        if v.shape not in (mu.shape, mu.shape[1:]):
            raise ValueError(
                f"`variances` must have shape {mu.shape} or {mu.shape[1:]}; got {v.shape}."
            )
        v = require(v, (known(v) >= 0).all(), "`variances` must not be negative.")
        return cls.of(
            mu, weights, Diagonal(parameters.shared_if_equal(known(v).reshape(-1, mu.shape[1])))
        )

    @classmethod
    def full(
        cls, means: ArrayLike, covariances: ArrayLike, weights: ArrayLike | None = None
    ) -> "GaussianMixture":
        """Components `N(mu_k, Sigma_k)`; each covariance is factorised once, here.

        Args:
            means: `(K, d)`.
            covariances: `(K, d, d)`, or `(d, d)` for one that all components share; symmetric
                positive semi-definite.
            weights: `(K,)`, summing to 1; equal by default.

        Raises:
            ValueError: As `isotropic`, or if a covariance is not symmetric positive semi-definite.
        """
        mu = parameters.finite_means(means)
        num_components, dim = mu.shape
        given = as_float_array(covariances, "covariances").astype(mu.dtype)
        if given.shape not in ((num_components, dim, dim), (dim, dim)):
            raise ValueError(
                f"`covariances` must have shape {(num_components, dim, dim)} or {(dim, dim)}; "
                f"got {given.shape}."
            )
        stack = known(parameters.shared_if_equal(known(given).reshape(-1, dim, dim)))
        tolerance = 100 * dim * jnp.finfo(mu.dtype).eps * abs(stack).max()
        stack = require(
            stack,
            (abs(stack - stack.mT) <= tolerance).all(),
            "`covariances` must be symmetric; symmetrise with `(c + c.swapaxes(-1, -2)) / 2`.",
        )
        covariance = Full.from_matrices(jnp.asarray((stack + stack.mT) / 2, mu.dtype))
        spectrum = require(
            covariance.spectrum,
            known(covariance.spectrum).min() >= -tolerance,
            "`covariances` must be positive semi-definite; an eigenvalue is negative. "
            "Clip the spectrum, or check that each is a covariance and not a precision or a root.",
        )
        # Eigenvalues below 0 by rounding are 0.
        spectrum = jnp.asarray(known(spectrum).clip(0.0), mu.dtype)
        return cls.of(mu, weights, Full(spectrum, covariance.basis))

    @classmethod
    def low_rank(
        cls,
        means: ArrayLike,
        factors: ArrayLike,
        variance: ArrayLike,
        weights: ArrayLike | None = None,
    ) -> "GaussianMixture":
        """Components `N(mu_k, F_k F_k^T + v_k I)`, never as d x d arrays.

        Args:
            means: `(K, d)`.
            factors: `(K, d, r)`, or `(d, r)` for one that all components share.
            variance: One number, or `(K,)`.
            weights: `(K,)`, summing to 1; equal by default.

        Raises:
            ValueError: As `isotropic`.
        """
        mu = parameters.finite_means(means)
        given = as_float_array(factors, "factors").astype(mu.dtype)
        if given.shape[:-1] not in (mu.shape, mu.shape[1:]):
            raise ValueError(
                f"`factors` must have shape ({mu.shape[0]}, {mu.shape[1]}, r) or "
                f"({mu.shape[1]}, r); got {given.shape}."
            )
        each = known(given) if given.ndim == 3 else known(given)[None]
        stack = parameters.shared_if_equal(each)
        v = parameters.variances(variance, mu)
        count = max(len(stack), len(v))
        stack, v = (
            part if len(part) == count else jnp.broadcast_to(part, (count, *part.shape[1:]))
            for part in (stack, v)
        )
        return cls.of(mu, weights, LowRank.from_factors(stack, v))

    @classmethod
    def of(
        cls, means: Array, weights: ArrayLike | None, covariance: Covariance
    ) -> "GaussianMixture":
        """Of finite means `(K, d)`, weights `(K,)` and a covariance that is factorised already."""
        extent = parameters.extent(means, covariance.largest_eigenvalue())
        means = parameters.in_range(means, extent)
        centre = parameters.short_centre(means)
        log_weights = parameters.log_weights(weights, means)
        offsets = jnp.asarray(known(means) - known(centre)[None, :], means.dtype)
        return cls(log_weights, centre, offsets, covariance)

    @property
    def num_components(self) -> int:
        return self.offsets.shape[0]

    @property
    def dim(self) -> int:
        return self.offsets.shape[1]

    @property
    def means(self) -> Float[Array, "K d"]:
        return self.centre[None, :] + self.offsets

    @property
    def weights(self) -> Float[Array, " K"]:
        return jnp.exp(self.log_weights)

    @light
    def perturb(self, alpha, sigma) -> "GaussianMixture":
        """Law of `alpha x + sigma eps`, `eps ~ N(0, I)`: again a mixture. Of one level, two numbers."""
        return self._perturbed(*checks.as_level(alpha, sigma, self.centre.dtype))

    @jax.jit
    def _perturbed(self, alpha: Array, sigma: Array) -> "GaussianMixture":
        return GaussianMixture(
            self.log_weights,
            alpha * self.centre,
            alpha * self.offsets,
            self.covariance.perturb(alpha, sigma),
        )

    def regularised(self) -> Covariance:
        """The covariance with its spectrum floored at rounding size, so that it can be inverted."""
        info = jnp.finfo(self.centre.dtype)
        apart = self.offsets - self.offsets.mean(0, keepdims=True)
        # In units of the largest coordinate: squares of the offsets themselves may overflow.
        unit = jnp.maximum(jnp.max(jnp.abs(apart)), info.tiny)
        length = unit * jnp.sqrt(jnp.max(jnp.sum((apart / unit) ** 2, -1)))
        # Never so small that the square of its inverse overflows.
        root = jnp.maximum(info.eps * length, info.tiny**0.25)
        floor = root**2 + info.eps**2 * self.covariance.largest_eigenvalue()
        floor = jax.lax.stop_gradient(floor)  # where all means are one its length has no derivative
        return self.covariance.map(lambda eigenvalue: jnp.maximum(eigenvalue, floor))

    def precision(self) -> Covariance:
        """`Sigma_k^{-1}` of the regularised covariance."""
        return self.regularised().map(lambda eigenvalue: 1 / eigenvalue)

    def centred(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        """`x` minus the centre, a number near the middle of the means: what every product works on."""
        return add_row(x, -self.centre)

    def _of_log_odds(
        self,
        x: Array,
        make: Callable[[Array], Array],
        far: Callable[[Array], Array] | None = None,
        *,
        about_centre: bool = False,
    ) -> Array:
        """What `make` makes of the log-odds, which have a part at each x that all components share; `far`
        where they were taken by differences, if given."""
        precision = self.precision()
        form = precision.contrast_form(self.offsets, self.log_weights)
        if form is not None:
            return form(x, None if about_centre else self.centre, make, far)
        return make(self._squared_log_odds(precision, x if about_centre else self.centred(x))[0])

    def _squared_log_odds(self, precision: Covariance, y: Array) -> tuple[Array, Array]:
        """Log-odds where each component takes d^2 products, and `(y - nu_k)^T P_k (y - nu_k)`."""
        relative, squares = precision.squares(y, self.offsets)
        volume = precision.log_determinant(self.dim)
        log_prior = self.log_weights + (volume - jnp.min(volume, keepdims=True)) / 2
        return add_row(-relative / 2, log_prior), squares

    @state_method
    def log_posterior(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`log p(k | x)`; -inf for a component of weight 0."""
        return self._of_log_odds(x, jax.nn.log_softmax)

    def log_posterior_about_centre(self, y: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`log p(k | centre + y)`, for states that are centred already."""
        return self._of_log_odds(y, jax.nn.log_softmax, about_centre=True)

    @state_method
    def posterior(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch K"]:
        """`p(k | x)`, the probability that component k made `x`."""
        return self._of_log_odds(x, jax.nn.softmax)

    @eqx.filter_jit
    def discriminant(self) -> Discriminant:
        """The posterior with its coefficients worked out, for many batches at one noise level.

        Raises:
            ValueError: If the components have covariances that differ and are not diagonal.
        """
        form = self.precision().contrast_form(self.offsets, self.log_weights)
        if form is None:
            raise ValueError(
                "A discriminant keeps diagonal precisions, or one that all components share; these "
                f"are {self.covariance.num_matrices} {self.covariance.kind} ones. "
                "Use `posterior`."
            )
        return Discriminant(self.centre, form)

    @state_method
    def log_prob(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
        """`log p(x)`, nats."""
        precision = self.precision()
        form = precision.contrast_form(self.offsets, self.log_weights)

        def log_constant(matrices: Covariance) -> Array:
            return (matrices.log_determinant(self.dim) - self.dim * jnp.log(2 * jnp.pi)) / 2

        def of_likeliest(log_odds: Array, squares: Array | None = None) -> Array:
            likeliest = jnp.argmax(log_odds, -1)
            if squares is None:
                square = precision.quadratic(self.centred(x) - self.offsets[likeliest], likeliest)
            else:
                square = jnp.take_along_axis(squares, likeliest[..., None], -1)[..., 0]
            log_joint = (self.log_weights + log_constant(precision))[likeliest] - square / 2
            others = log_odds - jnp.take_along_axis(log_odds, likeliest[..., None], -1)
            return log_joint + jnp.log(jnp.sum(jnp.exp(others), -1))

        # Odds of two are those of the second: where the first is the sharper one its density cancels.
        if form is None or (self.num_components == 2 and not precision.shared):
            return of_likeliest(*self._squared_log_odds(precision, self.centred(x)))
        # Outside the branches of the form: beside its product, both would wait for y in memory.
        common = precision.flattest()
        square = common.quadratic(add_row(self.centred(x), -form.reference[0]))

        def of_common(log_odds: Array) -> Array:
            # Not `logsumexp`, whose guard of infinities keeps XLA from one pass over the data.
            largest = jax.lax.stop_gradient(jnp.max(log_odds, -1))
            total = jnp.sum(jnp.exp(log_odds - largest[..., None]), -1)
            return log_constant(common)[0] - square / 2 + largest + jnp.log(total)

        return form(x, self.centre, of_common, of_likeliest)

    @state_method
    def score(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        """`grad_x log p(x)`, the posterior average of the component scores."""
        precision = self.precision()

        def average(log_odds: Array) -> Array:
            y, posterior = self.centred(x), jax.nn.softmax(log_odds)
            return -precision.weighted_apply(y, self.offsets, posterior, sum_to_one=True)

        def by_differences(log_odds: Array) -> Array:
            # That of the likeliest component from its own mean, and the contrasts of the others to it.
            y, posterior = self.centred(x), jax.nn.softmax(log_odds)
            likeliest = jnp.argmax(log_odds, -1)
            own = jax.nn.one_hot(likeliest, self.num_components, dtype=y.dtype)
            others = jnp.where(own > 0, 0.0, posterior)
            contrast = others - own * others.sum(-1, keepdims=True)
            residual = y - self.offsets[likeliest]
            first = precision.weighted_apply(residual, 0 * self.offsets, own, sum_to_one=True)
            return -first - precision.weighted_apply(y, self.offsets, contrast)

        return self._of_log_odds(x, average, by_differences)

    def sample(
        self, key: PRNGKeyArray, num_samples: int
    ) -> tuple[Float[Array, "n d"], Int[Array, " n"]]:
        """Independent draws `x` `(n, d)` and the components `(n,)` that made them.

        Raises:
            ValueError: If `num_samples` is not a whole number of at least 0.
        """
        return self._sample(checks.as_key(key), checks.as_count(num_samples, "num_samples", 0))

    @eqx.filter_jit
    def _sample(self, key, num_samples):
        key_component, key_normal = jax.random.split(key)
        component = jax.random.categorical(key_component, self.log_weights, shape=(num_samples,))
        y = self.covariance.sample(key_normal, self.offsets, component)
        return add_row(y, self.centre), component

    def moments(self) -> Moments:
        """Mean and covariance of the mixture, dense: for moderate d."""
        mean_offset = product(self.weights, self.offsets)
        spread = self.offsets - mean_offset[None, :]
        within = jnp.einsum(
            "k,kij->ij",
            self.weights if not self.covariance.shared else jnp.ones_like(self.weights[:1]),
            self.covariance.matrices(self.dim),
            precision="highest",
        )
        between = product((self.weights[:, None] * spread).T, spread)
        return Moments(self.centre + mean_offset, within + between)
