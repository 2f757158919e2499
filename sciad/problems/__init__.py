"""Problems: models joined to data."""

from sciad.problems.doses import Doses
from sciad.problems.matching import gradient_matching
from sciad.problems.ode import ODEProblem, ODEProgram
from sciad.problems.resets import Reset
from sciad.problems.shooting import multiple_shooting
from sciad.problems.steady import SteadyState

__all__ = ["Doses", "ODEProblem", "ODEProgram", "Reset", "SteadyState", "gradient_matching", "multiple_shooting"]
