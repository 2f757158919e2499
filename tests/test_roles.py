"""Roles: parameters, marks, the three-way split and the table."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro.distributions import constraints

import sciad as sd
from sciad._describe import describe
from sciad._errors import InputError, OptionError
from sciad._param import FromPrior
from sciad._roles import Param, fill, frozen, join, leaves, mark, outer, param, role_of, split, unwrap

ROLES = ("inner", "outer", "frozen")


class Decay(eqx.Module):
    rate: Param = param(prior=dist.LogNormal(0.0, 0.5), unit="1/day")
    scale: Param = param(2.0, constraint=constraints.positive)
    offset: Param = frozen(1.0)

    def __call__(self, t, y):
        del t
        return -self.rate * y * self.scale + self.offset


class Study(eqx.Module):
    decay: Decay
    net: eqx.nn.MLP
    width: Param
    steps: jax.Array
    name: str = "study"


@pytest.fixture(scope="module")
def study():
    net = eqx.nn.MLP(2, 1, 4, 1, dtype=jnp.float64, key=jax.random.key(0))
    return Study(Decay(), net, outer(0.3, constraint=constraints.interval(0, 1)), jnp.arange(3))


def roles_of(program):
    return {path: role_of(leaf) for path, leaf in leaves(program).items()}


# Param


def test_class_defaults_allocate_no_array():
    assert isinstance(Decay().rate.value, FromPrior)
    assert not isinstance(Decay().scale.value, jax.Array)


def test_importing_and_declaring_starts_no_backend():
    import subprocess
    import sys

    code = (
        "import numpyro.distributions as dist; from sciad._roles import param, frozen\n"
        "param(0.5, prior=dist.LogNormal(0, 1)); param(prior=dist.TruncatedNormal(1., 1., low=0)); frozen([1, 2])\n"
        "from jax._src import xla_bridge; assert not xla_bridge._backends, xla_bridge._backends"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (dist.Gamma(6.0, 2.0), 3.0),  # the mean
        (dist.Cauchy(1.5, 1.0), 1.5),  # no mean: the median
        (dist.HalfCauchy(2.0), 2.0),  # infinite mean: the median, tan(pi / 4) times the scale
        (dist.TruncatedNormal(0.0, 1.0, low=0.0), np.sqrt(2 / np.pi)),
    ],
)
def test_value_is_taken_from_the_prior(prior, expected):
    assert param(prior=prior).array == pytest.approx(expected)


def test_value_of_a_vector_prior_has_its_shape():
    p = param(prior=dist.Normal(jnp.array([1.0, 2.0]), 1.0))
    assert p.shape == (2,)
    assert p.array.tolist() == [1.0, 2.0]


def test_arithmetic_acts_on_the_array():
    p, x = param(3.0), np.arange(2.0)
    assert float(2 * p - 1) == 5
    assert float((1 - p) / p) == pytest.approx(-2 / 3)
    assert float(p**2 + 2.0**p) == 17
    assert float(-p) == -float(abs(p)) == -3
    assert (x * p).tolist() == (p * x).tolist() == [0, 3]
    assert float(p * p + p) == 12
    assert bool(p > 2)
    assert bool(p > 2)
    assert bool(p >= 3)
    assert not bool(p < 3)
    assert bool(p <= 3)
    vector = param([1.0, 2.0])
    assert float(vector @ jnp.ones(2)) == float(np.ones(2) @ vector) == 3
    assert float(vector[1]) == 2
    assert len(vector) == 2
    assert vector.ndim == 1
    assert jnp.asarray(vector).tolist() == [1, 2]


def test_bare_model_and_unwrapped_model_agree():
    model = Decay(rate=param(0.5))
    assert float(model(0.0, 3.0)) == float(unwrap(model)(0.0, 3.0)) == -2.0


@pytest.mark.parametrize("role", ROLES[:2])
def test_integers_become_floats_unless_frozen(role):
    assert param(3, role=role).dtype == jnp.float64
    assert jnp.issubdtype(frozen(3).dtype, jnp.integer)
    assert frozen(True).dtype == bool


def test_constraint_follows_the_prior():
    assert param(prior=dist.HalfNormal(1.0)).constraint == constraints.positive
    assert param(1.0).constraint == constraints.real
    assert param(0.5, prior=dist.Uniform(0, 1), constraint=constraints.unit_interval).prior is not None


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: param(), "neither a value nor a prior"),
        (lambda: param(float("nan")), "Expected numbers, not NaN"),
        (lambda: param(float("inf")), "outside its constraint real"),
        (lambda: param(-1.0, constraint=constraints.positive), r"value -1.0 is outside its constraint > 0"),
        (lambda: param(-1.0, prior=dist.HalfNormal(1.0)), r"> 0, where its prior HalfNormal\(scale=1\) has its"),
        (lambda: outer(2.0, constraint=constraints.interval(0, 1)), r"outside its constraint 0 \.\. 1"),
        (lambda: frozen(-1.0, constraint=constraints.positive), "outside its constraint"),
        (
            lambda: param(1.0, prior=dist.Normal(0, 1), constraint=constraints.positive),
            "differs from the prior's support",
        ),
        (lambda: Param(1.0, prior=dist.Normal(0, 1), role="frozen"), "A prior on a frozen leaf has no effect. Remove"),
        (lambda: param(1.0, prior=dist.Normal(np.zeros(3), 1.0)), r"value has shape \(\) and its prior \(3,\)"),
        (lambda: param(prior=dist.Poisson(2.0)), "Expected continuous"),
        (lambda: param("fast"), "Expected real numbers for the role 'inner'"),
        (lambda: param(1 + 2j), "dtype complex128"),
        (lambda: param(1.0, constraint=constraints.boolean), "Expected continuous"),
    ],
)
def test_bad_declarations_are_refused(declare, message):
    with pytest.raises(InputError, match=message):
        declare()


def test_unknown_role_names_the_nearest():
    with pytest.raises(OptionError, match=r"role='iner' is not an option. .* Did you mean 'inner'\?"):
        Param(1.0, role="iner")  # pyright: ignore[reportArgumentType]


# Under JAX


def test_programs_built_apart_trace_once():
    traces = []

    @eqx.filter_jit
    def energy(model):
        traces.append(1)
        return model.rate * 2.0

    priors = [dist.Normal(jnp.array([0.0, 1.0]), 1.0) for _ in range(2)]
    one, two = (Decay(rate=param([x, 1.0], prior=prior)) for x, prior in zip((1.0, 5.0), priors, strict=True))
    assert [energy(one)[0], energy(two)[0]] == [2.0, 10.0]
    assert len(traces) == 1
    energy(Decay(rate=param([1.0, 1.0], prior=dist.Normal(jnp.array([0.0, 2.0]), 1.0))))
    assert len(traces) == 2  # another prior is another program


def test_equal_specs_hash_alike_and_differ_by_content():
    one, two, three = (param(1.0, prior=dist.TruncatedNormal(m, 1.0, low=0)).spec for m in (0.0, 0.0, 0.5))
    assert one == two
    assert hash(one) == hash(two)
    assert one != three
    assert one != "spec"


def test_gradient_vmap_and_plain_jit():
    model = Decay(rate=param(0.5))
    slope = jax.grad(lambda m: m(0.0, 3.0))(fill(model))
    assert float(slope.rate.value) == -6.0
    many = jax.vmap(lambda r: Decay(rate=param(r)))(jnp.arange(3.0))
    assert jax.vmap(lambda m: m(0.0, 1.0))(many).tolist() == [1.0, -1.0, -3.0]
    assert float(jax.jit(lambda m: m.rate + 1.0)(fill(model))) == 1.5


def test_prior_of_traced_values_works_inside_jit():
    @jax.jit
    def density(scale):
        p = param(1.0, prior=dist.Normal(0.0, scale))
        assert p.prior is not None
        assert hash(p.spec) == hash(p.spec)
        return p.prior.log_prob(p.array)

    assert float(density(2.0)) == pytest.approx(float(dist.Normal(0.0, 2.0).log_prob(1.0)))


def test_serialises(tmp_path):
    model = fill(Decay(rate=param(0.25)))
    eqx.tree_serialise_leaves(tmp_path / "model.eqx", model)
    back = eqx.tree_deserialise_leaves(tmp_path / "model.eqx", fill(Decay(rate=param(9.0))))
    assert bool(eqx.tree_equal(back, model))


# Split and join


def test_plain_arrays_are_inner_and_the_rest_frozen(study):
    roles = roles_of(study)
    assert roles["net.layers.0.weight"] == roles["decay.rate"] == "inner"
    assert roles["width"] == "outer"
    assert roles["steps"] == roles["decay.offset"] == roles["name"] == "frozen"


def test_split_is_a_partition_that_joins_back(study):
    program = fill(study)
    parts = split(study)
    assert bool(eqx.tree_equal(join(*parts), program))
    assert bool(eqx.tree_equal(join(*reversed(parts)), program))
    assert sum(len(jax.tree.leaves(part)) for part in parts) == len(jax.tree.leaves(program))


plain = [1.5, np.ones(2), np.arange(2), "tanh", None, True]
params = [*(Param(1.5, role=role) for role in ROLES), param(prior=dist.Normal(0, 1)), frozen([1, 2])]
trees = st.recursive(
    st.sampled_from([*plain, *params]),
    lambda sub: st.lists(sub, max_size=3) | st.dictionaries(st.sampled_from("abc"), sub),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=60, deadline=None)
def test_split_and_join_on_any_tree(tree):
    program = fill(tree)
    parts = split(tree)
    assert bool(eqx.tree_equal(join(*parts), program))
    assert sum(len(jax.tree.leaves(part)) for part in parts) == len(jax.tree.leaves(program))
    for role, part in zip(ROLES, parts, strict=True):
        kept = [
            role_of(leaf) for leaf in leaves(part).values() if not isinstance(leaf, Param) or leaf.value is not None
        ]
        assert set(kept) <= {role}


def test_a_part_does_not_refill_itself_from_the_prior():
    frozen_part = split(Decay()).frozen
    with pytest.raises(InputError, match=r"one part of a split program. Join the parts first"):
        _ = frozen_part.rate.array


@pytest.mark.loose_promotion  # Optax raises a float to an int32 count
def test_weight_decay_touches_inner_leaves_only():
    program = {"decay": Decay(), "weight": jnp.ones(2), "width": outer(0.3), "known": frozen([1.0, 2.0])}
    parts = split(program)
    optimiser = optax.adamw(0.1, weight_decay=0.5)

    @jax.jit
    def step(inner):
        gradient = jax.tree.map(jnp.ones_like, inner)
        updates, _ = optimiser.update(gradient, optimiser.init(inner), inner)
        return join(optax.apply_updates(inner, updates), parts.outer, parts.frozen)

    before, after = leaves(fill(program)), leaves(step(parts.inner))
    moved = {path for path, leaf in after.items() if not bool(eqx.tree_equal(leaf, before[path]))}
    assert moved == {"decay.rate", "decay.scale", "weight"}


# Mark


def test_mark_by_path_and_by_function(study):
    assert roles_of(mark(study, "net.layers.*.weight", "frozen"))["net.layers.1.weight"] == "frozen"
    by_name = mark(study, "decay.scale", "outer")
    by_function = mark(study, lambda s: s.decay.scale, "outer")
    assert roles_of(by_name) == roles_of(by_function)
    both = mark(study, lambda s: (s.decay.scale, s.net.layers[0]), "frozen")
    assert [path for path, role in roles_of(both).items() if role != roles_of(study)[path]] == [
        "decay.scale",
        "net.layers.0.weight",
        "net.layers.0.bias",
    ]


def test_mark_a_subtree_wraps_its_arrays_and_keeps_it_working(study):
    marked = mark(study, "net", "frozen")
    assert isinstance(marked.net.layers[0].weight, Param)
    x = jnp.ones(2)
    np.testing.assert_allclose(unwrap(marked).net(x), study.net(x))
    assert jax.tree.leaves(split(marked).inner.net) == []


def test_mark_prior_constraint_and_unit(study):
    marked = mark(study, "net.layers.*", prior=dist.Normal(0.0, 1.0), unit="none")
    weight = marked.net.layers[0].weight
    assert weight.prior is not None
    assert weight.role == "inner"
    assert weight.unit == "none"
    assert mark(study, "decay.scale", constraint=None).decay.scale.constraint == constraints.real
    fixed = mark(study, "decay.rate", "frozen", prior=None)
    assert float(fixed.decay.rate) == pytest.approx(np.exp(0.125))  # the prior's mean, exp(s^2 / 2)


def test_marking_inner_again_undoes(study):
    assert roles_of(mark(mark(study, "net", "frozen"), "net", "inner")) == roles_of(study)


@pytest.mark.parametrize(
    ("where", "role", "message"),
    [
        ("decay.rte", "outer", r"'decay.rte' selects no array of the program. Did you mean 'decay.rate'\?"),
        ("name", "frozen", "'name' selects no array"),
        ("steps", "inner", "Nothing that 'steps' selects can be 'inner'"),
        (lambda s: s.decay.rte, "outer", "`where` failed: 'Decay' object has no attribute 'rte'"),
        (lambda _: (), "outer", "`where` selects no array"),
        ("decay.rate", "frozen", "decay.rate: A prior on a frozen leaf has no effect"),
    ],
)
def test_marks_that_cannot_be(study, where, role, message):
    with pytest.raises(InputError, match=message):
        mark(study, where, role)


# Describe


def test_describe_lists_every_array(study):
    table = describe(study)
    rows = {row.path: row for row in table}
    assert len(table) == 9  # rate, scale, offset, two weights, two biases, width, steps
    rate = ("inner", (), "float64", "> 0", "LogNormal(loc=0, scale=0.5)", "1/day", "1.133", "")
    assert rows["decay.rate"][1:] == rate
    assert rows["net.layers.0.weight"].shape == (4, 2)
    assert rows["width"].constraint == "0 .. 1"
    assert rows["decay.offset"].constraint == ""
    lines = str(table).splitlines()
    assert lines[0].split() == ["path", "role", "shape", "dtype", "constraint", "prior", "unit", "value"]
    column = lines[0].index("role")
    assert {line[column:].split()[0] for line in lines[1:]} == set(ROLES)


def test_describe_a_part_of_a_split(study):
    rows = {row.path: row for row in describe(split(study).inner)}
    assert rows["decay.offset"].value == ""
    assert rows["decay.rate"].value == "1.133"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: param(1.0, prior="normal"), "A parameter's prior is 'normal'; expected one of NumPyro's, such as"),
        (lambda: param(1.0, prior=dist.LogNormal), r"A parameter's prior is <class .*; expected one of NumPyro's"),
        (lambda: param(1.0, constraint="positive"), r"constraint is 'positive'; .*constraints\.positive"),
        (lambda: param(dist.LogNormal(0.0, 1.0)), r"given as a parameter's value\. Write it as its prior: `prior="),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_prior_or_constraint_is_said(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_numbers_are_constants_whosever_they_are():
    program = {"python": 1.0, "numpy": np.float64(2.0), "array": np.array(3.0)}
    assert {name: role_of(leaf) for name, leaf in program.items()} == {
        "python": "frozen",
        "numpy": "frozen",
        "array": "inner",
    }
    assert type(fill(program)["numpy"]) is float
    with pytest.raises(sd.InputError, match="Expected floating-point arrays"):
        sd.mark(program, "numpy", "outer")
