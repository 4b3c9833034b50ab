"""Pictures of training runs and of transfer studies (needs matplotlib, the extra `[plots]`).

Every function returns a matplotlib `Figure`, which a notebook shows, and writes it as PNG or SVG
where it is given a path. Figures grow with the number of tasks; colours are told apart without
red and green; an SVG follows the page around it from light to dark.

>>> from keras_spot import plots
>>> figure = plots.learning_curves({"scratch": [[(0, 50.0), (10, 61.0)]]}, majority=52.3)
>>> figure.axes[0].get_ylabel()
'validation score'
"""

from keras_spot.study.plots.bars import source_weights
from keras_spot.study.plots.curves import learning_curves, top_k_curve
from keras_spot.study.plots.matrices import gain_matrix, similarity_heatmap
from keras_spot.study.plots.points import gain_scatter, task_map
from keras_spot.study.plots.spreads import method_scores

__all__ = [
    "gain_matrix",
    "gain_scatter",
    "learning_curves",
    "method_scores",
    "similarity_heatmap",
    "source_weights",
    "task_map",
    "top_k_curve",
]
