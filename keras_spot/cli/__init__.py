"""The `keras-spot` command: parse, call one public function, print."""

from keras_spot.cli import (
    answering,
    converting,
    inspecting,
    library,
    planning,
    predicting,
    serving,
    sharing,
    showing,
    studying,
    training,
)
from keras_spot.cli.app import app, main

__all__ = [
    "answering",
    "app",
    "converting",
    "inspecting",
    "library",
    "main",
    "planning",
    "predicting",
    "serving",
    "sharing",
    "showing",
    "studying",
    "training",
]
