import doctest
import importlib
import inspect

import jax
import pytest

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def as_found():
    """JAX as its reader finds it, in float32 until the example says otherwise."""
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.loose_promotion
@pytest.mark.usefixtures("as_found", "workplace")
def test_examples_in_docstrings(documented):
    module = importlib.import_module(documented)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    # Public objects say that they belong to `sciad`: take those whose source stands in this module.
    for name, member in vars(module).items():
        if inspect.isclass(member) or inspect.isfunction(member):
            if inspect.getsourcefile(member) != module.__file__:
                continue
            tests = doctest.DocTestFinder(exclude_empty=True).find(member, name, module=False, globs=dict(vars(module)))
            for test in tests:
                runner.run(test)
    assert runner.tries > 0, f"{documented}: the examples stand where doctest does not look"
    assert runner.failures == 0
