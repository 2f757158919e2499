"""Problems: models joined to data."""

from sciad.problems.ode import ODEProblem, ODEProgram

__all__ = ["ODEProblem", "ODEProgram"]
