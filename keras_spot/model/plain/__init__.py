"""The forward pass of a T5 behind a soft prompt: `forward`, `attention` and `cached` decoding.

Over KerasHub's own layers, on every Keras backend, in any precision, differentiated by the backend.
"""
