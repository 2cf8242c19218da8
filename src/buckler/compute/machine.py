"""Detects the number formats that this machine computes natively."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Precision = Literal["float32", "bfloat16"]

POLICIES: dict[Precision, str] = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_FAST_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


def crafting_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> Precision:
    """Return the precision for attacks and features: bfloat16 if the processor multiplies it natively, else float32.

    ``BUCKLER_PRECISION=float32`` or ``bfloat16`` overrides the detection, for comparisons.

    Raises:
        ValueError: The variable has another value.
    """
    chosen = os.environ.get("BUCKLER_PRECISION", "")
    known: dict[str, Precision] = {"float32": "float32", "bfloat16": "bfloat16"}
    if chosen in known:
        return known[chosen]
    if chosen:
        raise ValueError(f"expected BUCKLER_PRECISION float32 or bfloat16, got {chosen!r}")
    return "bfloat16" if cpu_flags(cpuinfo) & _FAST_BFLOAT16_FLAGS else "float32"


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the processor's feature flags; empty where the kernel does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(flag for line in lines if line.startswith("flags") for flag in line.split(":", 1)[1].split())


# From the newest to the oldest: the first that a processor has decides how its sums are ordered and rounded.
_INSTRUCTION_SETS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "avx", "sse4_1")


def instruction_set(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the newest vector instructions of the processor: two processors with the same give the same digits."""
    flags = cpu_flags(cpuinfo)
    return next((name for name in _INSTRUCTION_SETS if name in flags), platform.machine())


def machine() -> str:
    """Return a description of the processor and its native formats, for people."""
    fast = sorted(cpu_flags() & {"amx_bf16", "avx512_bf16"}) or ["no native bfloat16"]
    return f"{processor()}, {os.cpu_count()} cores, {', '.join(fast)}"


def processor() -> str:
    """Return the processor's name."""
    lines = _read(Path("/proc/cpuinfo"))
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _read(path: Path) -> Sequence[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
