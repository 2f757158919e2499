"""Problems: models joined to data."""

from sciad.problems.doses import Doses
from sciad.problems.matching import gradient_matching
from sciad.problems.ode import ODEProblem, ODEProgram

__all__ = ["Doses", "ODEProblem", "ODEProgram", "gradient_matching"]
