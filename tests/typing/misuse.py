"""Mistakes that type checkers must find, each on a line that says so; never run."""

import keras_spot

keras_spot.build("tiny", promt_length=20)  # a misspelt name
keras_spot.build("tiny", prompt_length="twenty")  # a wrong type
keras_spot.train("glue/sst2")  # a missing argument
keras_spot.train("glue/sst2", "runs/sst2", stepps=3)  # a misspelt name of a run's field
