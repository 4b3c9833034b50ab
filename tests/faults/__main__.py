"""Hostile files over every reader: `python -m tests.faults --full` for 20,000 of them.

Prints a row for each reader and the faults; ends with 1 if there is any.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import hostile_seeds
import hostile_trial


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--full", action="store_true", help="20,000 inputs")
    parser.add_argument("--inputs", type=int, default=1_000, help="how many (default 1,000)")
    parser.add_argument("--reader", help="only the readers whose names hold this")
    arguments = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    readers = [r for r in hostile_seeds.READERS if (arguments.reader or "") in r.name]
    print("| reader | inputs | accepted | refused | most seconds | most MB | faults |")
    print("|---|---|---|---|---|---|---|")
    rows = hostile_trial.run(readers, 20_000 if arguments.full else arguments.inputs, show)
    for row in rows:
        for example in row["examples"]:
            print(f"{row['reader']}: {example}")
    total = {key: sum(row[key] for row in rows) for key in ("inputs", "accepted", "refused")}
    faults = sum(sum(row["faults"].values()) for row in rows)
    print(f"{total['inputs']} inputs: {total['refused']} refused, {total['accepted']} accepted")
    print(f"{faults} faults")
    return 1 if faults else 0


def show(row):
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(row["faults"].items()))
    print(
        f"| {row['reader']} | {row['inputs']} | {row['accepted']} | {row['refused']} "
        f"| {row['seconds']:.2f} | {row['megabytes']:.0f} | {faults or 'none'} |",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
