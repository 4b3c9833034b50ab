"""A worker for test_benchmarks."""

import os
import sys

from benchmarks.protocol import Skip, serve


def echo(value):
    print("noise")  # no part of the answer
    return value


def fail():
    raise KeyError("reason")


def skip():
    raise Skip("not here")


def die():
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


if __name__ == "__main__":
    serve({function.__name__: function for function in (echo, fail, skip, die)})
