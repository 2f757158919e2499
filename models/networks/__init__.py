"""Networks: functions with many parameters, from coordinates to fields.

Each is built as ``network(inputs, outputs, *, key)``, maps a vector to a vector, and expects inputs in [-1, 1]; other
settings are given by `functools.partial`. All are smooth, so that they may be differentiated as often as one likes.
"""

from sciad.models.networks.features import RandomFeatures
from sciad.models.networks.fourier import Fourier
from sciad.models.networks.gated import ModifiedMLP, PirateNet
from sciad.models.networks.kan import KAN
from sciad.models.networks.mlp import MLP
from sciad.models.networks.separable import Separable
from sciad.models.networks.siren import SIREN

__all__ = ["KAN", "MLP", "SIREN", "Fourier", "ModifiedMLP", "PirateNet", "RandomFeatures", "Separable"]
