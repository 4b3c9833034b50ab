"""The `keras-spot` command: parse, call one public function, print."""

from keras_spot.cli import answering, inspecting, sharing, showing, training
from keras_spot.cli.app import app, main

__all__ = ["answering", "app", "inspecting", "main", "sharing", "showing", "training"]
