"""A fitted program, and what can be said of its precision."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import ArrayLike, Float, PyTree
from scipy import stats as st

from sciad._errors import OptionError, counted
from sciad._identifiability import Identifiability, identify
from sciad._regression import Natural, natural_covariance
from sciad._results import RESULTS
from sciad._waterfall import draw_waterfall, waterfall_words
from sciad.problems.separation import Separation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """A fitted program.

    Attributes
    ----------
    problem, program
        The problem, and the complete program with the estimates in place.
    names, values
        Scalar parameters and their estimates, in natural units.
    covariance
        Of `values`; see `fit`. NaN where the data do not determine the parameters.
    residuals
        Standardised residuals with the names and coordinates of the data; NaN where nothing was observed.
    diagnostics
        Numbers on the quality of the fit: ``converged``; ``distance`` to the optimum, in standard errors;
        ``log_likelihood``, ``aic`` and ``bic``; ``observations``, ``degrees_of_freedom``, ``reduced_chi_squared``;
        ``condition_number`` of the scaled Jacobian; and ``residual_tests``, by field.
    loss
        Negative log-likelihood at the estimate, and what priors add if they count; infinite if there is no estimate.
    result
        How the optimisation ended; in words, `message`.
    stats
        Starts, steps and seconds.
    warnings
        What a reader must know, in plain words.
    """

    problem: Any
    program: PyTree
    names: tuple[str, ...]
    values: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    residuals: xr.Dataset
    diagnostics: dict[str, Any]
    loss: float
    result: RESULTS
    stats: dict[str, Any]
    warnings: list[str]
    _natural: Natural = dataclasses.field(repr=False)
    _parts: Separation = dataclasses.field(repr=False)
    _vector: Float[np.ndarray, " d"] = dataclasses.field(repr=False)
    _covariance: Float[np.ndarray, "d d"] = dataclasses.field(repr=False)
    _weighted: Float[np.ndarray, "n p"] = dataclasses.field(repr=False)
    _noise_estimated: bool = dataclasses.field(repr=False)
    _resting: frozenset[int] = dataclasses.field(repr=False)

    @property
    def standard_errors(self) -> Float[np.ndarray, " k"]:
        """Square roots of the covariance's diagonal."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def message(self) -> str:
        """How the optimisation ended, in words."""
        return "Converged." if self.diagnostics["converged"] else self.warnings[0]

    def interval(self, level: float = 0.95) -> pd.DataFrame:
        """Return confidence limits of each scalar parameter: columns ``lower`` and ``upper``.

        They lie as many standard errors from the estimate as the quantile of Student's t says (of the normal law,
        where the noise is known), in unconstrained space, and are carried back: they respect the bounds.
        """
        lower, upper = self._natural.bounds(self._vector, self._covariance, self._quantile("interval", level))
        return pd.DataFrame({"lower": lower, "upper": upper}, index=list(self.names))

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Return estimates, standard errors and confidence limits, a row for each scalar parameter."""
        values = pd.DataFrame({"value": self.values, "standard_error": self.standard_errors}, index=list(self.names))
        return values.join(self.interval(level))

    def prediction(self, times: ArrayLike | Sequence[float] | None = None) -> xr.Dataset:
        """Return the predicted fields at `times`, or at those of the data."""
        mean = jax.jit(lambda vector: self._predict(vector, times))(self._vector)
        return self.problem.dataset(np.asarray(mean), times)

    def band(self, times: ArrayLike | Sequence[float] | None = None, level: float = 0.95) -> xr.Dataset:
        r"""Return confidence limits of the predicted fields, along ``limit``: ``lower``, ``upper``.

        To first order in the parameters: :math:`\operatorname{Var} \hat y = A C A^\top` with
        :math:`A = \partial \hat y/\partial u`. They hold the curve, not new observations, which scatter about it.
        """
        quantile = self._quantile("band", level)

        def predict(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
            mean = self._predict(vector, times)
            return mean, mean

        forward = self.problem.with_forward_sensitivities().solver.sensitivity == "forward"
        jacobian = jax.jacfwd if forward else jax.jacrev  # a mode that the user chose stays
        slopes, mean = jax.jit(jacobian(predict, has_aux=True))(self._vector)
        covariance = natural_covariance(np.asarray(slopes).reshape(-1, self._vector.size), self._covariance)
        away = quantile * np.sqrt(np.diag(covariance)).reshape(mean.shape)
        limits = self.problem.dataset(np.stack([mean - away, mean + away]), times, lead=("limit",))
        return limits.assign_coords(limit=["lower", "upper"])

    def identifiability(self) -> Identifiability:
        r"""Return which combinations of the equation's parameters the data determine, how well, and where.

        With F the expected information of the data about relative changes of the parameters,

        .. math:: F_{ij} = x_i x_j \sum_k I_k\, \partial_i \mu_k\, \partial_j \mu_k, \quad
                  F = V \operatorname{diag}(\sigma^2) V^\top,

        the standard error of the combination :math:`v_k \cdot \log x` is :math:`1/\sigma_k`, times
        :math:`\sqrt{n/(n-p)}` where the noise is estimated. A number that may be negative and is nearer to zero than
        ten of its standard errors is measured in these ten. No unit of a parameter or an observation matters.

        Raises
        ------
        InputError
            If the fit found no valid point, or the equation has no fitted parameter.

        Notes
        -----
        All is to first order, at this point: a profile (`sciad.profile`) goes further. The parameters of the noise are
        left out; the expected information ties them to no other.

        Source: R. N. Gutenkunst et al., *Universally sloppy parameter sensitivities in systems biology models*, PLoS
        Computational Biology 3 (2007).

        Examples
        --------
        >>> import equinox as eqx, jax, sciad as sd, xarray as xr
        >>> from numpyro.distributions import constraints
        >>> jax.config.update("jax_enable_x64", True)
        >>> hours = np.linspace(0.0, 4.0, 9)
        >>> data = xr.Dataset({"drug": ("hour", 8.0 * np.exp(-0.5 * hours))}, coords={"hour": hours})
        >>> class Product(eqx.Module):
        ...     a: sd.Param = sd.param(1.0, constraint=constraints.positive)
        ...     b: sd.Param = sd.param(0.4, constraint=constraints.positive)
        ...     def __call__(self, t, y):
        ...         return -self.a * self.b * y
        >>> problem = sd.ODEProblem(data, noise=sd.LogNormal(0.1), initial={"drug": 8.0})
        >>> found = sd.fit(problem, Product(), starts=0).identifiability()
        >>> print(found.advice[0])
        a and b act through a · b alone: fix one of them, or make that one parameter.
        """
        return identify(self)

    def waterfall(self) -> "Axes":
        """Draw where each descent ended, the best first: above the least loss, evenly up to one; returns the axes.

        A flat beginning means that several ways lead to the best answer.
        """
        import matplotlib.pyplot as plt

        losses = self.stats["polished_losses"]
        _, axes = plt.subplots(figsize=(5.0, 2.6), layout="constrained")
        draw_waterfall(axes, losses)
        axes.set_title(waterfall_words(losses), fontsize="medium")
        return axes

    def _predict(self, vector: jax.Array, times: ArrayLike | Sequence[float] | None) -> jax.Array:
        return self.problem.with_forward_sensitivities().predict(self._parts.full.program(vector), times).mean

    def _quantile(self, what: str, level: float) -> float:
        if not 0 < level < 1:
            msg = f"{what}(level={level}): expected a probability between 0 and 1, such as 0.95."
            raise OptionError(msg)
        free = self.diagnostics["degrees_of_freedom"]
        return float(st.t.ppf(0.5 + level / 2, max(free, 1)) if self._noise_estimated else st.norm.ppf(0.5 + level / 2))

    def __repr__(self) -> str:
        state = "converged" if self.diagnostics["converged"] else "not converged"
        counts = f"{counted(len(self.names), 'parameter')}, {counted(self.diagnostics['observations'], 'observation')}"
        told = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        state += ", priors counted" if self._parts.penalty is not None else ""
        return f"<Fit: {counts}, {state}, negative log-likelihood {-self.diagnostics['log_likelihood']:.6g}{told}>"

    def __str__(self) -> str:
        table = self.table().to_string(float_format="{:.4g}".format)
        counted_in = " (priors counted in the estimates)" if self._parts.penalty is not None else ""
        loss = f"negative log-likelihood {-self.diagnostics['log_likelihood']:.4f}{counted_in}"
        lines = [table, loss, self.message]
        return "\n".join(lines + [text for text in self.warnings if text != self.message])
