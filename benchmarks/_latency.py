"""Latencies of LiteRT files, measured in turn in one process; called by ``isolation.call``.

With one thread a run's latency is its processor time, whatever else the machine does.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from statistics import median

from _common import interleaved

from edgekit.formats import host, litert
from edgekit.sources import random_feeds

ROUNDS, WARM_UP = 15, 3


def latencies(paths: list[Path]) -> list[float]:
    """The median of each, in milliseconds, with one thread."""
    timed = [partial(_once, host.Session(path, litert.RUNTIME)) for path in paths]
    interleaved(WARM_UP, *timed)
    rounds = interleaved(ROUNDS, *timed)
    return [round(median(column) * 1e3, 3) for column in zip(*rounds, strict=True)]


def _once(session: host.Session) -> float:
    details = session.described.input_details
    feeds = random_feeds(tuple(detail.spec for detail in details))
    started = time.process_time()
    session.run(feeds)
    return time.process_time() - started
