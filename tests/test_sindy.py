"""Learnt terms read back as formulas."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import sciad as sd
from sciad._roles import unwrap

pytest.importorskip("pysindy")


class Cubic(eqx.Module):
    """A flexible term that can be right, with more to it than is needed."""

    weights: sd.Param = sd.param([0.1, -0.3, -0.7, 0.0])

    def __call__(self, x):
        (y,) = x
        return jnp.stack([jnp.dot(jnp.asarray(self.weights), y ** jnp.arange(4.0))])


class Model(eqx.Module):
    term: eqx.Module

    def __call__(self, t, y):
        del t
        return self.term(y)


class Calls(eqx.Module):
    term: eqx.Module
    how: str = eqx.field(static=True)

    def __call__(self, t, y):
        match self.how:
            case "never":
                return -y
            case "twice":
                return self.term(y) + self.term(2 * y)
            case _:
                return self.term(y, t)


class Two(eqx.Module):
    rate: sd.Param = sd.param(-0.9)

    def __call__(self, y, t=0.0):
        del t
        return self.rate * y


@pytest.fixture(scope="module")
def found():
    t = np.linspace(0.0, 2.0, 21)
    scatter = 0.005 * np.random.default_rng(3).standard_normal(21)
    data = xr.Dataset({"y": ("t", 2.0 / (1.0 + 2.0 * t) + scatter)}, coords={"t": t})  # y' = -y²
    problem = sd.ODEProblem(data, noise=sd.Normal(0.005), initial={"y": 2.0})
    fitted = sd.fit(problem, Model(Cubic()), solver=sd.LeastSquares(starts=0, paths=0))
    return fitted, sd.sindy(fitted, "term")


@pytest.mark.slow
def test_a_square_is_found_in_a_cubic_that_fitted_noise(found):
    fitted, formula = found
    assert [feature.powers for _, feature in formula.formula.terms] == [(2,)]
    (value,), (error,) = formula.fit.values, formula.fit.standard_errors
    assert abs(value + 1.0) < 4 * error < 0.1
    assert formula.candidates["bic"].is_monotonic_increasing
    assert formula.fit.diagnostics["bic"] == pytest.approx(formula.candidates["bic"].iloc[0], abs=1e-6)
    assert formula.fit.diagnostics["bic"] < fitted.diagnostics["bic"]
    assert str(formula).startswith("[0] -")
    assert str(formula).endswith("y^2")
    assert repr(formula) == f"<Discovery: {formula}>"


def test_the_formula_stands_where_the_term_stood(found):
    _, formula = found
    model = unwrap(formula.fit.program).model
    y = jnp.array([1.7])
    np.testing.assert_allclose(model(0.0, y), formula.fit.values[0] * y**2, rtol=1e-12)
    slope = jax.jit(jax.jacfwd(model.term))(jnp.zeros(1))
    np.testing.assert_allclose(slope, 0.0)  # and is no NaN at zero


@pytest.mark.slow
def test_functions_have_a_place_in_the_library(found):
    fitted, _ = found
    formula = sd.sindy(fitted, lambda model: model.term, degree=0, functions={"square": jnp.square}, names=["mass"])
    assert str(formula).endswith("square(mass)")


@pytest.mark.parametrize(
    ("how", "message"),
    [("never", "calls the term 0 times"), ("twice", "calls the term 2 times"), ("both", "with 2 arguments")],
)
def test_terms_called_otherwise_are_refused(found, how, message):
    fitted, _ = found
    problem = fitted.problem
    other = sd.fit(problem, Calls(Two(), how), solver=sd.LeastSquares(starts=0, paths=0, max_steps=2))
    with pytest.raises(sd.InputError, match=message):
        sd.sindy(other, "term")


def test_bad_questions(found):
    fitted, _ = found
    with pytest.raises(sd.InputError, match=r"no such term: .*nets"):
        sd.sindy(fitted, "nets")
    with pytest.raises(sd.InputError, match="The term is a"):
        sd.sindy(fitted, "term.weights")
    with pytest.raises(sd.OptionError, match="degree=-1"):
        sd.sindy(fitted, "term", degree=-1)
    with pytest.raises(sd.InputError, match=r"bad\(y\) is not finite"):
        sd.sindy(fitted, "term", functions={"bad": lambda y: y / 0.0})
    with pytest.raises(sd.InputError, match="`names` has 2 entries; the term has 1 inputs"):
        sd.sindy(fitted, "term", names=["a", "b"])
