"""Synthetic tasks: sentences of the package's own grammar, served through TFDS like any data set.

`grammar` makes the rows in plain Python; importing `builder` makes them known to TFDS as
`synthetic/<config>`.
"""

from keras_spot.tasks.synthetic_data.grammar import CONFIGS, SIZES, rows

__all__ = ["CONFIGS", "SIZES", "rows"]
