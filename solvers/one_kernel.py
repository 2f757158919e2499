"""Small loops compiled into one machine-code function.

On a CPU, XLA runs a loop's body as a list of kernels. For a loop over a few dozen numbers, such as an ODE with its
sensitivities, starting the kernels costs several times the arithmetic. XLA compiles a call that carries the attribute
``xla_cpu_small_call`` as a single function, and sets it itself on loops that touch less than a kilobyte. Here it is
set on computations that are larger, yet too small to gain anything from separate kernels; what that is worth is
measured by ``python -m benchmarks ode_overhead`` (systems ``sciad_forward`` and ``sciad_separate_kernels``).

Such a function holds arithmetic, slices, sums of products and loops, but no library call, no scatter and no random
numbers. So the computation is read first, and what does not fit, or an XLA that this has not been tested with, takes
the usual way. What is batched runs element by element, each with its own number of steps: on a CPU that, too, is
faster than in step.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax.dtypes import float0
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jaxtyping import PyTree

from sciad.solvers.callbacks import with_computation
from sciad.solvers.elimination import with_solves_inlined
from sciad.solvers.products import without_products

TESTED = ("0.10.", "0.12.")  # versions of jaxlib with which tests/test_one_kernel.py has passed
LARGEST_ARRAY = 2048  # elements computed in each turn of a loop; beyond, separate kernels are as fast
LARGEST_BUFFER = 2**17  # elements of any array: what is saved on the way costs little until it is written
LARGEST_PRODUCT = 4000  # multiplications of a matrix product; beyond, a library is faster

_REFUSED = frozenset(
    """
    all_gather approx_top_k bessel_i0e bessel_i1e cholesky conv_general_dilated cumlogsumexp cummax cummin cumprod
    cumsum custom_linear_solve debug_callback debug_print digamma eig eigh erf_inv ffi_call fft gather geqrf
    hessenberg householder_product igamma igamma_grad_a igammac io_callback lgamma linear_solve lu
    lu_pivots_to_permutation ormqr polygamma ppermute psum pure_callback qr random_bits random_fold_in
    random_gamma_grad random_seed random_split random_unwrap random_wrap reduce_window regularized_incomplete_beta
    rng_bit_generator rng_uniform scatter-add scatter_add scatter_apply scatter_max scatter_min scatter_mul schur
    select_and_gather_add select_and_scatter_add shard_map sort svd threefry2x32 top_k triangular_solve tridiagonal
    tridiagonal_solve zeta
    """.split()  # noqa: SIM905 (a list of seventy quoted words is no easier to read)
)

_BUFFERING = frozenset("cond copy dynamic_update_slice jit maybe_set pjit scan scatter while".split())  # noqa: SIM905


def in_one_kernel(function: Callable[[PyTree], PyTree], operands: PyTree) -> PyTree:
    """Return ``function(operands)`` without run-time errors, compiled as one function where it fits.

    That is on CPUs only. For use below a derivative rule: its own derivative is that of all its loops.

    Parameters
    ----------
    function
        Of arrays only; closes over no traced array.
    operands
        A PyTree of arrays.
    """
    return with_computation(_in_one_kernel, function, operands)


def _in_one_kernel(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    if jax.default_backend() == "cpu" and jaxlib.__version__.startswith(TESTED):
        inlined = with_solves_inlined(closed)
        if fits(inlined):
            marked = _with_all_in_use(without_products(inlined))
            return lambda *operands: _ONE_KERNEL.bind(*operands, marked=marked, plain=closed)
    return _one_call(closed)


# A primitive keeps together what is compiled together, through every transformation, and its rules say what becomes of
# it: a batch is a loop, and a derivative, should one get past the rule above it, that of the plain computation. (JAX
# forgets a `custom_jvp` in the loop of a computation that is differentiated in reverse, and then forward.)
_ONE_KERNEL = Primitive("one_kernel")
_ONE_KERNEL.multiple_results = True


@_ONE_KERNEL.def_impl
def _run(*operands: Any, marked: ClosedJaxpr, plain: ClosedJaxpr) -> list[Any]:
    del plain
    # XLA's compiler aborts on a marked call with a constant operand of more than a few kilobytes.
    return _marked(_one_call(marked))(*jax.lax.optimization_barrier(operands))[:-1]


@_ONE_KERNEL.def_abstract_eval
def _shapes(*operands: Any, marked: ClosedJaxpr, plain: ClosedJaxpr) -> list[Any]:
    del operands, marked
    return plain.out_avals


def _batch(operands: Any, axes: Any, **computation: Any) -> tuple[list[Any], list[int]]:
    """Take the elements of the batch one after the other."""
    moving = [jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True) if axis is not None]

    def one(moving: list[Any]) -> list[Any]:
        rest = iter(moving)
        whole = (x if axis is None else next(rest) for x, axis in zip(operands, axes, strict=True))
        return _ONE_KERNEL.bind(*whole, **computation)

    found = jax.lax.map(one, moving)
    return found, [0] * len(found)


def _push(primals: Any, tangents: Any, *, marked: ClosedJaxpr, plain: ClosedJaxpr) -> tuple[list[Any], list[Any]]:
    """Differentiate the plain computation in what has a tangent."""
    del marked
    moves = [not isinstance(t, ad.Zero) for t in tangents]

    def function(*moving: Any) -> list[Any]:
        rest = iter(moving)
        return jaxpr_as_fun(plain)(*(next(rest) if m else x for m, x in zip(moves, primals, strict=True)))

    moving, directions = ([x for m, x in zip(moves, of, strict=True) if m] for of in (primals, tangents))
    values, pushed = jax.jvp(function, moving, directions)
    none = [ad.Zero(jax.typeof(x).to_tangent_aval()) for x in values]
    return values, [z if t.dtype == float0 else t for t, z in zip(pushed, none, strict=True)]


batching.primitive_batchers[_ONE_KERNEL] = _batch
ad.primitive_jvps[_ONE_KERNEL] = _push
mlir.register_lowering(_ONE_KERNEL, mlir.lower_fun(_run, multiple_results=True))


def _with_all_in_use(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Return the computation with one output more that depends on all operands.

    XLA's compiler aborts on a marked call with a parameter that nothing depends on, after its simplifications too.
    """

    def all_in_use(*operands: Any) -> list[Any]:
        firsts = [jax.lax.convert_element_type(jnp.ravel(x)[0], float) for x in operands if x.size]
        return [*jaxpr_as_fun(closed)(*operands), sum(firsts, start=jnp.zeros(()))]

    return jax.make_jaxpr(all_in_use)(*(v.aval for v in closed.jaxpr.invars))


def fits(closed: ClosedJaxpr) -> bool:
    """Whether XLA can, and had better, compile the computation as one function."""
    for equation, in_loop in _equations(closed.jaxpr):
        name = equation.primitive.name
        many = name == "scatter" and equation.invars[1].aval.size > 1  # at one index it is the update of a slice
        if name in _REFUSED or many or equation.primitive is _ONE_KERNEL:
            return False
        if name == "dot_general" and _multiplications(equation) > LARGEST_PRODUCT:
            return False
        largest = LARGEST_ARRAY if in_loop and name not in _BUFFERING else LARGEST_BUFFER
        if any(getattr(variable.aval, "size", 1) > largest for variable in equation.outvars):
            return False
    return True


def _one_call(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    """Return the computation as one call of an already traced function."""
    inner = jax.make_jaxpr(jax.jit(jaxpr_as_fun(closed)))(*(v.aval for v in closed.jaxpr.invars))
    (equation,) = inner.jaxpr.eqns

    def call(*operands: Any) -> list[Any]:
        values = dict(zip((*inner.jaxpr.constvars, *inner.jaxpr.invars), (*inner.consts, *operands), strict=True))

        def read(variable: Any) -> Any:
            return variable.val if isinstance(variable, Literal) else values[variable]

        outputs = equation.primitive.bind(*map(read, equation.invars), **equation.params)
        values.update(zip(equation.outvars, outputs, strict=True))
        return [read(variable) for variable in inner.jaxpr.outvars]

    return call


def _marked(call: Callable[..., Any]) -> Callable[..., Any]:
    """Mark the call alone: its body, traced before, stays unmarked, so that XLA merges the calls inside it."""

    def marked(*operands: Any) -> Any:
        with set_xla_metadata(inlineable="false", xla_cpu_small_call="true"):
            return call(*operands)

    return marked


def _multiplications(equation: Any) -> int:
    ((contracted, _), _) = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return int(equation.outvars[0].aval.size * np.prod([shape[i] for i in contracted]))


def _equations(jaxpr: Jaxpr, in_loop: bool = False) -> Iterator[tuple[Any, bool]]:
    """Yield each equation, and whether it is inside a loop."""
    for equation in jaxpr.eqns:
        yield equation, in_loop
        for inner in _inner(list(equation.params.values())):
            yield from _equations(inner, in_loop or equation.primitive.name in ("while", "scan"))


def _inner(params: list[Any]) -> Iterator[Jaxpr]:
    for param in params:
        if isinstance(param, ClosedJaxpr):
            yield param.jaxpr
        elif isinstance(param, Jaxpr):
            yield param
        elif isinstance(param, tuple | list):
            yield from _inner(list(param))
