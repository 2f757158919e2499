"""Problems: models joined to data."""

from sciad.problems.conditions import Dirichlet, Initial, Neumann, Operator, Periodic, Robin
from sciad.problems.doses import Doses
from sciad.problems.integral import Integral
from sciad.problems.interface import Interface
from sciad.problems.lines import MethodOfLines
from sciad.problems.matching import gradient_matching
from sciad.problems.ode import ODEProblem, ODEProgram
from sciad.problems.pde import PDEProblem, PDEProgram
from sciad.problems.resets import Reset
from sciad.problems.shooting import multiple_shooting
from sciad.problems.steady import SteadyState

__all__ = [
    "Dirichlet",
    "Doses",
    "Initial",
    "Integral",
    "Interface",
    "MethodOfLines",
    "Neumann",
    "ODEProblem",
    "ODEProgram",
    "Operator",
    "PDEProblem",
    "PDEProgram",
    "Periodic",
    "Reset",
    "Robin",
    "SteadyState",
    "gradient_matching",
    "multiple_shooting",
]
