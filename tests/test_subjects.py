# ruff: noqa: ARG002, ARG005  (a right-hand side takes t and y, whatever it uses)
"""Several experiments in one problem: what they share, what each has of its own, and what a population says of both."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.distributions import constraints
from scipy import stats as st

import sciad as sd
from sciad._posterior import scalars
from sciad.app.priors import prior_curves
from sciad.problems.easing import nudged, shortened, thinned

RNG = np.random.default_rng(7)
ACCURATE = sd.ODE(rtol=1e-10, atol=1e-10)
ALONE = sd.LeastSquares(starts=0, paths=0)
T = np.linspace(0.0, 3.0, 7)
SUBJECTS = ["ada", "bob", "eve"]
LOGS = 2.0 - np.array([[0.4], [0.8], [1.1]]) * T + 0.1 * RNG.standard_normal((3, 7))
LOGS[1, 3:5] = np.nan


def over_subjects(y, subjects=SUBJECTS, **coords):
    return xr.Dataset({"y": (("subject", "t"), y)}, coords={"t": T, "subject": subjects} | coords)


class Line(eqx.Module):
    """The logarithm of a decay: ``y' = -own - shared u(t)``."""

    own: sd.Param = sd.param(0.3, each=True)
    shared: sd.Param = sd.param(0.1)

    def __call__(self, t, y, inputs):
        return jnp.broadcast_to(-self.own - self.shared * inputs["u"], y.shape)


class Logistic(eqx.Module):
    growth: sd.Param = sd.param([1.0, 2.0, 1.5], each=True)
    limit: sd.Param = sd.param(4.0)

    def __call__(self, t, y):
        return self.growth * y * (1.0 - y / self.limit)


def logistic(y, number=3, **options):
    y = y if number > 1 else y[None]
    data = over_subjects(y, range(len(y)))
    options = {"noise": sd.Normal(0.1), "initial": {"y": sd.param(0.5)}, "solver": ACCURATE} | options
    return sd.ODEProblem(data, **options), Logistic()


GROWN = np.stack([4.0 / (1.0 + 7.0 * np.exp(-r * T)) for r in (0.9, 1.8, 1.3)]) + 0.1 * RNG.standard_normal((3, 7))


# --- estimates -------------------------------------------------------------------------------------------------------


def test_shared_and_own_parameters_have_the_estimates_and_the_covariance_of_linear_regression():
    feed = np.array([[1.0], [-1.0], [0.5]]) * T
    data = over_subjects(LOGS, u=(("subject", "t"), feed))
    scale = sd.param([0.1, 0.2, 0.05], role="frozen", each=True)
    problem = sd.ODEProblem(
        data, fields="y", inputs="u", noise=sd.Normal(scale), initial={"y": sd.param(1.0)}, solver=ACCURATE
    )
    fit = sd.fit(problem, Line(), solver=ALONE)
    own = [-T[None] * (np.arange(3) == e)[:, None] for e in range(3)]
    fed = -np.array([[1.0], [-1.0], [0.5]]) * T**2 / 2
    seen = ~np.isnan(LOGS)
    weight = 1 / np.repeat([[0.1], [0.2], [0.05]], 7, axis=1)[seen]
    design = np.stack([*own, fed, np.ones((3, 7))], axis=-1)[seen] * weight[:, None]
    inverse = np.linalg.inv(design.T @ design)
    assert fit.names == ("own[subject=ada]", "own[subject=bob]", "own[subject=eve]", "shared", "initial.y")
    np.testing.assert_allclose(fit.values, inverse @ design.T @ (LOGS[seen] * weight), atol=1e-7)
    np.testing.assert_allclose(fit.covariance, inverse, rtol=1e-6, atol=1e-10)
    band = fit.band()["y"].sel(limit="upper") - fit.prediction()["y"]
    every = np.stack([*own, fed, np.ones((3, 7))], axis=-1)
    errors = np.sqrt(np.einsum("eti,ij,etj->et", every, fit.covariance, every))
    np.testing.assert_allclose(band, st.norm.ppf(0.975) * errors, atol=1e-7)
    profile = sd.profile(fit, "own[subject=bob]", solver=ALONE)
    np.testing.assert_allclose(profile.intervals.to_numpy()[0, 1:], fit.interval().to_numpy()[1], atol=2e-4)


@pytest.mark.slow
def test_with_nothing_shared_a_fit_of_two_subjects_is_two_fits():
    together, _ = logistic(GROWN[:2], initial={"y": sd.param(0.4, each=True)})
    fit = sd.fit(together, Logistic(sd.param(1.0, each=True), sd.param(3.0, each=True)), solver=ALONE)
    alone, _ = logistic(GROWN[1], number=1, initial={"y": sd.param(0.4)})
    one = sd.fit(alone, Logistic(sd.param(1.0), sd.param(3.0)), solver=ALONE)
    np.testing.assert_allclose(fit.values[1::2], one.values, rtol=1e-6)
    np.testing.assert_allclose(fit.standard_errors[1::2], one.standard_errors, rtol=1e-6)


def test_what_a_hierarchy_needs_is_said_by_a_fit():
    class Spread(eqx.Module):
        mean: sd.Param = sd.param(0.5)
        spread: sd.Param = sd.param(0.5, constraint=constraints.positive)
        apart: sd.Param = sd.param(prior=dist.Normal(0.0, 1.0), each=True)

        def __call__(self, t, y):
            return jnp.broadcast_to(-self.mean - self.spread * self.apart, y.shape)

    problem = sd.ODEProblem(over_subjects(LOGS), noise=sd.Normal(0.1), initial={"y": 2.0})
    fit = sd.fit(problem, Spread(), solver=ALONE)
    assert np.isnan(fit.standard_errors).all()
    assert any("The data do not determine" in w and "apart[subject=" in w for w in fit.warnings)
    assert any("do not determine apart, which has a prior and a value of each experiment" in w for w in fit.warnings)


# --- everything that calls a model -----------------------------------------------------------------------------------


def test_each_subject_has_its_own_values_wherever_a_model_is_called():
    together, model = logistic(GROWN)
    program = together.complete(model)
    later = np.linspace(0.0, 5.0, 4)

    def seen(program):
        easy = thinned(together)
        return (
            together.residuals(program)[0],
            together.predict(program, later).mean,
            nudged(easy, program, jnp.asarray(0.7))[0],
            shortened(easy, program, jnp.asarray(1.0))[0],
        )

    whole = jax.jit(seen)(program)
    alike = jax.jit(lambda growth: seen(together.complete(Logistic(sd.param(growth)))))
    for e, growth in enumerate((1.0, 2.0, 1.5)):
        for all_of_them, mine in zip(whole, alike(growth), strict=True):
            np.testing.assert_allclose(all_of_them[e], mine[e], atol=1e-7)


def test_gradient_matching_finds_the_values_of_each_subject():
    t = np.linspace(0.0, 2.0, 41)
    y = 3.0 * np.exp(-np.array([[0.4], [0.9]]) * t)
    problem = sd.ODEProblem(xr.Dataset({"y": (("run", "t"), y)}, coords={"t": t}), noise=sd.Normal(0.1))

    class Decay(eqx.Module):
        rate: sd.Param = sd.param(5.0, each=True)

        def __call__(self, t, y):
            return -self.rate * y

    matched = sd.gradient_matching(problem, Decay())
    np.testing.assert_allclose(matched.model.rate.array, [0.4, 0.9], rtol=1e-3)


class Mixed(eqx.Module):
    """Vectors and simplices of each subject, a known constant of each, and a function among the leaves."""

    rates: sd.Param
    shares: sd.Param
    scale: sd.Param
    curve: object = jnp.tanh

    def __call__(self, t, y):
        assert self.rates.shape == (2,)
        assert self.scale.shape == ()
        return self.curve(self.scale * jnp.sum(self.rates * self.shares) * jnp.ones_like(y))


@pytest.mark.loose_promotion  # of NumPyro's own bijection onto simplices
@pytest.mark.slow
def test_vectors_and_simplices_of_each_subject_and_derivatives_of_both_modes():
    rates = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    shares = sd.param([0.25, 0.75], prior=dist.Dirichlet(jnp.ones(2)), each=True)
    model = Mixed(
        sd.param(rates, each=True, prior=dist.Normal(0.0, 1.0)), shares,
        sd.param([1.0, 2.0, 3.0], role="frozen", each=True),
    )  # fmt: skip
    problem = sd.ODEProblem(
        over_subjects(LOGS), noise=sd.Normal(0.1), initial={"y": 2.0}, solver=ACCURATE,
        observe=lambda model, t, y: {"y": y[0] + model.scale},
    )  # fmt: skip
    program = problem.complete(model)
    assert program.model.shares.shape == (3, 2)
    assert problem.complete(program).model.shares is program.model.shares
    slopes = np.tanh(np.array([1.0, 2.0, 3.0]) * (rates @ [0.25, 0.75]))
    expected = 2.0 + slopes[:, None] * T + np.array([[1.0], [2.0], [3.0]])
    full = sd.vectorize(program)
    assert "model.rates[subject=bob,1]" in full.names
    assert "model.shares[subject=eve,0]" in full.names

    def density(v):
        return problem.log_likelihood(full.program(v)) + full.log_prior(v)

    def derivatives(v):
        return problem.predict(program).mean, jax.jacfwd(density)(v), jax.grad(density)(v), density(v + STEPS[0] * 1e-5)

    STEPS = RNG.standard_normal((1, full.vector.size))
    mean, forward, reverse, up = jax.jit(derivatives)(full.vector)
    np.testing.assert_allclose(mean[..., 0], expected, rtol=1e-8)
    np.testing.assert_allclose(forward, reverse, rtol=1e-6, atol=1e-8)
    down = jax.jit(density)(full.vector - STEPS[0] * 1e-5)
    np.testing.assert_allclose(STEPS[0] @ forward, (up - down) / 2e-5, rtol=1e-5)


def test_new_observations_scatter_as_the_noise_of_each_subject_says(key):
    problem, model = logistic(np.zeros((2, 7)), noise=sd.Normal(sd.param([1e-6, 1.0], each=True)), number=2)
    program = problem.complete(eqx.tree_at(lambda m: m.growth, model, sd.param(1.0, each=True)))
    replicate = problem.replicator(program)
    vector = sd.vectorize(program).vector
    new, likelihood = jax.jit(lambda k: replicate(vector, k))(key)
    mean = jax.jit(lambda: problem.predict(program).mean)()
    scatter = np.std(new - mean, axis=(1, 2))
    assert scatter[0] < 1e-5
    assert 0.3 < scatter[1] < 3.0
    assert likelihood[0].sum() < likelihood[1].sum()


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_carry_the_labels_of_the_subjects_or_their_numbers():
    labelled = (over_subjects(LOGS), over_subjects(LOGS, [1.0, 2.5, 30.0]), over_subjects(LOGS).drop_vars("subject"))
    for data, wanted in zip(labelled, ("bob", "2.5", "1"), strict=True):
        problem = sd.ODEProblem(data, noise=sd.Normal(0.1), initial={"y": sd.param([1.0, 2.0, 3.0])})
        program = problem.complete(Logistic())
        names = sd.vectorize(program).names
        assert names[1] == f"model.growth[subject={wanted}]"
        assert names[-1].startswith("initial.y[subject=")
    row = next(iter(sd.describe(logistic(GROWN)[0].complete(Logistic()))))
    assert (row.path, row.shape, row.each) == ("model.growth", (3,), "subject")
    assert str(sd.describe(Logistic())).splitlines()[1].endswith("experiment")
    without = sd.ODEProblem(xr.Dataset({"y": ("t", LOGS[0])}, coords={"t": T}), noise=sd.Normal(0.1))
    assert sd.vectorize(without.complete(Logistic(sd.param(1.0, each=True)))).names[0] == "model.growth[0]"


def test_a_mark_makes_a_parameter_one_of_each_subject():
    problem, model = logistic(GROWN)
    program = problem.complete(sd.mark(model, "limit", each=True, prior=dist.HalfNormal(5.0)))
    assert program.model.limit.shape == (3,)
    again = sd.mark(program, "model.limit", each=True, unit="g")
    assert again.model.limit.spec.axis == problem.experiments
    assert sd.mark(model, "growth", each=False).growth.each is False


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_the_subjects_is_refused():
    problem, model = logistic(GROWN)
    other, _ = logistic(GROWN[:2], number=2)
    with pytest.raises(sd.InputError, match=r"model.growth has a value of each experiment, of shape \(3,\), and the"):
        other.complete(model)
    with pytest.raises(sd.InputError, match=r"problem has 2 experiments. Expected one value for all, or a first axis"):
        other.complete(problem.complete(model))
    with pytest.raises(sd.InputError, match="`each` is 'subject'; expected True, for a value of each experiment"):
        sd.param(1.0, each="subject")


# --- populations -----------------------------------------------------------------------------------------------------


class Population(eqx.Module):
    """Slopes that scatter normally over subjects, written so that the scatter is a factor."""

    mean: sd.Param = sd.param(prior=dist.Normal(0.0, 2.0))
    spread: sd.Param = sd.param(prior=dist.HalfNormal(1.0))
    apart: sd.Param = sd.param(prior=dist.Normal(0.0, 1.0), each=True)

    def __call__(self, t, y):
        return jnp.broadcast_to(self.mean + self.spread * self.apart, y.shape)


@pytest.mark.slow
@pytest.mark.loose_promotion
def test_the_posterior_of_a_population_is_that_of_quadrature():
    rng, scale, number = np.random.default_rng(1), 2.0, 6
    slopes = 1.0 + 0.7 * rng.standard_normal(number)
    y = slopes[:, None] * T + scale * rng.standard_normal((number, 7))
    problem = sd.ODEProblem(over_subjects(y, range(number)), noise=sd.Normal(scale), initial={"y": 0.0})
    posterior = sd.sample(problem, Population(), draws=2000, solver=sd.NUTS(0.95), key=4, progress=False)
    # Given mean m and spread w, the slope b of least squares of each subject is normal: b ~ N(m, w² + v).
    b, v = y @ T / (T @ T), scale**2 / (T @ T)
    m, w = np.linspace(-4.0, 6.0, 801)[:, None], np.linspace(1e-4, 6.0, 1201)[None]
    log = np.sum(st.norm.logpdf(b[:, None, None], m, np.sqrt(w**2 + v)), axis=0) - m**2 / 8 - w**2 / 2
    mass = np.exp(log - log.max())
    mass /= mass.sum()
    summary = posterior.summary()
    draws = posterior.tree["posterior"]
    assert draws["apart"].dims == ("chain", "draw", "subject")
    for name, grid in (("mean", m), ("spread", w)):
        mean = np.sum(mass * grid)
        sd_ = np.sqrt(np.sum(mass * (grid - mean) ** 2))
        row = summary.loc[name].to_dict()
        assert row["ess_bulk"] > 400
        assert abs(row["mean"] - mean) < 4 * row["mcse_mean"]
        assert abs(row["sd"] - sd_) < 4 * row["mcse_sd"]
    label = summary.index[0]
    assert label == "apart[subject=0]"
    curves = prior_curves(problem.complete(Population()), draws.to_dataset(), label=problem.label)
    assert curves is not None
    assert {name for name, _ in scalars(draws.to_dataset())} <= set(map(str, curves.data_vars))


# --- whose values they are -------------------------------------------------------------------------------------------


def test_values_go_with_the_names_of_experiments_and_not_with_their_places():
    problem = sd.ODEProblem(over_subjects(LOGS), noise=sd.Normal(0.1), initial={"y": 2.0}, inputs=())
    program = problem.complete(Falling(sd.param([0.4, 0.8, 1.1], each=True)))
    fewer = sd.ODEProblem(
        over_subjects(LOGS[[2, 0]], ["eve", "ada"]), noise=sd.Normal(0.1), initial={"y": 2.0}, inputs=()
    )
    np.testing.assert_allclose(fewer.complete(program).model.own.array, [1.1, 0.4])
    np.testing.assert_allclose(fewer.predict(program).mean, problem.predict(program).mean[np.array([2, 0])])
    others = sd.ODEProblem(over_subjects(LOGS, ["ada", "bob", "zoe"]), noise=sd.Normal(0.1), initial={"y": 2.0})
    with pytest.raises(sd.InputError, match=r"own has a value of each of ada, bob, eve, and none of zoe"):
        others.complete(program)


def test_experiments_of_one_name_are_refused():
    problem = sd.ODEProblem(over_subjects(LOGS, ["ada", "bob", "bob"]), noise=sd.Normal(0.1), initial={"y": 2.0})
    with pytest.raises(sd.InputError, match="share a name: ada, bob, bob"):
        problem.complete(Falling(sd.param(0.4, each=True)))


class Falling(eqx.Module):
    own: sd.Param

    def __call__(self, t, y):
        return jnp.broadcast_to(-self.own, y.shape)
