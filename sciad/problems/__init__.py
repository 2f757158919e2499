"""Problems: models joined to data."""

from sciad.problems.doses import Doses
from sciad.problems.matching import gradient_matching
from sciad.problems.ode import ODEProblem, ODEProgram
from sciad.problems.steady import SteadyState

__all__ = ["Doses", "ODEProblem", "ODEProgram", "SteadyState", "gradient_matching"]
