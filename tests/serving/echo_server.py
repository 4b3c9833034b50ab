"""A server with an engine that computes nothing: `python echo_server.py --delay 0.1 ...`."""

import argparse
import logging
import sys
import time
import zlib

import numpy as np

from keras_spot.serving import server
from keras_spot.serving.engines import Engine
from keras_spot.serving.handler import Handler
from keras_spot.serving.held import PromptFolder
from keras_spot.serving.limits import Limits
from keras_spot.serving.models import Models
from keras_spot.tasks.card import TaskCard

CARDS = [
    TaskCard("glue/sst2", "sst2 sentence: {sentence}", ("negative", "positive")),
    TaskCard("pair", "premise: {premise} hypothesis: {hypothesis}", ("yes", "no", "perhaps")),
    TaskCard("free"),
]


class Echo(Engine):
    """An engine that says what it read; "boom" breaks it."""

    name = "echo"
    takes_prompts = True

    def __init__(self, delay=0.0):
        self.delay = delay
        self.cards = {card.name: card for card in CARDS}
        self.facts = {"width": 4, "max_input_length": 9, "max_target_length": 9}

    def generate(self, texts, prompt=None, max_length=None):
        time.sleep(self.delay)
        if any("boom" in text for text in texts):
            raise RuntimeError(f"cannot read {texts}")
        names = [one if isinstance(one, str) else f"{one.values.sum():g}" for one in prompt]
        return [f"{name}|{text}" for name, text in zip(names, texts)]

    def scores(self, texts, candidates, prompt=None):
        time.sleep(self.delay)
        pairs = [[zlib.crc32(f"{text}|{one}".encode()) for one in candidates] for text in texts]
        return np.array(pairs, "float32") / 2**32


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--queue", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--prompts")
    parser.add_argument("--log-texts", action="store_true")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    limits = Limits(queue=asked.queue, seconds=asked.seconds, batch=asked.batch)
    engine = Echo(asked.delay)
    held = asked.prompts and PromptFolder(asked.prompts, engine.facts)
    handler = Handler(Models([engine], held or None), limits, asked.log_texts, watch_seconds=0.05)
    sock = server.bind("127.0.0.1", 0)
    server.run(handler, sock, lambda: print(f"serving at {server.address(sock)}", flush=True))
    heavy = [m for m in sys.modules if m in ("tensorflow", "keras", "torch", "keras_hub")]
    print("imported", heavy, flush=True)


if __name__ == "__main__":
    main()
