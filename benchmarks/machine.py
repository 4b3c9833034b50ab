"""The machine: what it is, and whether it is doing something else."""

import os
import platform
import time
from pathlib import Path
from typing import Any

from keras_spot.base.cores import usable_cores

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
_CPU, _STAT = Path("/proc/cpuinfo"), Path("/proc/stat")


def describe() -> dict[str, Any]:
    """Return the processor, its cores and flags that matter to matrix products, and memory."""
    lines = _CPU.read_text().splitlines() if _CPU.is_file() else []
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = facts.get("flags", facts.get("Features", "")).split()
    model = facts.get("model name", platform.processor() or platform.machine()).strip()
    return {
        "processor": model,
        "cores": usable_cores(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def busy_seconds() -> float | None:
    """Return the seconds that all cores have worked since the start, None where unknown."""
    if not _STAT.is_file():
        return None
    user, nice, system, _, _, irq, soft_irq = map(int, _STAT.read_text().split()[1:8])
    return (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """Return the CPU seconds of a process of ours (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(seconds: float = 3.0) -> float:
    """Return how many cores are at work, measured over some seconds (where it cannot be: the
    average of the last minute)."""
    before, began = busy_seconds(), time.perf_counter()
    if before is None:
        return os.getloadavg()[0]
    time.sleep(seconds)
    return ((busy_seconds() or 0.0) - before) / (time.perf_counter() - began)
