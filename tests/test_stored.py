import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import sciad as sd


def program(rate=1.0, size=3):
    return {"rate": sd.param(rate), "known": sd.frozen(2.0), "weights": rate * jnp.arange(float(size)), "name": "tanh"}


def test_a_program_comes_back_from_another_process(tmp_path):
    file = sd.save(program(5.0), tmp_path / "model")
    assert file.name == "model.npz"
    code = f"""
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, sciad as sd
like = {{"rate": sd.param(1.0), "known": sd.frozen(0.0), "weights": jnp.zeros(3), "name": "tanh"}}
found = sd.load({str(file)!r}, like)
print(float(found["rate"]), float(found["known"]), found["weights"].tolist(), found["name"], found["rate"].role)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5.0 2.0 [0.0, 5.0, 10.0] tanh inner"


def test_another_program_is_refused(tmp_path):
    file = sd.save(program(), tmp_path / "model.npz")
    with pytest.raises(sd.InputError, match=r"weights has shape \(3,\) there, and \(4,\) here"):
        sd.load(file, program(size=4))
    with pytest.raises(sd.InputError, match=r"other is not in the file"):
        sd.load(file, program() | {"other": jnp.ones(1)})
    with pytest.raises(sd.InputError, match=r"weights is not in the program"):
        sd.load(file, {"rate": sd.param(1.0), "known": sd.frozen(2.0)})


def test_what_is_no_stored_program_is_refused(tmp_path):
    with pytest.raises(sd.InputError, match="Cannot read"):
        sd.load(tmp_path / "none.npz", program())
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(sd.InputError, match=r"Give a file that sd\.save wrote"):
        sd.load(tmp_path / "text.npz", program())
    np.savez(tmp_path / "objects.npz", a=np.array([object()], dtype=object))
    with pytest.raises(sd.InputError, match="Cannot read"):
        sd.load(tmp_path / "objects.npz", program())
    with pytest.raises(sd.InputError, match="Choose a folder that exists"):
        sd.save(program(), tmp_path / "nowhere" / "model.npz")
