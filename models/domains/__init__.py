"""Domains: where an equation holds, and the faces on which conditions are given."""

from sciad.models.domains.base import AbstractDomain, Surface

__all__ = ["AbstractDomain", "Surface"]
