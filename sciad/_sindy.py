"""A learnt term read back as a formula, by sparse regression, and judged by the data."""

import dataclasses
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from sciad._errors import InputError, OptionError
from sciad._fit import fit
from sciad._fitted import Fit
from sciad._progress import Progress
from sciad._roles import Param, frozen, param
from sciad._vector import vectorize
from sciad.problems.ode import ODEProblem, ODEProgram
from sciad.problems.simulation import Setting, over_experiments, right_hand_side
from sciad.solvers.least_squares import LeastSquares

POINTS = 200  # along each experiment where the term is read
THRESHOLDS = np.geomspace(1e-3, 1.0, 40)  # of coefficients, features and outputs having root mean square one
RIDGE = 1e-6  # of the sparse regression
PURSUED = 6  # terms of an output that matching pursuit adds, at most
CANDIDATES, LONGEST = 12, 12  # formulas held against the data, and terms of each, at most
DESCENT = LeastSquares(starts=0, paths=0, max_steps=40, rounds=6)  # of a candidate, from the regression's coefficients

Where = str | Callable[[Any], Any]


class Feature(NamedTuple):
    """A function of the inputs: the product of their powers, or a named function of it."""

    powers: tuple[int, ...]
    function: str = ""

    def text(self, names: Sequence[str]) -> str:
        """Return the feature as a formula."""
        factors = [name if p == 1 else f"{name}^{p}" for name, p in zip(names, self.powers, strict=True) if p]
        product = " ".join(factors) or "1"
        return f"{self.function}({product})" if self.function else product


class Formula(eqx.Module):
    """A sum of features for each output, to stand where a network stood.

    Attributes
    ----------
    coefficients
        One for each term.
    mask
        One, or zero for a term that is left out.
    terms
        The output and the feature of each term.
    """

    coefficients: Param
    mask: Param
    terms: tuple[tuple[int, Feature], ...] = eqx.field(static=True)
    functions: tuple[tuple[str, Callable[[Array], Array]], ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the outputs, in the shape of the network's."""
        x, functions = jnp.ravel(x), dict(self.functions)
        total = jnp.zeros(int(np.prod(self.shape)), x.dtype)
        weights = jnp.asarray(self.coefficients) * jnp.asarray(self.mask)
        for weight, (output, feature) in zip(weights, self.terms, strict=True):
            total = total.at[output].add(weight * _value(feature, functions, x))
        return total.reshape(self.shape)

    def __str__(self) -> str:
        rows: list[list[str]] = [[] for _ in range(int(np.prod(self.shape)))]
        shown = np.asarray(jnp.asarray(self.coefficients) * jnp.asarray(self.mask))
        for weight, (output, feature) in zip(shown, self.terms, strict=True):
            text = feature.text(self.names)
            rows[output] += [f"{weight:.4g}" + ("" if text == "1" else f" {text}")] if weight else []
        return "\n".join(f"[{i}] " + (" + ".join(row).replace("+ -", "- ") or "0") for i, row in enumerate(rows))


def _value(feature: Feature, functions: Mapping[str, Callable[[Array], Array]], x: Array) -> Array:
    # Repeated products, since the derivative of a power is NaN at zero.
    product = jnp.ones((), x.dtype)
    for entry, power in zip(x, feature.powers, strict=True):
        for _ in range(power):
            product = product * entry
    return functions[feature.function](product) if feature.function else product


@dataclasses.dataclass(frozen=True, eq=False)
class Discovery:
    """A formula for a learnt term.

    Attributes
    ----------
    formula
        The best one, its coefficients fitted.
    fit
        The fit of the model with the formula in the term's place.
    candidates
        Formulas that were tried, a row each, the best first: number of ``terms``, ``log_likelihood``, ``bic``, and the
        ``formula`` in words.
    """

    formula: Formula
    fit: Fit
    candidates: pd.DataFrame

    def __str__(self) -> str:
        return str(self.formula)

    def __repr__(self) -> str:
        return f"<Discovery: {'; '.join(str(self.formula).splitlines())}>"


def sindy(
    fitted: Fit,
    term: Where,
    *,
    degree: int = 3,
    functions: Mapping[str, Callable[[Array], Array]] | None = None,
    names: Sequence[str] | None = None,
    progress: bool = True,
) -> Discovery:
    r"""Read a learnt term back as a sparse formula.

    Along the fitted trajectories the term's inputs x and outputs v are taken down. Sparse :math:`\xi` in
    :math:`v \approx \Theta(x)\,\xi`, for a library :math:`\Theta` of products of powers, come from sequentially
    thresholded least squares over a path of thresholds, and from orthogonal matching pursuit, which adds term by
    term. A network is wrong between data and where they say little, so that the regression's own misfit does not
    tell the right formula. Each candidate is therefore put in the term's place, all its coefficients and the model's
    other parameters are fitted to the data, and that of least :math:`\mathrm{BIC} = -2 \ell + k \log n` is taken, and
    again without each of its terms, until no term can go. Where priors counted in the fit, and parameters other than
    the term's have some, they count here too.

    Parameters
    ----------
    fitted
        A fit of a model that holds the term.
    term
        Where in the model: a dotted path, such as ``"network"``, or a function from the model to it. It must be called
        once, with one array.
    degree
        Highest total degree of the products.
    functions
        Functions of one number applied to each input, by name, such as ``{"sin": jnp.sin}``.
    names
        Of the inputs; default: the states, if there are as many, else ``x0, x1, …``.
    progress
        Whether to show progress on standard error, as `sciad.fit` does.

    Raises
    ------
    InputError
        If the model has no such term, or calls it otherwise, or the fit found no valid point.
    OptionError
        If `degree` is not a whole number from 0.
    ImportError
        Without the package pysindy.

    Notes
    -----
    Sources: S. L. Brunton, J. L. Proctor and J. N. Kutz, *Discovering governing equations from data by sparse
    identification of nonlinear dynamical systems*, PNAS 113 (2016); C. Rackauckas et al., *Universal Differential
    Equations for Scientific Machine Learning* (2020); matching pursuit as by S. A. Billings, *Nonlinear System
    Identification* (2013), chapter 3.

    Examples
    --------
    >>> import sciad as sd, xarray as xr
    >>> jax.config.update("jax_enable_x64", True)
    >>> t = np.linspace(0.0, 2.0, 21)
    >>> data = xr.Dataset({"y": ("t", 2.0 / (1.0 + 2.0 * t))}, coords={"t": t})  # y' = -y²
    >>> class Learnt(eqx.Module):
    ...     a: sd.Param = sd.param(-0.3)
    ...     b: sd.Param = sd.param(-0.8)
    ...     def __call__(self, y):
    ...         return self.a * y + self.b * y**2
    >>> class Model(eqx.Module):
    ...     rate: Learnt = Learnt()
    ...     def __call__(self, t, y):
    ...         return self.rate(y)
    >>> problem = sd.ODEProblem(data, noise=sd.Normal(0.01), initial={"y": 2.0})
    >>> print(sindy(sd.fit(problem, Model(), solver=sd.LeastSquares(starts=0, paths=0)), "rate"))
    [0] -1 y^2
    """
    if not isinstance(degree, int) or degree < 0:
        msg = f"sindy(degree={degree!r}): expected a whole number of at least 0, such as 3."
        raise OptionError(msg)
    if not np.isfinite(fitted.loss):
        msg = f"There is no term to read: {fitted.message}"
        raise InputError(msg)
    if fitted.problem.delay is not None:
        msg = "sindy reads terms of equations without delay."
        raise InputError(msg)
    # --- what the term does ---
    where = operator.attrgetter(term) if isinstance(term, str) else term
    problem, program = fitted.problem, fitted.program
    x, v = _taken_down(problem, program, where)
    empty = _empty(problem, x, v, degree, functions or {}, names)
    # --- candidates, held against the data ---
    judge = _Judge(problem, program, where, empty, priors=fitted._parts.penalty is not None)
    supports = sparse_supports(_features(empty, x), v.reshape(len(x), -1))
    tried: dict[bytes, _Candidate] = {}
    best, next_ones = None, supports
    with Progress(quiet=not progress, brief=True) as display:
        while best is None or next_ones:
            for done, support in enumerate(next_ones):
                display.update("formulas", len(tried), len(tried) + len(next_ones) - done)
                tried[support.tobytes()] = judge.fit(support, x, v)
            best = min(tried.values(), key=lambda candidate: candidate.bic)
            next_ones = [support for support in _without_one(best.support) if support.tobytes() not in tried]
    # --- the best, alone ---
    chosen = [i for i, used in enumerate(best.support) if used]
    weights = np.asarray(best.formula.coefficients)[chosen]
    formula = dataclasses.replace(
        empty,
        coefficients=param(weights),
        mask=frozen(np.ones(len(chosen))),
        terms=tuple(empty.terms[i] for i in chosen),
    )
    found = fit(problem, _placed(program, where, formula), solver=DESCENT, priors=judge.priors, progress=False)
    ranked = sorted(tried.values(), key=lambda candidate: candidate.bic)
    table = pd.DataFrame([candidate.row for candidate in ranked])
    return Discovery(where(found.program.model), found, table)


def _placed(program: ODEProgram, where: Callable[[Any], Any], formula: Any) -> ODEProgram:
    return eqx.tree_at(lambda p: where(p.model), program, formula)


def _taken_down(
    problem: ODEProblem, program: ODEProgram, where: Callable[[Any], Any]
) -> tuple[Float[np.ndarray, "n k"], np.ndarray]:
    """Return inputs and outputs of the term along all trajectories."""
    times = np.linspace(problem.t0, problem.observations.times[-1], POINTS)
    states = jax.jit(lambda: problem.states_at(program, times))()

    def one(model: PyTree, setting: Setting, states: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda t, y: _call(problem, model, setting, where, t, y))(jnp.asarray(times), states)

    x, v = jax.jit(lambda states: over_experiments(problem, one, program, states))(states)
    return np.asarray(x).reshape(-1, x.shape[-1]), np.asarray(v).reshape(-1, *v.shape[2:])


def _call(
    problem: ODEProblem, model: PyTree, setting: Setting, where: Callable[[Any], Any], t: Array, y: Array
) -> tuple[Array, Array]:
    """Return the argument and the value of the term in a call of the model."""
    calls = []
    try:
        learnt = where(model)
    except AttributeError as error:
        msg = f'The model has no such term: {error}. Name where it stands, such as "network".'
        raise InputError(msg) from error
    if not callable(learnt):
        msg = f"The term is a {type(learnt).__name__}; expected a callable part of the model, such as a network."
        raise InputError(msg)

    def recorder(*args: Any) -> Any:
        value = learnt(*args)
        calls.append((args, value))
        return value

    with_recorder = eqx.tree_at(where, model, recorder, is_leaf=lambda node: node is learnt)
    right_hand_side(problem, with_recorder, setting.inputs)(t, y)
    if len(calls) != 1 or len(calls[0][0]) != 1 or jnp.ndim(calls[0][0][0]) > 1:
        msg = f"The model calls the term {len(calls)} times"
        msg += f", with {len(calls[0][0])} arguments" if calls else ""
        msg += "; expected one call with one vector. Join what it depends on by jnp.stack."
        raise InputError(msg)
    ((x,), value) = calls[0]
    return jnp.ravel(jnp.asarray(x)), jnp.asarray(value)


def _empty(
    problem: ODEProblem,
    x: np.ndarray,
    v: np.ndarray,
    degree: int,
    functions: Mapping[str, Callable[[Array], Array]],
    names: Sequence[str] | None,
) -> Formula:
    """Return the formula of all features, its coefficients zero."""
    inputs, outputs = x.shape[1], int(np.prod(v.shape[1:]))
    default = problem.states if len(problem.states) == inputs else [f"x{i}" for i in range(inputs)]
    names = tuple(default if names is None else names)
    if len(names) != inputs:
        msg = f"`names` has {len(names)} entries; the term has {inputs} inputs."
        raise InputError(msg)
    features = [*_products(inputs, degree)]
    features += [Feature(tuple(row), name) for name in functions for row in np.eye(inputs, dtype=int).tolist()]
    terms = tuple((output, feature) for output in range(outputs) for feature in features)
    zeros = np.zeros(len(terms))
    return Formula(param(zeros), frozen(zeros), terms, tuple(functions.items()), names, v.shape[1:])


def _products(inputs: int, degree: int) -> Iterator[Feature]:
    for total in range(degree + 1):
        for chosen in combinations_with_replacement(range(inputs), total):
            yield Feature(tuple(chosen.count(i) for i in range(inputs)))


def _features(formula: Formula, x: np.ndarray) -> Float[np.ndarray, "n k"]:
    """Return the values of one output's features."""
    features, functions = [feature for output, feature in formula.terms if output == 0], dict(formula.functions)
    found = np.asarray(jax.vmap(lambda x: jnp.stack([_value(f, functions, x) for f in features]))(jnp.asarray(x)))
    bad = [f.text(formula.names) for f, column in zip(features, found.T, strict=True) if not np.isfinite(column).all()]
    if bad:
        msg = f"{', '.join(bad)} is not finite all along the trajectories: leave it out of the library."
        raise InputError(msg)
    return found


def sparse_supports(theta: np.ndarray, v: Float[np.ndarray, "n outputs"]) -> list[Bool[np.ndarray, " terms"]]:
    """Return distinct supports from thresholded least squares and from matching pursuit, the sparsest first."""
    try:
        from pysindy import STLSQ
        from sklearn.linear_model import orthogonal_mp
    except ImportError as error:
        msg = "sciad.sindy needs the package pysindy: pip install 'sciad[sindy]'."
        raise ImportError(msg) from error
    size = np.sqrt(np.mean(theta**2, axis=0))
    theta, v = theta / np.where(size > 0, size, 1.0), v / np.maximum(np.sqrt(np.mean(v**2, axis=0)), 1e-300)
    supports = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of thresholds that leave nothing, and of features that depend on each other
        for threshold in THRESHOLDS:
            fitted = STLSQ(threshold=threshold, alpha=RIDGE, unbias=False).fit(theta, v)
            supports.append(np.asarray(fitted.coef_ != 0).ravel())
        for terms in range(1, min(PURSUED, theta.shape[1]) + 1):
            columns = [orthogonal_mp(theta, column, n_nonzero_coefs=terms) for column in v.T]
            supports.append(np.concatenate([np.asarray(column) != 0 for column in columns]))
    found = {support.tobytes(): support for support in supports}
    short = [support for support in found.values() if support.sum() <= LONGEST]
    return sorted(short or found.values(), key=np.sum)[:CANDIDATES]


def _without_one(support: Bool[np.ndarray, " terms"]) -> list[Bool[np.ndarray, " terms"]]:
    return [support & (np.arange(support.size) != i) for i in np.flatnonzero(support)]


class _Candidate(NamedTuple):
    support: Bool[np.ndarray, " terms"]
    formula: Formula
    row: dict[str, Any]

    @property
    def bic(self) -> float:
        return self.row["bic"]


class _Judge:
    """Fits formulas to the data: masks of one formula, so that all are compiled once."""

    def __init__(
        self, problem: ODEProblem, program: ODEProgram, where: Callable[[Any], Any], empty: Formula, *, priors: bool
    ) -> None:
        self._problem, self._program, self._where, self._empty = problem, program, where, empty
        sites = vectorize(_placed(program, where, empty)).sites.values()
        self.priors = priors and any(site.prior is not None for site in sites)

    def fit(self, support: Bool[np.ndarray, " terms"], x: ArrayLike, v: np.ndarray) -> _Candidate:
        """Fit from the regression's coefficients."""
        weights = np.zeros(support.size)
        theta, v = _features(self._empty, np.asarray(x)), v.reshape(len(v), -1)
        for output, used in enumerate(support.reshape(v.shape[1], -1)):
            weights.reshape(v.shape[1], -1)[output, used] = np.linalg.lstsq(theta[:, used], v[:, output])[0]
        start = dataclasses.replace(self._empty, coefficients=param(weights), mask=frozen(support.astype(float)))
        program = _placed(self._program, self._where, start)
        found = fit(self._problem, program, solver=DESCENT, priors=self.priors, progress=False)
        formula, n = self._where(found.program.model), found.diagnostics["observations"]
        effective = n - found.diagnostics["degrees_of_freedom"] + found._parts.noise.size
        # Where priors count the number is by what the data see, and a term that is left out is not seen.
        parameters = effective - (0 if self.priors else int(support.size - support.sum()))
        log_likelihood = found.diagnostics["log_likelihood"]
        bic = -2 * log_likelihood + np.log(n) * parameters if np.isfinite(found.loss) else np.inf
        text = "; ".join(str(formula).splitlines())
        row = {"terms": int(support.sum()), "log_likelihood": log_likelihood, "bic": bic, "formula": text}
        return _Candidate(support, formula, row)
