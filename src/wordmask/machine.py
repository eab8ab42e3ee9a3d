"""What this machine is: its processor as the system names it, and its memory. Nothing is imported for it."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MODEL = ("cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part")
"""Lines of that file that tell processors apart which bear one name, as those of a cloud do."""
FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "amx_fp16",
    "asimd",
    "asimddp",
    "sve",
    "bf16",
    "i8mm",
)
"""Instructions that networks are computed with, in the words of Linux."""


@dataclass(frozen=True)
class Processor:
    """name: what it is called. model: the numbers of its kind, where the system tells them. flags: those of `FLAGS`
    that it has, or None where nobody says.
    """

    name: str
    model: str = ""
    flags: tuple[str, ...] | None = None


@cache
def processor() -> Processor:
    """Return this machine's processor."""
    try:
        return read_cpuinfo(CPUINFO.read_text(errors="replace"))
    except OSError:
        return Processor(_name_elsewhere())


def read_cpuinfo(text: str) -> Processor:
    """Return the first processor of a text as Linux's /proc/cpuinfo holds it."""
    lines = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    told = {key.strip(): value.strip() for key, _, value in lines}
    words = (told.get("flags") or told.get("Features") or "").split()
    model = ", ".join(f"{key} {told[key]}" for key in MODEL if key in told)
    return Processor(
        told.get("model name") or platform.processor() or platform.machine(),
        model,
        tuple(flag for flag in FLAGS if flag in words) if words else None,
    )


def _name_elsewhere() -> str:
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            told = ""
        if told:
            return told
    return platform.processor() or platform.machine()


def cores() -> tuple[int, int]:
    """Return how many cores this process may use, and how many there are."""
    every = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
    return allowed, every


def memory() -> tuple[int | None, int | None]:
    """Return the bytes of memory that there are and those that are free, where the system says so."""
    try:
        told = dict(re.findall(r"^(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
        return int(told["MemTotal"]) * 1024, int(told["MemAvailable"]) * 1024
    except (OSError, KeyError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (AttributeError, ValueError, OSError):  # on Windows there is no such call
        return None, None
