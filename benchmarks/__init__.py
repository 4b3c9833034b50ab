"""How fast the package is, beside its peer: see README.md."""
