"""Noise models: how an observation scatters about a prediction."""
