"""The same numbers as the plain forward pass, faster; private, may change or go at any time."""
