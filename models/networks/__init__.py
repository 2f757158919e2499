"""Networks: functions with many parameters, from coordinates to fields."""

from sciad.models.networks.features import RandomFeatures
from sciad.models.networks.mlp import MLP

__all__ = ["MLP", "RandomFeatures"]
