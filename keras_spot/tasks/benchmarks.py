"""The benchmarks: which tasks are in them, which count, and what is submitted of each."""

from typing import NamedTuple

__all__ = ["BENCHMARKS", "ENTRIES", "FILES", "TASK_INDEX", "Entry"]


class Entry(NamedTuple):
    """A task of a benchmark.

    Attributes:
        task: its name.
        number: its place among the benchmark's task names in sorted order; a task in another
            one's form has that one's (prompt-tuning codebase, data/utils.py: task_mapping).
        averaged: whether the benchmark's average counts it; GLUE's leaves WNLI out.
        file: the file name that the benchmark's server takes. None: MNLI has one for each of its
            test splits.
    """

    task: str
    number: int
    averaged: bool
    file: str | None


ENTRIES = {
    "glue": (
        Entry("glue/cola", 0, True, "CoLA.tsv"),
        Entry("glue/sst2", 6, True, "SST-2.tsv"),
        Entry("glue/mrpc", 2, True, "MRPC.tsv"),
        Entry("glue/qqp", 4, True, "QQP.tsv"),
        Entry("glue/stsb", 7, True, "STS-B.tsv"),
        Entry("glue/mnli", 1, True, None),
        Entry("glue/mnli_matched", 1, False, "MNLI-m.tsv"),
        Entry("glue/mnli_mismatched", 1, False, "MNLI-mm.tsv"),
        Entry("glue/qnli", 3, True, "QNLI.tsv"),
        Entry("glue/rte", 5, True, "RTE.tsv"),
        Entry("glue/wnli", 8, False, "WNLI.tsv"),
        Entry("glue/ax", 1, False, "AX.tsv"),
    ),
    "super_glue": (
        Entry("super_glue/boolq", 0, True, "BoolQ.jsonl"),
        Entry("super_glue/cb", 1, True, "CB.jsonl"),
        Entry("super_glue/copa", 2, True, "COPA.jsonl"),
        Entry("super_glue/multirc", 3, True, "MultiRC.jsonl"),
        Entry("super_glue/record", 4, True, "ReCoRD.jsonl"),
        Entry("super_glue/rte", 5, True, "RTE.jsonl"),
        Entry("super_glue/wic", 6, True, "WiC.jsonl"),
        Entry("super_glue/wsc", 7, True, "WSC.jsonl"),
        Entry("super_glue/wsc.fixed", 7, False, "WSC.jsonl"),
        Entry("super_glue/axb", 5, False, "AX-b.jsonl"),
        Entry("super_glue/axg", 5, False, "AX-g.jsonl"),
    ),
}

BENCHMARKS = {
    name: tuple(entry.task for entry in entries if entry.averaged)
    for name, entries in ENTRIES.items()
}
"""The tasks that a benchmark's average is taken over."""

TASK_INDEX = {entry.task: entry.number for entries in ENTRIES.values() for entry in entries}
"""Task to its number, which `task_index:NAME` puts in front as a sentinel."""

FILES = {entry.task: entry.file for entries in ENTRIES.values() for entry in entries if entry.file}
"""Task to the file name of its submission."""
