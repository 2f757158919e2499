"""Posteriors against exact answers and published references, by z-scores with Monte Carlo standard errors."""

import json
import math
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import arviz_stats
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from scipy import integrate, stats

import sciad as sd
from sciad._numpyro import model_target
from sciad._progress import Progress
from sciad._sample import _kernel
from sciad.models.physics import SIR, LotkaVolterra
from sciad.solvers.chains import Chains
from sciad.solvers.hamiltonian import Metric
from sciad.solvers.warmup import advance, metric_of, random_words

STUDIES = files("sciad.app.studies")
EFFECTS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERRORS = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def z_scores(posterior, name, mean, sd_, *, error_mean=0.0, error_sd=0.0):
    row = posterior.summary().loc[name].to_dict()
    z_mean = (row["mean"] - mean) / np.hypot(row["mcse_mean"], error_mean)
    z_sd = (row["sd"] - sd_) / np.hypot(row["mcse_sd"], error_sd)
    return z_mean, z_sd


def agrees(posterior, name, mean, sd_, **errors):
    scores = z_scores(posterior, name, mean, sd_, **errors)
    assert np.abs(scores).max() < 4, (name, scores)


def against_reference(posterior, file):
    for name, known in json.loads((STUDIES / file).read_text())["parameters"].items():
        if name in posterior.tree["posterior"]:
            errors = {f"error_{what}": known[f"mcse_{what}"] for what in ("mean", "sd")}
            agrees(posterior, name, known["mean"], known["sd"], **errors)


# --- models -------------------------------------------------------------------------------------------------------


def conjugates():
    """Three blocks whose posteriors are known: a mean, probabilities (a simplex) and a rate."""
    mean = numpyro.sample("mean", dist.Normal(1.0, 2.0))
    numpyro.sample("reading", dist.Normal(mean, 0.5), obs=jnp.array([2.0, 2.6, 1.9]))
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.array([1.0, 2.0, 3.0])))
    numpyro.sample("counts", dist.Multinomial(total_count=20, probs=shares), obs=jnp.array([8, 7, 5]))
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.5))
    numpyro.sample("events", dist.Poisson(rate), obs=jnp.array([3, 5, 4, 2]))
    numpyro.deterministic("double", 2 * rate)


def eight_schools():
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([8]))
    numpyro.sample("effects", dist.Normal(mu + tau * z, ERRORS), obs=EFFECTS)


def lynx_hare():
    rate, contact = dist.TruncatedNormal(1.0, 0.5, low=0.0), dist.TruncatedNormal(0.05, 0.05, low=0.0)
    start, scale = dist.LogNormal(math.log(10.0), 1.0), dist.LogNormal(-1.0, 1.0)
    problem = sd.ODEProblem(
        sd.read(str(STUDIES / "hudson_bay.csv"), coords="year"),
        fields=("hare", "lynx"),
        noise={name: sd.LogNormal(sigma=sd.param(prior=scale)) for name in ("hare", "lynx")},
        initial={name: sd.param(prior=start) for name in ("hare", "lynx")},
    )
    values = {"alpha": (2.0, rate), "beta": (0.2, contact), "gamma": (2.0, rate), "delta": (0.2, contact)}
    return problem, LotkaVolterra(**{name: sd.param(value, prior=prior) for name, (value, prior) in values.items()})


def boarding_school():
    problem = sd.ODEProblem(
        sd.read(str(STUDIES / "boarding_school.csv"), coords="day"),
        fields=("infected",),
        states=("susceptible", "infected", "recovered"),
        noise=sd.NegativeBinomial(dispersion=sd.param(prior=dist.Exponential(5.0))),
        initial={"susceptible": 762.0, "infected": 1.0, "recovered": 0.0},
        t0=0.0,
    )
    beta = sd.param(1.0, prior=dist.TruncatedNormal(2.0, 1.0, low=0.0))
    return problem, SIR(beta=beta, gamma=sd.param(1.0, prior=dist.TruncatedNormal(0.4, 0.5, low=0.0)))


class Decay(eqx.Module):
    rate: sd.Param = sd.param(0.5, prior=dist.LogNormal(0.0, 1.0))

    def __call__(self, t, y):
        del t
        return -self.rate * y


def decay(**noise):
    data = xr.Dataset({"y": ("t", [4.1, 2.3, 1.4, 0.9])}, coords={"t": [0.0, 1.0, 2.0, 3.0]})
    scale = noise or {"sigma": sd.param(prior=dist.LogNormal(-1.0, 1.0))}
    return sd.ODEProblem(data, noise=sd.LogNormal(**scale), initial={"y": 4.0}), Decay()


# --- right posteriors ---------------------------------------------------------------------------------------------


@pytest.mark.loose_promotion
def test_conjugate_posteriors_are_exact():
    calls = []

    def counted():
        calls.append(None)
        conjugates()

    posterior = sd.sample(counted, progress=False, key=jax.random.key(3))
    assert len(calls) <= 16  # each is a trace, and traces are what a user waits for
    precision = 1 / 4 + 3 / 0.25
    agrees(posterior, "mean", (1 / 4 + 6.5 / 0.25) / precision, precision**-0.5)
    for i, known in enumerate((9, 9, 8)):
        beta = stats.beta(known, 26 - known)
        agrees(posterior, f"shares[{i}]", beta.mean(), beta.std())
    gamma = stats.gamma(2.0 + 14, scale=1 / (1.5 + 4))
    agrees(posterior, "rate", gamma.mean(), gamma.std())
    agrees(posterior, "double", 2 * gamma.mean(), 2 * gamma.std())
    # The tree is ArviZ's.
    assert posterior.tree["posterior"]["shares"].shape == (4, 1000, 3)
    assert np.allclose(posterior.tree["posterior"]["shares"].sum("shares_dim_0"), 1.0)
    assert {"diverging", "energy", "lp", "n_steps", "failed_solve"} <= set(posterior.tree["sample_stats"].data_vars)
    assert arviz_stats.summary(posterior.tree).shape[0] == 6
    assert posterior.diagnostics["max_r_hat"] < 1.01
    assert posterior.diagnostics["devices"] == 2


@pytest.mark.loose_promotion
def test_eight_schools_need_the_full_adaptation_and_get_it():
    schools = sd.sample(eight_schools, progress=False, key=jax.random.key(8))
    assert schools.diagnostics["metric"] == "dense, adapted"
    assert any("full adaptation" in warning for warning in schools.warnings)

    # Given mu and tau the effects are independent normal, so that two integrals are left.
    mu, t = np.linspace(-25, 30, 221), np.linspace(0, 1, 400, endpoint=False)[1:]
    tau, jacobian = 5 * t / (1 - t), 5 / (1 - t) ** 2
    likelihood = sum(
        stats.norm.logpdf(y, mu[:, None], np.hypot(error, tau)) for y, error in zip(EFFECTS, ERRORS, strict=True)
    )
    prior = stats.norm.logpdf(mu, 0, 5)[:, None] + stats.halfcauchy.logpdf(tau, scale=5)
    grid = np.exp(likelihood + prior + 30) * jacobian

    def integral(values):
        return integrate.trapezoid(integrate.trapezoid(values, t), mu)

    def expect(values):
        return integral(grid * values) / integral(grid)

    for name, values in {"mu": mu[:, None], "tau": tau[None]}.items():
        mean = expect(values)
        agrees(schools, name, mean, math.sqrt(expect((values - mean) ** 2)))


@pytest.mark.slow
@pytest.mark.loose_promotion
def test_the_boarding_school_agrees_with_quadrature():
    epidemic = sd.sample(*boarding_school(), progress=False, key=jax.random.key(1978))
    against_reference(epidemic, "boarding_school_reference.json")
    assert {"beta", "gamma", "noise.infected.dispersion"} <= set(epidemic.tree["posterior"].data_vars)
    assert epidemic.diagnostics["max_r_hat"] < 1.01
    # Predictions come with it.
    tree, observed = epidemic.tree, epidemic.tree["observed_data"]["infected"].to_numpy()
    assert tree["posterior_predictive"]["infected"].shape == (4, 100, 14)
    assert tree["prior_predictive"]["infected"].shape == (4, 100, 14)
    assert tree["log_likelihood"]["infected"].shape == (4, 100, 14)
    low, high = np.quantile(tree["posterior_predictive"]["infected"], [0.01, 0.99], axis=(0, 1))
    assert np.mean((low <= observed) & (observed <= high)) > 0.8
    spread = [np.nanstd(tree[f"{kind}_predictive"]["infected"]) for kind in ("prior", "posterior")]
    assert spread[0] > spread[1]


@pytest.mark.loose_promotion
def test_lynx_and_hare_agree_with_the_reference():
    posterior = sd.sample(*lynx_hare(), progress=False, key=jax.random.key(1900))
    assert len(posterior.summary()) == 8
    against_reference(posterior, "hudson_bay_reference.json")
    assert posterior.diagnostics["metric"] == "Hessian at the mode"
    assert posterior.diagnostics["max_r_hat"] < 1.01
    assert posterior.diagnostics["min_ess_bulk"] > 1000
    assert posterior.warnings == []


def half_space():
    x: Any = numpyro.sample("x", dist.Normal(0.0, 1.0).expand([2]))
    numpyro.factor("cut", jnp.where(x[0] > -0.5, 0.0, -jnp.inf))


@pytest.mark.loose_promotion
def test_a_model_that_fails_in_places_is_sampled_where_it_does_not():
    posterior = sd.sample(half_space, progress=False, solver=sd.HMC(steps=8), warmup=300, key=jax.random.key(2))
    exact = stats.truncnorm(-0.5, np.inf)
    agrees(posterior, "x[0]", exact.mean(), exact.std())
    agrees(posterior, "x[1]", 0.0, 1.0)
    assert posterior.diagnostics["failed_solves"] > 40
    assert posterior.diagnostics["divergences"] == 0
    assert any("Trajectories ended where the model cannot be evaluated" in text for text in posterior.warnings)
    assert all(np.isfinite(v).all() for v in posterior.tree["sample_stats"].data_vars.values())


# --- running ------------------------------------------------------------------------------------------------------


def quickly(key=0, **options):
    settings = {"chains": 2, "draws": 250, "warmup": sd.Warmup(quick=20, full=20), "solver": sd.HMC(steps=4)}
    return sd.sample(*decay(), key=jax.random.key(key), progress=False, **(settings | options))


@pytest.mark.loose_promotion
def test_the_same_key_gives_the_same_draws():
    first, again = quickly(), quickly()
    for group in ("posterior", "sample_stats", "posterior_predictive", "prior_predictive"):
        assert first.tree[group].to_dataset().drop_attrs().identical(again.tree[group].to_dataset().drop_attrs())


@pytest.mark.loose_promotion
@pytest.mark.parametrize("in_step", [True, False])
def test_draws_depend_on_the_key_but_not_on_the_number_of_devices(monkeypatch, in_step):
    def run(seed):
        chains = Chains(lambda x: -jnp.sum(x**4), sd.HMC(steps=4), 4, 3, dense=False, in_step=in_step)
        state = chains.start(np.zeros((4, 3)), random_words(np.random.SeedSequence(seed), 4), 0.5)
        _, seen = advance(chains, state, metric_of(np.ones(3)), 120, lambda *_: None, adapt=True, total=120)
        return chains.devices, seen.draws

    (two, draws), (_, others) = run(1), run(2)
    assert two == 2
    assert not np.isin(draws, others).any()
    assert len(np.unique(draws[:, -1, 0])) == 4
    monkeypatch.setattr("jax.local_devices", lambda: jax.devices()[:1])
    one, alone = run(1)
    assert one == 1
    if in_step:  # two chains in a vector round otherwise than four
        np.testing.assert_allclose(draws[:, :20], alone[:, :20], rtol=1e-9)
    else:
        assert np.array_equal(draws, alone)


@pytest.mark.loose_promotion
def test_an_interrupt_leaves_the_draws_so_far(monkeypatch):
    def interrupt(_, stage, done, *__):
        if stage == "sampling" and done >= 100:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    posterior = quickly()
    assert posterior.tree["posterior"].sizes["draw"] == 100
    assert "Stopped by the user after 100 of 250 draws in each chain." in posterior.warnings


@pytest.mark.slow
@pytest.mark.loose_promotion
def test_a_checkpoint_goes_on_to_the_draws_of_a_run_without_interruption(monkeypatch, tmp_path):
    whole, path = quickly(), tmp_path / "chains.npz"

    def interrupt(_, stage, done, *__):
        if stage == "sampling" and done >= 100:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "update", interrupt)
        assert quickly(checkpoint=path).tree["posterior"].sizes["draw"] == 100
    told = []
    monkeypatch.setattr(Progress, "say", lambda _, text: told.append(text))
    resumed = quickly(checkpoint=path)
    assert any("which holds 100 of 250 draws" in text for text in told)
    for group in ("posterior", "sample_stats", "posterior_predictive", "prior_predictive"):
        assert whole.tree[group].to_dataset().drop_attrs().identical(resumed.tree[group].to_dataset().drop_attrs())
    assert resumed.warnings == whole.warnings
    # Complete, it gives its draws without sampling; more are added to them, fewer taken from them.
    first = whole.tree["posterior"]["rate"].to_numpy()
    assert np.array_equal(quickly(checkpoint=path, draws=90).tree["posterior"]["rate"], first[:, :90])
    assert np.array_equal(quickly(checkpoint=path, draws=300).tree["posterior"]["rate"][:, :250], first)


@pytest.mark.slow
@pytest.mark.loose_promotion
def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "chains.npz"
    quickly(checkpoint=path)
    kept = path.read_bytes()
    with pytest.raises(sd.InputError, match="is of another run: its kernel, key differ"):
        quickly(checkpoint=path, key=1, solver=sd.HMC(steps=5))
    problem, program = decay()
    problem._initial["y"] = sd.param(4.001, role="frozen")
    settings = {"chains": 2, "draws": 250, "warmup": sd.Warmup(quick=20, full=20), "solver": sd.HMC(steps=4)}
    with pytest.raises(sd.InputError, match="its density differ"):
        sd.sample(problem, program, checkpoint=path, key=jax.random.key(0), progress=False, **settings)
    assert path.read_bytes() == kept
    path.write_bytes(kept[:100])
    with pytest.raises(sd.InputError, match=r"Cannot read the checkpoint .*Delete it to sample from the start"):
        quickly(checkpoint=path)


@pytest.mark.loose_promotion
def test_hundreds_of_parameters_have_a_diagonal_metric_and_no_hessian():
    scales = np.geomspace(0.1, 10.0, 250)

    def wide():
        numpyro.sample("x", dist.Normal(jnp.asarray(3 * scales), jnp.asarray(scales)))

    posterior = sd.sample(wide, progress=False, warmup=sd.Warmup(full=400), draws=400)
    assert posterior.diagnostics["metric"] == "diagonal, adapted"
    summary = posterior.summary()
    assert np.abs((summary["mean"] - 3 * scales) / summary["mcse_mean"]).max() < 4.5  # of 250 numbers
    assert np.abs((summary["sd"] - scales) / summary["mcse_sd"]).max() < 4.5


@pytest.mark.loose_promotion
def test_an_interrupt_before_any_draw_is_passed_on(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        quickly()


def test_progress_is_told_on_standard_error(capsys):
    with Progress() as display:
        display.say("compiling")
        display.update("sampling", 0, 200)
        display.update("sampling", 200, 200, "3 divergences")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[0] == "compiling"
    assert told.err.splitlines()[-1] == "sampling: 200/200, 3 divergences"


SCRIPT = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.monitoring
seen = {"hits": 0, "misses": 0, "requests": 0}
names = {"cache_hits": "hits", "cache_misses": "misses", "compile_requests_use_cache": "requests"}
jax.monitoring.register_event_listener(lambda event, **_: seen.update(
    {names[k]: seen[names[k]] + 1 for k in [event.rsplit("/", 1)[-1]] if k in names}))
sys.path.insert(0, sys.argv[1])
from test_sample import quickly
quickly()
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path, root):
    """Holds only while no compiled function has a host callback, such as Equinox's run-time errors."""
    cache = {"DIR": str(tmp_path)}
    environment = {k: v for k, v in os.environ.items() if k != "EQX_ON_ERROR"} | {
        "JAX_COMPILATION_CACHE_DIR": cache["DIR"],
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-c", SCRIPT, str(root / "tests")]
    runs = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    first, second = runs
    assert first["misses"] > 4
    assert second["misses"] == 0
    assert second["hits"] == second["requests"] == first["requests"], runs


@pytest.mark.slow
@pytest.mark.loose_promotion
def test_ranks_of_the_truth_are_uniform():
    """Simulation-based calibration (Talts et al., 2018), of parameters and of the log-likelihood.

    A chain for each simulated data set. The data are entries of its vector that never move: no momentum is drawn for
    them, and none arises, as the density is taken to be flat in them.
    """
    replications, kept, rng = 400, 63, np.random.default_rng(4)

    def density(v):
        u, y = v[:2], jax.lax.stop_gradient(v[2:])
        scale = jnp.exp(u[1]) + 0.1
        prior = -0.5 * u[0] ** 2 - 0.5 * jnp.exp(2 * u[1]) + u[1]
        return prior + jnp.sum(-0.5 * ((y - u[0]) / scale) ** 2 - jnp.log(scale))

    mu, spread = rng.standard_normal(replications), np.abs(rng.standard_normal(replications))
    data = mu[:, None] + (spread + 0.1)[:, None] * rng.standard_normal((replications, 5))
    truth = np.stack([mu, np.log(spread)], axis=1)
    chains = Chains(density, sd.NUTS(), replications, 7, dense=False, in_step=True)
    still = np.zeros(5)
    metric = Metric(np.concatenate([[0.3, 0.3], still]), np.concatenate([[0.3**-0.5, 0.3**-0.5], still]))
    state = chains.start(np.hstack([truth, data]), random_words(np.random.SeedSequence(5), replications), 0.3)
    state, _ = advance(chains, state, metric, 200, lambda *_: None, adapt=True, total=200)
    _, seen = advance(chains, state, metric, 630, lambda *_: None, adapt=False, total=630)
    assert (seen.draws[..., 2:] == data[:, None]).all()
    assert seen.info.saturated.mean() < 0.001

    def statistics(v):
        scale = np.exp(v[..., 1]) + 0.1
        fit = np.sum(stats.norm.logpdf(data[:, None], v[..., :1], scale[..., None]), axis=-1)
        return np.stack([v[..., 0], v[..., 1], fit], axis=-1)

    ranks = (statistics(seen.draws[:, ::10, :2]) < statistics(truth[:, None])).sum(axis=1)
    for of_one in ranks.T:
        counts = np.histogram(of_one, bins=8, range=(0, kept + 1))[0]
        assert stats.chisquare(counts).pvalue > 1e-4, counts


# --- what cannot be sampled ---------------------------------------------------------------------------------------


def discrete():
    numpyro.sample("kind", dist.Categorical(jnp.array([0.5, 0.5])))


def observed_only():
    numpyro.sample("y", dist.Normal(0.0, 1.0), obs=1.0)


def impossible():
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.factor("never", jnp.where(x == 5.0, 0.0, -jnp.inf))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((conjugates,), {"chains": 0}, r"sample\(chains=0\): expected a whole number of at least 1"),
        ((conjugates,), {"draws": 1}, r"sample\(draws=1\): expected a whole number of at least 4"),
        ((discrete,), {}, "Sites kind are discrete: .* Sum them out"),
        ((observed_only,), {}, "has no latent site: nothing to sample"),
        ((impossible,), {}, "could not be evaluated at any of 256 starts"),
        ((decay()[0],), {}, r"sample\(problem\) needs the program too"),
        (decay(sigma=sd.param(0.3)), {}, "No prior on .*noise.y.sigma.*Give each a prior, or freeze it"),
    ],
)
@pytest.mark.loose_promotion
def test_what_cannot_be_sampled_is_refused_in_words(arguments, options, message):
    with pytest.raises(sd.SciadError, match=message):
        sd.sample(*arguments, progress=False, **options)


def test_only_a_problem_or_a_function_can_be_sampled():
    with pytest.raises(
        sd.InputError, match="Cannot sample a int: expected a sciad problem or a NumPyro model function"
    ):
        model_target(3, (), {}, jax.random.key(0))


def test_cores_are_left_as_they_are_once_jax_is_in_use():
    assert sd.use_cores(2) == 2
    with pytest.warns(UserWarning, match=r"JAX is already in use, with 2 device\(s\).*sciad.use_cores"):
        assert sd.use_cores(3) == 2


def test_options_that_do_not_belong_are_refused():
    def model():
        numpyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(sd.OptionError, match="a NumPyro model takes no program"):
        sd.sample(model, {"x": 1.0}, progress=False)
    with pytest.raises(sd.OptionError, match=r"expected `sciad\.NUTS\(\.\.\.\)`"):
        _kernel(numpyro.infer.NUTS(model))


@pytest.mark.loose_promotion
def test_one_chain_is_not_said_to_disagree():
    assert any("One chain cannot be compared: take four" in w for w in quickly(chains=1).warnings)


@pytest.mark.loose_promotion
@pytest.mark.parametrize("write", [Path.touch, lambda path: np.save(path.with_suffix(".npy"), np.ones(2))])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, write):
    path = tmp_path / "chains.npz"
    write(path)
    path = next(tmp_path.iterdir())
    with pytest.raises(sd.InputError, match=r"Cannot read the checkpoint .* Delete it to sample from the start"):
        quickly(checkpoint=path)


@pytest.mark.slow
@pytest.mark.loose_promotion
def test_a_checkpoint_of_another_warm_up_is_refused(tmp_path):
    quickly(checkpoint=tmp_path / "chains.npz")
    with pytest.raises(sd.InputError, match="is of another run: its warm-up differ"):
        quickly(checkpoint=tmp_path / "chains.npz", warmup=sd.Warmup(quick=20, full=30))


def test_a_model_without_its_arguments_is_refused():
    def model(x):
        numpyro.sample("y", dist.Normal(x, 1.0))

    with pytest.raises(sd.InputError, match=r"missing a required argument: 'x'. Give `model_args=\(...\)`"):
        sd.sample(model, progress=False)
