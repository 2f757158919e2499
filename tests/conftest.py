"""What every test runs under: float64, strict promotion, warnings as errors, checked shapes."""

import os
from pathlib import Path

import pytest

# Set before anything imports JAX or Matplotlib: tests ask for no accelerator and no screen.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import jaxtyping

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)  # so that parallel chains are tested as such

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"sciad": ROOT / "sciad", "sciad.models": ROOT / "models", "sciad.solvers": ROOT / "solvers"}


def find_modules():
    """Pairs of a module's dotted name and its file; each file once, although two folders are also links."""
    for package, folder in ROOMS.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            linked = package == "sciad" and parts[0] in ("models", "solvers")
            if not linked and "__pycache__" not in parts:
                yield ".".join([package, *(part for part in parts if part != "__init__")]), file


MODULES = dict(find_modules())

# The signatures of sciad are checked as its modules are first imported, so the hook stands before any test module. The
# command line and the reports are left out: they hold no arrays, and the hook does not know `typing.Self`.
CHECKED = [name for name in MODULES if name != "sciad" and not name.startswith("sciad.app")]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture
def unchecked():
    """Switch the check of signatures off, which would come before our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_generate_tests(metafunc):
    """A test that takes `module` runs for every module, one that takes `documented` for every one with examples."""
    if "module" in metafunc.fixturenames:
        metafunc.parametrize("module", MODULES)
    if "documented" in metafunc.fixturenames:
        metafunc.parametrize("documented", [name for name, file in MODULES.items() if ">>>" in file.read_text()])


@pytest.fixture(autouse=True)
def promotion(request):
    """Strict dtype and rank promotion: an accidental float32 or a silent outer product is an error.

    A fixture and not a global setting, because NumPyro's own NUTS adds int64 to float64 and its Dirichlet relies on
    rank promotion; a test that runs them says so with the marker `loose_promotion`.
    """
    if request.node.get_closest_marker("loose_promotion"):
        yield
    else:
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            yield


@pytest.fixture(autouse=True)
def reseeded(request):
    """A module's random numbers, RNG, begin anew in each test, so that no test depends on those before it."""
    generator = getattr(request.module, "RNG", None)
    if generator is not None:
        generator.bit_generator.state = type(generator.bit_generator)(0).state
    return generator


@pytest.fixture(scope="session")
def root():
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def modules():
    """Every module of sciad: dotted name to file."""
    return MODULES


@pytest.fixture
def key():
    """One key for the test; the same at every run."""
    return jax.random.key(20)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current folder and an empty home, as on a machine that nobody has used."""
    home = tmp_path / "home"
    work = tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    return work
