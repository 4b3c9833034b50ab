"""The versions a run or a prompt file records."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["versions"]

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that decide a result.

    >>> "keras" in versions()
    True
    """
    installed = {"keras_spot": __version__}
    for name in ("keras", "keras-hub", "tensorflow", "jax", "tensorflow-datasets", "numpy"):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
