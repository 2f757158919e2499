"""sciad: a scientific study (preprocessing, model, objective) as one differentiable program.

Names are imported on first use: ``import sciad`` itself loads neither JAX nor anything heavy, and makes no array.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sciad import models as models
    from sciad import solvers as solvers
    from sciad._cores import use_cores
    from sciad._data import fingerprint, read
    from sciad._derivatives import Point, d, derivatives, estimated_laplacian, gradient, laplacian
    from sciad._describe import describe
    from sciad._errors import InputError, OptionError, SciadError
    from sciad._field import FieldFit
    from sciad._fit import Fit, fit
    from sciad._identifiability import Identifiability
    from sciad._partition import Split, split_data
    from sciad._posterior import Posterior
    from sciad._precision import PrecisionWarning
    from sciad._profile import Profile, profile
    from sciad._results import RESULTS
    from sciad._robust import huber, soft_l1, student_t
    from sciad._roles import Param, Roles, frozen, join, mark, outer, param, split, unwrap
    from sciad._sample import sample
    from sciad._sindy import Discovery, Formula, sindy
    from sciad._stored import load, save
    from sciad._vector import Vectorized, vectorize
    from sciad.app.report import report
    from sciad.models.domains import Ball, Box, Cloud, Disk, Mapped, Polygon, draw_domain
    from sciad.models.probability import LogNormal, NegativeBinomial, Normal, StudentT
    from sciad.problems import (
        Dirichlet,
        Doses,
        Initial,
        Integral,
        Interface,
        MethodOfLines,
        Neumann,
        ODEProblem,
        ODEProgram,
        Operator,
        PDEProblem,
        PDEProgram,
        Periodic,
        Reset,
        Robin,
        SteadyState,
        gradient_matching,
        multiple_shooting,
    )
    from sciad.solvers import (
        DDE,
        HMC,
        NUTS,
        ODE,
        SDE,
        Collocation,
        Descent,
        GaussNewton,
        LastLayer,
        LeastSquares,
        QuasiNewton,
        SSBroyden,
        Warmup,
    )

_HOMES = {
    "sciad._cores": ("use_cores",),
    "sciad._data": ("fingerprint", "read"),
    "sciad._derivatives": ("Point", "d", "derivatives", "estimated_laplacian", "gradient", "laplacian"),
    "sciad._describe": ("describe",),
    "sciad._errors": ("InputError", "OptionError", "SciadError"),
    "sciad._field": ("FieldFit",),
    "sciad._fit": ("Fit", "fit"),
    "sciad._identifiability": ("Identifiability",),
    "sciad._partition": ("Split", "split_data"),
    "sciad._posterior": ("Posterior",),
    "sciad._precision": ("PrecisionWarning",),
    "sciad._profile": ("Profile", "profile"),
    "sciad._results": ("RESULTS",),
    "sciad._robust": ("huber", "soft_l1", "student_t"),
    "sciad._roles": ("Param", "Roles", "frozen", "join", "mark", "outer", "param", "split", "unwrap"),
    "sciad._sample": ("sample",),
    "sciad._sindy": ("Discovery", "Formula", "sindy"),
    "sciad._stored": ("load", "save"),
    "sciad._vector": ("Vectorized", "vectorize"),
    "sciad.app.report": ("report",),
    "sciad.models.domains": ("Ball", "Box", "Cloud", "Disk", "Mapped", "Polygon", "draw_domain"),
    "sciad.models.probability": ("LogNormal", "NegativeBinomial", "Normal", "StudentT"),
    "sciad.problems": (
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
    ),
    "sciad.solvers": (
        "DDE",
        "HMC",
        "NUTS",
        "ODE",
        "SDE",
        "Collocation",
        "Descent",
        "GaussNewton",
        "LastLayer",
        "LeastSquares",
        "QuasiNewton",
        "SSBroyden",
        "Warmup",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = ("models", "problems", "solvers")

__all__ = [
    "DDE",
    "HMC",
    "NUTS",
    "ODE",
    "RESULTS",
    "SDE",
    "Ball",
    "Box",
    "Cloud",
    "Collocation",
    "Descent",
    "Dirichlet",
    "Discovery",
    "Disk",
    "Doses",
    "FieldFit",
    "Fit",
    "Formula",
    "GaussNewton",
    "Identifiability",
    "Initial",
    "InputError",
    "Integral",
    "Interface",
    "LastLayer",
    "LeastSquares",
    "LogNormal",
    "Mapped",
    "MethodOfLines",
    "NegativeBinomial",
    "Neumann",
    "Normal",
    "ODEProblem",
    "ODEProgram",
    "Operator",
    "OptionError",
    "PDEProblem",
    "PDEProgram",
    "Param",
    "Periodic",
    "Point",
    "Polygon",
    "Posterior",
    "PrecisionWarning",
    "Profile",
    "QuasiNewton",
    "Reset",
    "Robin",
    "Roles",
    "SSBroyden",
    "SciadError",
    "Split",
    "SteadyState",
    "StudentT",
    "Vectorized",
    "Warmup",
    "d",
    "derivatives",
    "describe",
    "draw_domain",
    "estimated_laplacian",
    "fingerprint",
    "fit",
    "frozen",
    "gradient",
    "gradient_matching",
    "huber",
    "join",
    "laplacian",
    "load",
    "mark",
    "multiple_shooting",
    "outer",
    "param",
    "profile",
    "read",
    "report",
    "sample",
    "save",
    "sindy",
    "soft_l1",
    "split",
    "split_data",
    "student_t",
    "unwrap",
    "use_cores",
    "vectorize",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"sciad.{name}")
    if name not in _HOME:
        msg = f"module 'sciad' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME[name]), name)
    if getattr(value, "__module__", "").startswith("sciad._"):
        value.__module__ = "sciad"
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
