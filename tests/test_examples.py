import doctest
import importlib

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
    done = doctest.testmod(importlib.import_module(documented), optionflags=FLAGS)
    assert done.attempted > 0, f"{documented}: the examples stand where doctest does not look"
    assert done.failed == 0
