"""From measurements to Markdown tables."""

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.cases.slopes import NAMES

CROWDED = 0.05
"""Share of other processes' CPU time from which a measurement is marked."""


def markdown(content: dict[str, Any], cases_of: dict[str, str]) -> str:
    """Return the report of `Results.content`.

    Args:
        cases_of: measurement to its case.
    """
    machine, conditions = content["conditions"]["machine"], content["conditions"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [
        "# Benchmarks",
        "",
        f"{machine['processor']} ({' '.join(machine['flags'])}), {conditions['threads']} cores "
        f"for either side, {machine['memory'] / 2**30:.0f} GB; Python {machine['python']}, "
        f"{versions}.",
        "",
        "Medians, minima in brackets. A ratio is ours over the other's median, lower is better; "
        "where it says `x faster` it is the other way round. Operations are those of the "
        "mathematics (`flops.py`), as a share of the best rate of a product of square matrices "
        "in the same run; `at that rate` is what the ratio would be if they took no longer than "
        "that, and nothing else took any time.",
    ]
    measured = content["measured"]
    for case, module in cases.CASES.items():
        chosen = {key: m for key, m in measured.items() if cases_of.get(key) == case}
        if not chosen:
            continue
        title = (module.__doc__ or case).splitlines()[0].rstrip(".")
        lines += ["", f"## {case}: {title}", ""]
        if case == "slopes":
            lines += slope_table(chosen)
        else:
            lines += table(chosen)
    return "\n".join(lines) + "\n"


def comparisons(measurement: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a measurement says: ours, the other side, their ratio, and the target."""
    sides = measurement["sides"]
    names = list(sides)
    if "limit" in measurement:
        seconds = middle(sides[names[0]])
        target = measurement["limit"]
        yield {"ours": names[0], "other": None, "target": target, "met": seconds <= target}
        return
    if "comparisons" in measurement:
        pairs = measurement["comparisons"]
    else:
        pairs = [[names[0], names[1] if len(names) > 1 else None, measurement["target"]]]
    for ours, other, target in pairs:
        comparison = {"ours": ours, "other": other, "target": target, "met": None}
        if other in sides:
            ratio = middle(sides[ours]) / middle(sides[other])
            faster = measurement.get("faster", False)
            comparison["ratio"] = 1 / ratio if faster else ratio
            if target is not None:
                comparison["met"] = comparison["ratio"] >= target if faster else ratio <= target
        yield comparison


def table(measured: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of one case's table and its notes."""
    lines = ["| work | ours | other | ratio | target | met |", "|---|---|---|---|---|---|"]
    rates, notes = [], []
    for key, measurement in measured.items():
        work = key.partition(": ")[2]
        for comparison in comparisons(measurement):
            lines.append("| " + " | ".join(cells(work, measurement, comparison)) + " |")
        rates += list(rate_lines(work, measurement))
        remarks = list(measurement.get("notes", []))
        remarks += [products(measurement)] if "alone" in measurement else []
        if measurement.get("others", 0) > CROWDED:
            share = measurement["others"]
            remarks.append(f"**not alone: other processes used {share:.0%} as much CPU**")
        notes += [f"- {work}: {'; '.join(remarks)}"] if remarks else []
    if rates:
        head = "| work | side | laps | CPU s | GFLOP/s | of GEMM | ratio at that rate |"
        lines += ["", head, "|---|---|---|---|---|---|---|", *rates]
    return [*lines, *([""] if notes else []), *notes]


def cells(work: str, measurement: dict[str, Any], comparison: dict[str, Any]) -> list[str]:
    """Return one row of the table."""
    sides, ours, other = measurement["sides"], comparison["ours"], comparison["other"]
    name = "" if ours == "ours" else f"{ours}: "
    result = [work, name + shown(sides[ours], measurement)]
    result.append(f"{other}: {shown(sides[other], measurement)}" if other in sides else "")
    faster = measurement.get("faster")
    ratio, target = comparison.get("ratio"), comparison["target"]
    result.append("" if ratio is None else f"{ratio:.2f}" + (" x faster" if faster else ""))
    unit = " s" if "limit" in measurement else ""
    result.append("" if target is None else ("≥ " if faster else "≤ ") + f"{target:g}{unit}")
    result.append({True: "yes", False: "**no**", None: ""}[comparison["met"]])
    return result


def rate_lines(work: str, measurement: dict[str, Any]) -> Iterator[str]:
    """Yield a row a side: laps, CPU seconds, and where operations are known, what they say."""
    for side, operations in measurement.get("operations", {}).items():
        sample = measurement["sides"][side]
        rate = operations / middle(sample) / 1e9
        best = max(measurement["gemm"][measurement["precision"]].values())
        cpu = statistics.median(sample["cpu"])
        row = [
            work,
            side,
            len(sample["wall"]),
            f"{cpu:.2f}",
            f"{rate:.0f}",
            f"{rate / best:.0%}",
            "",
        ]
        if "peer" in measurement["sides"] and side != "peer":
            ratio = operations / best / 1e9 / middle(measurement["sides"]["peer"])
            row[-1] = f"{1 / ratio:.2f} x faster" if measurement.get("faster") else f"{ratio:.2f}"
        yield "| " + " | ".join(map(str, row)) + " |"


def products(measurement: dict[str, Any]) -> str:
    """Return what our products take alone, and what ratio that leaves to the peer."""
    alone, peer = measurement["alone"], measurement["sides"].get("peer")
    each = ", ".join(f"{part} {seconds(value)}" for part, value in alone.items())
    total = sum(alone.values())
    text = f"TensorFlow's products alone, each in its fastest form: {each}; {seconds(total)} in all"
    if peer is None:
        return text
    return f"{text}, {middle(peer) / total:.2f} x faster if nothing else took time"


def middle(sample: dict[str, list[float]]) -> float:
    """Return the median of wall seconds, or of peak bytes."""
    return statistics.median(sample.get("wall") or sample["peak"])


def shown(sample: dict[str, list[float]], measurement: dict[str, Any]) -> str:
    """Return a side's median and minimum, as a reader wants them."""
    if measurement.get("unit") == "bytes":
        grown = sample["peak"][0] - sample["before"][0]
        return f"{sample['peak'][0] / 1e6:.0f} MB (+{grown / 1e6:.0f} in the steps)"
    median, least = middle(sample), min(sample["wall"])
    text = f"{seconds(median)} ({seconds(least)})"
    if "items" in measurement:
        count, name = measurement["items"]
        text += f", {count / median:.3g} {name}/s"
    return text


def seconds(value: float) -> str:
    """Return a duration with three digits.

    >>> seconds(0.01234), seconds(2.3456), seconds(123.4)
    ('12.3 ms', '2.35 s', '123 s')
    """
    if value < 1:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.0f} s" if value >= 100 else f"{value:.3g} s"


def line(values: list[float], times: list[float]) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line.

    >>> line([1, 2, 3], [5, 7, 9])
    (2.0, 3.0)
    """
    slope, intercept = np.polyfit(values, times, 1)
    return round(float(slope), 12), round(float(intercept), 12)


def slope_table(measured: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the table of slopes."""
    first = next(iter(measured.values()))
    base = ", ".join(f"{letter}={value}" for letter, value in first["base"].items())
    lines = [f"One letter varied, the others at {base}; float32. See slopes.png.", ""]
    lines += [
        "| varied | attention | steps | ms for each more | ms at 0 |",
        "|---|---|---|---|---|",
    ]
    for m in measured.values():
        letter = m["letter"]
        slope, intercept = line(m["values"], m["median"])
        steps = ", ".join(
            f"{letter}={v} {1e3 * t:.0f} ms" for v, t in zip(m["values"], m["median"])
        )
        name = f"{letter}: {NAMES[letter]}"
        ends = f"{1e3 * slope:.3g} | {1e3 * intercept:.0f}"
        lines.append(f"| {name} | {m['attention']} | {steps} | {ends} |")
    return lines
