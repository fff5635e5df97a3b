"""The protocol between `cargo bench --bench peers` and a side, and the code that all sides share.

A side prints one JSON line when it is ready, {"ready", "peer", "version", "threads"}; this crate's adds
"about", the machine and the work. Then, for each line "run" on standard input, it does its work once and
prints {"seconds", "value", "peak_rss_mb"}. It ends at the end of the input. `value` must agree with the other
sides: a loss, a mean, a sum of recalls. The peak memory is that of the whole process since its start,
including the framework.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

MARGIN = 0.2
GRAD_CLIP = 2.0
LEARNING_RATE = 2e-4


def arguments(description: str, file_help: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batch", required=True, metavar="FILE", help=f"safetensors file with {file_help}")
    parser.add_argument("--threads", type=int, required=True)
    return parser


def serve(peer: str, version: str, threads: int, work: Callable[[], float]) -> None:
    """Does the work once for each line, and reports the time."""
    _say(ready=True, peer=peer, version=version, threads=threads)
    for line in sys.stdin:
        if line.strip() != "run":
            continue
        start = time.perf_counter()
        value = work()
        seconds = time.perf_counter() - start
        _say(seconds=seconds, value=value, peak_rss_mb=round(_peak_rss_mb(), 1))


def _say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def _peak_rss_mb() -> float:
    """Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
