"""A fitted field: what a `PDEProblem` and an equation came to."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Array, ArrayLike, Float

from sciad._errors import InputError, counted, did_you_mean
from sciad._estimates import Estimates
from sciad._field_errors import Spread
from sciad._field_film import write_film
from sciad._field_pictures import draw_field, draw_history, shown_grid
from sciad._roles import unwrap
from sciad.problems.pde import PDEProblem, PDEProgram

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FieldFit(Estimates):
    """A fitted program of a partial differential equation.

    Attributes
    ----------
    problem, program
        The problem, and the complete program with the estimates in place.
    names, values, covariance
        Unknown numbers of equation, conditions and noise, their estimates, and the covariance of these.
    spread
        The normal law about the estimates, field included, that errors are taken from; None without data.
    held_out
        Root mean square of the residuals of each group, on points that were never trained on.
    unsolved
        The same without a solution: with a network as it is before any training.
    history
        A row for each round of points: ``steps``, ``seconds``, and root mean squares ``trained`` and ``held_out``.
    stats
        Steps, rounds, seconds, how it ended, and whether the problem is ``solved``: the equation and each condition
        met to a thousandth of what they are missed by without a solution; beside data to a tenth, with the equation at
        its full weight.
    warnings
        What a reader must know, in plain words.
    """

    problem: PDEProblem
    program: PDEProgram
    names: tuple[str, ...]
    values: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    spread: Spread | None
    held_out: dict[str, float]
    unsolved: dict[str, float]
    history: pd.DataFrame
    stats: dict[str, Any]
    warnings: list[str]

    @property
    def field(self) -> Any:
        """The field as a function of a `Point`, to be evaluated and differentiated; with several, all by name."""
        return self.problem.field(unwrap(self.program))

    def __call__(self, **coordinates: ArrayLike | Sequence[float]) -> xr.Dataset:
        """Return the fields on the grid of these coordinates, a number or a one-dimensional array each.

        Raises
        ------
        InputError
            If a coordinate is missing, unknown, or lies outside the domain.
        """
        return self.problem.on_grid(self.program, **coordinates)

    def prediction(self) -> Float[np.ndarray, "n fields"]:
        """Return the fields at the observed points, in the order of ``problem.observations``."""
        if self.problem.observations is None:
            msg = "There are no observations. Call the fit with coordinates for the field elsewhere."
            raise InputError(msg)
        return np.asarray(self.problem.evaluate(self.program, self.problem.observations.points))

    def error_of(self, function: Callable[[Any], Array]) -> np.ndarray:
        """Return the standard error of what a function makes of the program, by linearisation.

        Parameters
        ----------
        function
            Of the program with plain numbers in the place of parameters, to an array: of an unknown function in the
            equation, for instance, ``lambda program: jax.vmap(program.equation.conductivity)(x)``.

        Returns
        -------
        Array of the shape that the function returns.

        Raises
        ------
        InputError
            If there are no data.
        """
        return self._spread().of(function)

    def field_error(self, **coordinates: ArrayLike | Sequence[float]) -> xr.Dataset:
        """Return the standard errors of the fields on the grid of these coordinates; see `FieldFit.__call__`.

        They are those of the mean, to which the noise of an observation adds.

        Raises
        ------
        InputError
            If there are no data, or a coordinate is missing, unknown, or lies outside the domain.
        """
        spread = self._spread()
        problem = self.problem
        return problem.over_grid(lambda points: spread.over(problem.evaluate, points), problem.fields, coordinates)

    def equation_residual(self, **coordinates: ArrayLike | Sequence[float]) -> xr.DataArray:
        """Return by how much the equation is missed on the grid of these coordinates; see `FieldFit.__call__`.

        Of several equations, the root of the sum of squares.

        Raises
        ------
        InputError
            If a coordinate is missing, unknown, or lies outside the domain.
        """
        return self.problem.over_grid(self._missed, ("residual",), coordinates)["residual"]

    def _missed(self, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 1"]:
        sizes = eqx.filter_jit(self.problem.missed)(unwrap(self.program), jnp.asarray(points))
        return np.asarray(sizes)[:, None]

    @property
    def residuals(self) -> xr.Dataset:
        """Standardised residuals of the data along ``observation``, each by its noise; NaN where not observed.

        Raises
        ------
        InputError
            If there are no data.
        """
        problem, seen = self.problem, self.problem.observations
        if seen is None:
            msg = "There are no observations, and so no residuals of data. Those of the equation: `equation_residual`."
            raise InputError(msg)
        of_all = np.asarray(problem.standardised(unwrap(self.program), jnp.asarray(self.prediction())))
        found = of_all.reshape(len(seen.points), -1)
        there = [number for number, field in enumerate(problem.fields) if field in problem.noise]
        columns = {
            problem.fields[number]: ("observation", np.where(seen.observed[:, number], found[:, i], np.nan))
            for i, number in enumerate(there)
        }
        places = {
            n: ("observation", column) for n, column in zip(problem.domain.coordinates, seen.points.T, strict=True)
        }
        return xr.Dataset(columns, coords=places)

    def _spread(self) -> Spread:
        if self.spread is None:
            msg = "There are no data, or too many weights, and so no errors by chance. How well the equation is met: "
            msg += "`held_out`, beside `unsolved`."
            raise InputError(msg)
        return self.spread

    def draw(self, field: str | None = None) -> "Figure":
        """Draw the field and how the residuals fell; returns the figure."""
        import matplotlib.pyplot as plt

        figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.2), layout="constrained")
        draw_field(left, self(**shown_grid(self.problem.domain))[self._named(field)])
        draw_history(right, self.history)
        return figure

    def animate(
        self, path: str | os.PathLike[str], *, over: str = "t", field: str | None = None, frames: int = 60
    ) -> Path:
        """Write a film of the field and of what the equation is missed by, as a GIF: a frame for each value of `over`.

        Parameters
        ----------
        path
            Name of the file, which ends in ``.gif``.
        over
            The coordinate that passes. Of the others the first, or the first two, are shown, the rest in the middle.
        field
            Which field; default: the first.
        frames
            How many.

        Raises
        ------
        InputError
            If there is no such coordinate or field, or no other coordinate.
        """
        return write_film(self, path, over, self._named(field), frames)

    def _named(self, field: str | None) -> str:
        fields = self.problem.fields
        if field is not None and field not in fields:
            msg = f"There is no field {field!r}. {did_you_mean(field, fields)}"
            raise InputError(msg)
        return fields[0] if field is None else field

    @property
    def message(self) -> str:
        """How the optimisation ended, in words."""
        return self.stats["ended"]

    def __repr__(self) -> str:
        residual = f"equation's residual {self.held_out['equation']:.2g} on points held out"
        told = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<FieldFit: {', '.join(self.problem.fields)}, {residual}{told}>"

    def __str__(self) -> str:
        lines = [str(self.problem)]
        lines += [f"{name}: root mean square {value:.2g} on points held out" for name, value in self.held_out.items()]
        lines += [self.table().to_string(float_format="{:.5g}".format)] if self.names else []
        spent = f"{counted(self.stats['steps'], 'step')}, {self.stats['seconds']:.0f} s. {self.message}"
        return "\n".join([*lines, spent, *self.warnings])
