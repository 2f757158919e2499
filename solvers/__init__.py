"""Algorithms: they know a problem by its protocol only, never a concrete model."""

if __name__ != "sciad.solvers":
    message = f"This folder is the package `sciad.solvers`, not `{__name__}`: write `import sciad.solvers`."
    raise ImportError(message)
