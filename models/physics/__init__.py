"""Physics: right-hand sides of equations with named parameters."""

from sciad.models.physics.populations import SIR, LotkaVolterra

__all__ = ["SIR", "LotkaVolterra"]
