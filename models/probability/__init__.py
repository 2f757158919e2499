"""Probability: noise models."""

from sciad.models.probability.noise import AbstractNoise, LogNormal, NegativeBinomial, Normal, StudentT

__all__ = ["AbstractNoise", "LogNormal", "NegativeBinomial", "Normal", "StudentT"]
