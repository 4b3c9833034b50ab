"""Many clients of an exported model: every answer right, and no memory that grows."""

import random
import sys
import threading
import time

WARM_UP = 0.1  # of the time, before memory is compared


def ask(folder, seconds, clients=8, prompts=None):
    """Ask a SavedModel from threads for so long; return requests, errors and memory.

    Answers are compared with those to each text alone. Only TensorFlow and its text operations are
    loaded, as by whoever serves it.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  its operations

    model = tf.saved_model.load(str(folder))
    serve = model.signatures["serving_default"]
    rng = random.Random(0)
    words = ["a", "good", "bad", "film", "with", "dull", "songs", "and", "one", "long", "scene"]
    texts = [" ".join(rng.choices(words, k=rng.randint(0, 40))) for _ in range(64)]
    right = {text: serve(text=tf.constant([text]))["outputs"].numpy()[0] for text in texts}
    end, errors, counts, memory = time.monotonic() + seconds, [], [0] * clients, []

    def client(number):
        own = random.Random(number)
        while time.monotonic() < end:
            asked = own.sample(texts, own.randint(1, 8))
            try:
                answers = serve(text=tf.constant(asked))["outputs"].numpy()
                wrong = [t for t, a in zip(asked, answers) if a != right[t]]
                errors.extend(f"another answer to {text!r}" for text in wrong)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(min(1.0, seconds / 20))
        memory.append(_resident())
    for thread in threads:
        thread.join()
    warm = memory[int(len(memory) * WARM_UP) :]
    first, last = (sorted(part)[len(part) // 2] for part in (warm[:9], warm[-9:]))
    return {
        "requests": sum(counts),
        "errors": errors[:10],
        "count": len(errors),
        "megabytes": [round(first), round(last)],
        "growth": round(100 * (last / first - 1), 2),
    }


def _resident():
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    import json

    print(json.dumps(ask(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))))
