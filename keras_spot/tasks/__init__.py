"""Tasks: where rows come from, how they read as text, how predictions are scored.

Literal records only; importing this package loads neither TensorFlow nor NumPy.
"""

from keras_spot.tasks.catalog import get, names
from keras_spot.tasks.features import UNLABELLED, Example, MissingValue
from keras_spot.tasks.mixtures import MIXTURES, Mixture, mixture
from keras_spot.tasks.task import METRICS, Task
from keras_spot.tasks.user import load

__all__ = [
    "METRICS",
    "MIXTURES",
    "UNLABELLED",
    "Example",
    "MissingValue",
    "Mixture",
    "Task",
    "get",
    "load",
    "mixture",
    "names",
]
