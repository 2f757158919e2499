"""Right-hand sides of physical and biological models, with named parameters."""
