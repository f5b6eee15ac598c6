"""What comes back from a device: kept within bounds, and made harmless before it is shown."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

from edgekit.errors import DeviceError

KEPT_BYTES = 4 * 1024 * 1024
LINE_BYTES = 32 * 1024 * 1024
_SHOWN_CHARACTERS = 400
# CSI, OSC (to its terminator) and the two-character sequences, in this order.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")


class Tail:
    """The last bytes of an output, however long it was."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit = limit_bytes
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._chunks[0]) >= self._limit:
            self._size -= len(self._chunks.popleft())

    def bytes(self) -> bytes:
        return b"".join(self._chunks)[-self._limit :]


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Cut a stream of bytes into lines, without their ends; what is not UTF-8 is replaced.

    Raises:
        DeviceError: a line without an end, longer than ``LINE_BYTES``.
    """
    rest = bytearray()
    for chunk in chunks:
        searched = len(rest)
        rest += chunk
        if b"\n" in chunk:
            cut = rest.rindex(b"\n", searched)
            whole, rest = rest[:cut], rest[cut + 1 :]
            yield from (line.decode("utf-8", "replace") for line in whole.split(b"\n"))
        if len(rest) > LINE_BYTES:
            raise DeviceError(f"the device sent a line of more than {LINE_BYTES} bytes")
    if rest:
        yield rest.decode("utf-8", "replace")


def clean(text: str | bytes, limit: int = _SHOWN_CHARACTERS) -> str:
    """One bounded line without terminal escapes: fit for a message. The end is kept."""
    if isinstance(text, bytes):
        text = text[-16 * limit :].decode("utf-8", "replace")
    text = _ESCAPES.sub("", text[-16 * limit :])
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else "…" + text[1 - limit :]
