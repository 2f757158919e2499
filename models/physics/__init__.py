"""Physics: right-hand sides of equations with named parameters."""

from sciad.models.physics.delays import erlang_delay
from sciad.models.physics.kinetics import STAT5, MichaelisMenten, Robertson
from sciad.models.physics.oscillators import FitzHughNagumo, Goodwin, Lorenz, VanDerPol
from sciad.models.physics.pharmacology import HIV, OneCompartment, TwoCompartment
from sciad.models.physics.populations import SEIR, SIR, LotkaVolterra

__all__ = [
    "HIV",
    "SEIR",
    "SIR",
    "STAT5",
    "FitzHughNagumo",
    "Goodwin",
    "Lorenz",
    "LotkaVolterra",
    "MichaelisMenten",
    "OneCompartment",
    "Robertson",
    "TwoCompartment",
    "VanDerPol",
    "erlang_delay",
]
