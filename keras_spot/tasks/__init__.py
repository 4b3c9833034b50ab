"""Tasks: where rows come from, how they read as text, how predictions are scored.

Literal records only; importing this package loads neither TensorFlow nor NumPy.
"""

from keras_spot.tasks.catalog import get, names
from keras_spot.tasks.mixtures import MIXTURES, Mixture, mixture
from keras_spot.tasks.task import METRICS, UNLABELLED, Example, Task
from keras_spot.tasks.user import load

__all__ = [
    "METRICS",
    "MIXTURES",
    "UNLABELLED",
    "Example",
    "Mixture",
    "Task",
    "get",
    "load",
    "mixture",
    "names",
]
