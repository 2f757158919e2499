import ast
import doctest
import importlib
from pathlib import Path

import jax
import pytest

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Finder(doctest.DocTestFinder):
    """Looks at public objects too, which say that they belong to `sciad` once somebody has asked for them there."""

    def _from_module(self, module, object):
        here = [node.name for node in ast.parse(Path(module.__file__).read_text()).body if hasattr(node, "name")]
        public = getattr(object, "__module__", "") == "sciad" and getattr(object, "__name__", "") in here
        return super()._from_module(module, object) or public


@pytest.fixture
def as_found():
    """JAX as its reader finds it, in float32 until the example says otherwise."""
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.loose_promotion
@pytest.mark.usefixtures("as_found", "workplace")
def test_examples_in_docstrings(documented):
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for examples in Finder().find(importlib.import_module(documented)):
        runner.run(examples)
    assert runner.tries > 0, f"{documented}: the examples stand where doctest does not look"
    assert runner.failures == 0
