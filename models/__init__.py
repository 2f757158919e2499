"""Modules with parameters: physics, probability; later networks, preprocessing and structure."""

if __name__ != "sciad.models":
    message = f"This folder is the package `sciad.models`, not `{__name__}`: write `import sciad.models`."
    raise ImportError(message)
