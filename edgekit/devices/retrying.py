"""Trying again: a connection that was open and broke may come back, so a person need not wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgekit.errors import ConnectionFailed, ConnectionLost

RETRIES = 3
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 8.0


def persistent[Done](
    work: Callable[[], Done], retries: int, on_pause: Callable[[str], None] = lambda _: None
) -> Done:
    """Do ``work``, which connects; do it again when a connection was lost, after a pause.

    A device that never answered is not waited for: its address may be wrong. Once it did,
    being out of reach is part of the same trouble.

    Args:
        work: may be done again from the start.
        retries: how often, at most; the pauses double from 1 s to 8 s.
        on_pause: told why there is a pause, and how long it is.

    Raises:
        ConnectionFailed: the last one.
    """
    was_open = False
    for attempt in range(retries):
        try:
            return work()
        except ConnectionFailed as error:
            was_open = was_open or isinstance(error, ConnectionLost)
            if not was_open:
                raise
            pause_s = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
            on_pause(f"{error.message}; trying again in {pause_s:g} s")
            time.sleep(pause_s)
    return work()
