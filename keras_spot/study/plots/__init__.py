"""Pictures of training runs and of transfer studies, as PNG or SVG (needs matplotlib).

Figures grow with the number of tasks and their colours are told apart without red and green.
"""

from keras_spot.study.plots.curves import learning_curves, top_k_curve
from keras_spot.study.plots.matrices import gain_matrix, similarity_heatmap
from keras_spot.study.plots.points import gain_scatter, task_map

__all__ = [
    "gain_matrix",
    "gain_scatter",
    "learning_curves",
    "similarity_heatmap",
    "task_map",
    "top_k_curve",
]
