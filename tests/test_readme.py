import re
import subprocess
import sys

import pytest


def blocks(root, language):
    return re.findall(rf"```{language}\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)


@pytest.mark.slow
def test_the_example_runs(root):
    (code,) = blocks(root, "python")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert "growth" in done.stdout


def test_the_commands_are_those_of_the_makefile(root):
    """What the README says that `make` runs is what `make` runs."""
    plain = blocks(root, "sh")[1].splitlines()
    command = ["make", "--dry-run", "--always-make", "demo", "test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, stdin=subprocess.DEVNULL)
    ran = done.stdout.replace("--quiet --disable-pip-version-check ", "").replace('"', "'").splitlines()
    assert not [line for line in plain if line.replace('"', "'") not in ran], done.stdout
