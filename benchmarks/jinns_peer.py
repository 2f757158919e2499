"""jinns on the cases of `benchmarks.pde_references`, in an environment of its own.

It is given its strongest optimiser, the self-scaled Broyden method with a zoom line search of
``jinns.optimizers``, after a first part of Adam; all points in one batch, since quasi-Newton methods need the same
function at each step. Points are Sobol's, and the network has three layers of 20 tanh units, as in jinns' own
documentation of it. Boundary and initial conditions are jinns' own terms, weighted 100 against the
equation's 1; periodic cases take cos and sin of x as coordinates; the wave's start at rest, for which jinns has no
term, is imposed with the start itself as ``u0(x) + t^2 network``.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.pde_references import BETA, DIFFUSION, DISPERSION, NU, REFERENCES, START
from benchmarks.pinn_trace import Trace

CASES = tuple(REFERENCES)
STEADY = ("poisson2d", "helmholtz")
PERIODIC = ("convection", "allen_cahn", "kdv")
WIDTHS = (20, 20, 20)
POINTS, ON_BOUNDARY, AT_START = 4096, 256, 256
WEIGHT = 100.0
ADAM, ADAM_SHARE = 5000, 0.25  # at most so many iterations, and so much of the budget
LOOK_EVERY = 20  # iterations between two looks at the clock
ENDLESS = 1_000_000


def measure(case: str, seconds: float, seed: int = 0, precision: str = "float64") -> dict[str, Any]:
    """Train for a number of seconds; return the trace of pairs (seconds, relative L2), and what compiling took.

    Predictions are part of jinns' compiled loop, so that looking at the error counts as time: some percent.
    """
    import jax

    jax.config.update("jax_enable_x64", precision == "float64")
    import jinns.validation  # pyright: ignore[reportMissingImports]
    import optax

    trace = Trace(case, seconds)
    keys = jax.random.split(jax.random.PRNGKey(seed), 2)  # its Sobol points know no typed keys
    network, weights = _network(jinns, case, keys[0])
    params = jinns.parameters.Params(nn_params=weights, eq_params={})
    loss, data = _loss(jinns, case, network, params), _data(jinns, case, keys[1])
    stages = [
        (optax.adam(1e-3), None, ADAM, ADAM_SHARE),
        (jinns.optimizers.scale_by_SSBroyden_family(method="SSBroyden"), _line_search(jinns), ENDLESS, 1.0),
    ]
    trace.start()
    iterations, compiling = 0, 0.0
    for optimizer, extra, most, share in stages:
        begun, looked = trace.seconds, []
        params, losses, *_ = jinns.solve(
            n_iter=most,
            init_params=params,
            data=data,
            loss=loss,
            optimizer=optimizer,
            validation=_watch(jinns, case, network, trace, share, looked),
            extra_optax_args_and_kwargs=extra,
            verbose=False,
        )
        iterations += int(np.count_nonzero(np.asarray(losses)))
        compiling += looked[0] - begun
    return {"trace": trace.pairs, "iterations": iterations, "compile_seconds": compiling}


def _watch(jinns: Any, case: str, network: Any, trace: Trace, share: float, looked: list[float]) -> Any:
    """Return a validation that looks at the error and ends the training when a share of the time is gone."""
    import jax
    import jax.numpy as jnp
    from jax.experimental import io_callback

    points = jnp.asarray(_ordered(case, trace.points))

    def look(predictions: Any) -> np.bool_:
        looked.append(trace.seconds)
        trace.look(lambda _: np.asarray(predictions))
        return np.bool_(trace.over(share))

    class Watch(jinns.validation.AbstractValidationModule):
        call_every: int = LOOK_EVERY

        def __call__(self, params: Any) -> tuple[Any, Any, Any, Any]:
            predictions = jax.vmap(lambda point: network(point, params)[0])(points)
            over = io_callback(look, jax.ShapeDtypeStruct((), bool), predictions)
            return self, over, jnp.zeros(()), False

    return Watch()


def _line_search(jinns: Any) -> dict[str, Any]:
    """Return what the optimiser's line search needs; jinns rebuilds these functions, which can hold no closure."""

    def callback_value(params: Any, loss: Any, batch: Any) -> Any:
        return loss(params, batch)[0]

    def callback_gradient(params: Any, loss: Any, batch: Any) -> Any:
        import jax

        return jax.grad(lambda at: loss(at, batch)[0])(params)

    known = jinns.solver.GetJinnsVariableName
    return {
        "value": known("train_loss_value"),
        "grad_pt": known("grads"),
        "value_fn": callback_value,
        "grad_fn": callback_gradient,
        "loss": known("loss"),
        "batch": known("batch"),
    }


def _ordered(case: str, points: np.ndarray) -> np.ndarray:
    """Put time first, as jinns has it."""
    return points if case in STEADY else points[:, ::-1]


def _network(jinns: Any, case: str, key: Any) -> tuple[Any, Any]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    sizes = (3 if case in PERIODIC else 2, *WIDTHS, 1)
    layers: list[tuple[Any, ...]] = []
    for size, following in itertools.pairwise(sizes):
        layers += [(eqx.nn.Linear, size, following), (jax.nn.tanh,)]
    transforms: dict[str, Callable[..., Any]] = {}
    if case in PERIODIC:
        wave = 2 * np.pi / (REFERENCES[case].high[0] - REFERENCES[case].low[0])
        transforms["input_transform"] = lambda p, _: jnp.stack([p[0], jnp.cos(wave * p[1]), jnp.sin(wave * p[1])])
    if case == "wave":
        transforms["output_transform"] = lambda p, u, _: START[case](p[1], jnp) + p[0] ** 2 * u
    kind = "PDEStatio" if case in STEADY else "PDENonStatio"
    return jinns.nn.PINN_MLP.create(key=key, eqx_list=tuple(layers[:-1]), eq_type=kind, **transforms)


def _data(jinns: Any, case: str, key: Any) -> Any:
    (low, begin), (high, end) = REFERENCES[case].low, REFERENCES[case].high
    if case in STEADY:
        return jinns.data.CubicMeshPDEStatio(
            key=key, n=POINTS, nb=ON_BOUNDARY, dim=2, min_pts=(low, begin), max_pts=(high, end), method="sobol"
        )
    return jinns.data.CubicMeshPDENonStatio(
        key=key,
        n=POINTS,
        nb=None if case in PERIODIC else ON_BOUNDARY,
        ni=AT_START,
        dim=1,
        min_pts=(low,),
        max_pts=(high,),
        tmin=begin,
        tmax=end,
        method="sobol",
    )


def _loss(jinns: Any, case: str, network: Any, params: Any) -> Any:
    import jax.numpy as jnp

    boundary = None if case in PERIODIC else jinns.loss.Dirichlet()
    weighted = {} if boundary is None else {"boundary_loss": WEIGHT}
    shared = {"u": network, "params": params, "boundary_condition": boundary, "dynamic_loss": _equation(jinns, case)}
    if case in STEADY:
        return jinns.loss.LossPDEStatio(
            loss_weights=jinns.loss.LossWeightsPDEStatio(dyn_loss=1.0, **weighted), **shared
        )
    start = {}
    if case != "wave":
        weighted["initial_condition"] = WEIGHT
        start = {"initial_condition_fun": lambda x: START[case](x, jnp)}
    return jinns.loss.LossPDENonStatio(
        loss_weights=jinns.loss.LossWeightsPDENonStatio(dyn_loss=1.0, **weighted), **start, **shared
    )


def _equation(jinns: Any, case: str) -> Any:
    """Return the equation; derivatives are nested forward ones, the fastest on a processor up to order four."""
    import jax
    import jax.numpy as jnp

    class Equation(jinns.loss.PDEStatio if case in STEADY else jinns.loss.PDENonStatio):
        def equation(self, point: Any, u: Any, params: Any) -> Any:
            def along(function: Callable[[Any], Any], *axes: int) -> Callable[[Any], Any]:
                for axis in axes:
                    function = _slope(jax, function, jnp.eye(2)[axis])
                return function

            return RESIDUALS[case](point, lambda at: u(at, params), along, jnp)

    return Equation()


def _slope(jax: Any, function: Callable[[Any], Any], direction: Any) -> Callable[[Any], Any]:
    return lambda at: jax.jvp(function, (at,), (direction,))[1]


def _product(p: Any, xp: Any, along_y: int) -> Any:
    return xp.sin(np.pi * p[0]) * xp.sin(along_y * np.pi * p[1])


# Of a point (time first), the network, derivatives of it along axes, and the array module.
RESIDUALS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "poisson2d": lambda p, u, d, xp: d(u, 0, 0)(p) + d(u, 1, 1)(p) + 2 * np.pi**2 * _product(p, xp, 1),
    "helmholtz": lambda p, u, d, xp: d(u, 0, 0)(p) + d(u, 1, 1)(p) + u(p) - (1 - 17 * np.pi**2) * _product(p, xp, 4),
    "burgers": lambda p, u, d, _: d(u, 0)(p) + u(p) * d(u, 1)(p) - NU * d(u, 1, 1)(p),
    "convection": lambda p, u, d, _: d(u, 0)(p) + BETA * d(u, 1)(p),
    "wave": lambda p, u, d, _: d(u, 0, 0)(p) - 4 * d(u, 1, 1)(p),
    "allen_cahn": lambda p, u, d, _: d(u, 0)(p) - DIFFUSION * d(u, 1, 1)(p) - 5 * (u(p) - u(p) ** 3),
    "kdv": lambda p, u, d, _: d(u, 0)(p) + u(p) * d(u, 1)(p) + DISPERSION * d(u, 1, 1, 1)(p),
}
