import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).resolve().parents[1]
# The verbs, and what one verb alone uses.
VERBS = {
    f"sciad._{name}"
    for name in [
        "account",
        "data_remarks",
        "field",
        "field_account",
        "field_course",
        "field_errors",
        "fit",
        "fit_field",
        "fit_lines",
        "fitted",
        "identifiability",
        "profile",
        "remarks",
        "sample",
        "sindy",
        "tree",
        "tune",
    ]
}


def floor(name):
    """The floor on which a module stands; a module may import its own floor and those below."""
    if name == "sciad.__main__" or name.startswith("sciad.app"):
        return 4
    if name == "sciad" or name.startswith("sciad.problems") or name in VERBS:
        return 3
    if name.startswith("sciad.solvers"):
        return 2
    return 1 if name.startswith("sciad.models") else 0


def imported(file):
    """Every dotted name that a module imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def python(code, **kwargs):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **kwargs)


def copy_tree(root, target):
    """Copy what a release is made of, so that a build leaves nothing behind in the working tree."""
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, target)
    for name in ("sciad", "models", "solvers"):
        shutil.copytree(root / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))


def shipped(tree):
    """The path in a wheel of every file of the three folders."""
    for package, folder in (("sciad", "sciad"), ("sciad/models", "models"), ("sciad/solvers", "solvers")):
        for file in (tree / folder).rglob("*"):
            parts = file.relative_to(tree / folder).parts
            linked = package == "sciad" and parts[0] in ("models", "solvers")
            if file.is_file() and not linked:
                yield "/".join([package, *parts])


def test_wheel_holds_every_module_and_data_file(tmp_path, root):
    tree = tmp_path / "tree"
    copy_tree(root, tree)
    expected = set(shipped(tree))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(tree)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("sciad-*.whl")
    with zipfile.ZipFile(file) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_packages_are_listed_explicitly(modules, root):
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {name if file.name == "__init__.py" else name.rpartition(".")[0] for name, file in modules.items()}
    assert found <= set(listed)


def test_imports_go_down(module, modules):
    used = {name for name in imported(modules[module]) if name in modules and name != "sciad"}
    above = {name for name in used if floor(name) > floor(module)}
    assert module == "sciad" or not above, f"{module} is on floor {floor(module)} and imports {sorted(above)}"


def test_models_and_solvers_meet_on_the_ground_floor_only(modules):
    for here, there in (("sciad.models", "sciad.solvers"), ("sciad.solvers", "sciad.models")):
        for name, file in modules.items():
            if name.startswith(here):
                assert not [used for used in imported(file) if used.startswith(there)], name


def test_inner_modules_do_not_import_the_public_surface(module, modules):
    if floor(module) < 4:
        for node in ast.walk(ast.parse(modules[module].read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "sciad":
                public = {alias.name for alias in node.names if not alias.name.startswith("_")}
                assert public <= {"models", "problems", "solvers"}, f"{module}: import from the private module"


def test_no_relative_import_and_no_giant_module(module, modules):
    text = modules[module].read_text()
    levels = [node.level for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert not any(levels), f"{module} imports relatively"
    assert len(text.splitlines()) <= 600, f"{module} has more than 600 lines: split it"


def test_nothing_imports_what_is_not_shipped(modules):
    for name, file in modules.items():
        used = {other.partition(".")[0] for other in imported(file)}
        assert not used & {"benchmarks", "docs", "tests", "models", "solvers"}, name


UNWANTED = {
    "unfinished work": r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|raise NotImplemented" + r"Error",
    "a path of one machine": r"/(work|root|home)/" + r"\w",
    "the address of a package registry": r"pypi\." + r"org|python" + r"hosted|registry\." + r"npmjs",
}
WRITTEN = ("*.toml", "*.md", "*.cff", "*.txt", "Makefile", ".ci/run", "docs/*.*", "tests/*.py", "benchmarks/**/*.*")


@pytest.mark.parametrize("kind", UNWANTED)
def test_no_file_holds(kind, modules, root):
    written = [file for pattern in WRITTEN for file in root.glob(pattern) if file.is_file() and file.suffix != ".pyc"]
    pattern = re.compile(UNWANTED[kind])
    found = [str(file) for file in [*modules.values(), *written] if pattern.search(file.read_text())]
    assert not found, f"{kind} in {found}"


def test_links_are_relative(root):
    for name in ("models", "solvers"):
        link = root / "sciad" / name
        if not link.is_symlink():
            pytest.skip("this checkout has no links (a clone on Windows)")
        assert link.readlink() == Path("..") / name


def test_import_is_lazy():
    """`import sciad` costs nothing that its user has not asked for."""
    done = python("import json, sys, sciad; print(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"jax", "numpy", "pandas", "xarray", "diffrax", "numpyro", "matplotlib", "scipy"}


def test_help_imports_no_jax():
    code = "import sys; from sciad.app.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    done = python(code + "print('jax' in sys.modules)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("room", ["models", "solvers"])
def test_folders_at_the_top_are_no_packages_of_their_own(room, root):
    done = python(f"import {room}", cwd=root)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.match(rf"ImportError: .*sciad\.{room}", last), last


def test_signatures_are_checked_while_testing():
    loader = type(importlib.import_module("sciad._typing").__spec__.loader)
    assert loader.__module__.startswith("jaxtyping"), "tests/conftest.py installs the import hook too late"


def test_promotion_is_strict():
    with pytest.raises(jax.dtypes.TypePromotionError, match="float32"):
        jnp.zeros(2, jnp.float32) + jnp.zeros(2)
    with pytest.raises(ValueError, match="jax_numpy_rank_promotion"):
        jnp.zeros((2, 2)) + jnp.zeros(2)


@pytest.mark.loose_promotion
def test_promotion_is_loose_on_request():
    assert (jnp.zeros((2, 2), jnp.float32) + jnp.zeros(2)).dtype == jnp.float64


def public():
    """Every public class and function, with the path at which a user finds it."""
    for package in ("sciad", "sciad.models", "sciad.models.physics", "sciad.models.probability", "sciad.solvers"):
        surface = importlib.import_module(package)
        for name in getattr(surface, "__all__", []):
            if callable(getattr(surface, name)):
                yield package, name, getattr(surface, name)


def found_at(path, name):
    """What stands under a name in a public module, or None."""
    private = any(part.startswith("_") for part in path.split("."))
    return None if private or not path.startswith("sciad") else getattr(importlib.import_module(path), name, None)


def test_public_objects_are_documented_and_show_their_public_path():
    things = list(public())
    assert things
    undocumented = [f"{package}.{name}" for package, name, thing in things if not (thing.__doc__ or "").strip()]
    assert not undocumented, "no docstring"
    hidden = [name for _, name, thing in things if found_at(thing.__module__, name) is not thing]
    assert not hidden, "`__module__` shows a private path"


def test_dir_lists_the_surface():
    import sciad

    assert set(sciad.__all__) <= set(dir(sciad))
    with pytest.raises(AttributeError, match="no_such_name"):
        sciad.no_such_name  # noqa: B018  the access is the test
