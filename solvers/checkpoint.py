"""A sampling run on the disk: chains, metric and draws so far, from which it goes on to the same bits."""

import json
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sciad._atomic import replacing
from sciad._errors import InputError
from sciad.solvers.chains import Chains, Stretch
from sciad.solvers.hamiltonian import Point
from sciad.solvers.warmup import Ready

EVERY = 2.0  # seconds between two writes, at least


class Checkpoint:
    """One file that always holds a whole state of the run.

    Parameters
    ----------
    path
        A NumPy archive, without pickles.
    facts
        What the draws depend on beside the density: names of the parameters, kernel, key.
    """

    def __init__(self, path: str | Path, facts: dict[str, Any]) -> None:
        self.path, self._facts = Path(path), json.loads(json.dumps(facts))
        self._written = -np.inf

    def load(self, chains: Chains) -> tuple[Ready, Stretch] | None:
        """Return chains ready to go on, and the draws so far; None if there is no file.

        Raises
        ------
        InputError
            If the file cannot be read, or is of another posterior or sampler.
        """
        if not self.path.exists():
            return None
        structure = jax.tree.structure(chains.blank)
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                told = json.loads(str(archive["told"]))
                leaves = [archive[f"leaf_{i}"] for i in range(structure.num_leaves)]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            msg = f"Cannot read the checkpoint {self.path}: {error}. Delete it to sample from the start."
            raise InputError(msg) from error
        state, metric, draws = jax.tree.unflatten(structure, leaves)
        differ = [name for name, value in self._facts.items() if told["facts"].get(name) != value]
        if not differ and not _same_density(chains, state.point):
            differ = ["density"]
        if differ:
            msg = f"The checkpoint {self.path} is of another run: its {', '.join(differ)} differ. Give another file, "
            msg += "or delete it to sample from the start."
            raise InputError(msg)
        return Ready(state, metric, **told["ready"]), draws

    @property
    def due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() - self._written >= EVERY

    def save(self, ready: Ready, draws: Stretch) -> None:
        """Write, whole or not at all."""
        leaves = jax.tree.leaves((ready.state, ready.metric, draws))
        rest = {name: getattr(ready, name) for name in ("kind", "notes", "modes", "transitions")}
        told = json.dumps({"facts": self._facts, "ready": rest})
        arrays: dict[str, Any] = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        with replacing(self.path) as scratch, scratch.open("wb") as file:
            np.savez(file, told=np.array(told), **arrays)
        self._written = time.monotonic()


def _same_density(chains: Chains, point: Point) -> bool:
    """Whether the density where the chains stand is what it was: data and model are the same then."""
    position = np.asarray(point.position)
    if position.shape != (chains.number, chains.size):
        return False
    potential, gradient = chains.evaluate(position)
    return np.allclose(potential, point.potential, rtol=1e-6) and np.allclose(gradient, point.gradient, rtol=1e-3)
