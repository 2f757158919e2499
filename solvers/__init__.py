"""Algorithms: they know a problem by its protocol only, never a concrete model."""

if __name__ != "sciad.solvers":
    message = f"This folder is the package `sciad.solvers`, not `{__name__}`: write `import sciad.solvers`."
    raise ImportError(message)

from sciad.solvers.collocation import Collocation
from sciad.solvers.delay import DDE
from sciad.solvers.descent import Descent
from sciad.solvers.gauss_newton import GaussNewton
from sciad.solvers.hamiltonian import HMC, NUTS, AbstractKernel
from sciad.solvers.last_layer import LastLayer
from sciad.solvers.least_squares import LeastSquares
from sciad.solvers.minimisation import QuasiNewton
from sciad.solvers.ode import ODE, ODESolution
from sciad.solvers.quasi_newton import SSBroyden
from sciad.solvers.sde import SDE, SDESolution
from sciad.solvers.steady import steady_state
from sciad.solvers.warmup import Warmup

__all__ = [
    "DDE",
    "HMC",
    "NUTS",
    "ODE",
    "SDE",
    "AbstractKernel",
    "Collocation",
    "Descent",
    "GaussNewton",
    "LastLayer",
    "LeastSquares",
    "ODESolution",
    "QuasiNewton",
    "SDESolution",
    "SSBroyden",
    "Warmup",
    "steady_state",
]
