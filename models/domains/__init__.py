"""Domains: where an equation holds, and the faces on which conditions are given."""

from sciad.models.domains.ball import Ball, Disk
from sciad.models.domains.base import AbstractDomain, Surface
from sciad.models.domains.box import Box
from sciad.models.domains.cloud import Cloud
from sciad.models.domains.drawing import draw_domain
from sciad.models.domains.mapped import Mapped
from sciad.models.domains.planar import Region
from sciad.models.domains.polygon import Polygon, ring
from sciad.models.domains.product import Product

__all__ = [
    "AbstractDomain",
    "Ball",
    "Box",
    "Cloud",
    "Disk",
    "Mapped",
    "Polygon",
    "Product",
    "Region",
    "Surface",
    "draw_domain",
    "ring",
]
