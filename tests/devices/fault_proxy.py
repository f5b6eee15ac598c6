"""A bad network: a TCP proxy on loopback that delays, slows, damages, cuts and stalls.

    python -m tests.devices.fault_proxy PORT [DELAY_S [BYTES_PER_S]]

runs one as a process of its own, for measurements, and prints its port.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Self

_QUEUED_CHUNKS = 256
_LARGEST = 65_536
_TICK_S = 0.02
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Way:
    """One direction of a connection; positions count the bytes of the connection from 0.

    Attributes:
        delay_s: every byte arrives so much later.
        bytes_per_s: no faster than this.
        cut_at: both sides see a reset once exactly so many bytes have arrived.
        flip_at: the lowest bit of this byte arrives changed.
        stall_at: after so many bytes nothing passes any more, in either direction.
    """

    delay_s: float = 0.0
    bytes_per_s: float = math.inf
    cut_at: int | None = None
    flip_at: int | None = None
    stall_at: int | None = None

    @property
    def read_bytes(self) -> int:
        """How much is taken at a time: a slow line is a steady one."""
        return max(1, int(min(_LARGEST, self.bytes_per_s * _TICK_S)))

    @property
    def end(self) -> float:
        """The position of the first cut or stall."""
        return min(at for at in (self.cut_at, self.stall_at, math.inf) if at is not None)

    def flipped(self, chunk: bytes, position: int) -> bytes:
        index = -1 if self.flip_at is None else self.flip_at - position
        if not 0 <= index < len(chunk):
            return chunk
        return chunk[:index] + bytes([chunk[index] ^ 1]) + chunk[index + 1 :]


@dataclass(frozen=True)
class Link:
    """What happens to a connection on its way up, to the server, and down."""

    up: Way = field(default_factory=Way)
    down: Way = field(default_factory=Way)

    @classmethod
    def both(cls, delay_s: float = 0.0, bytes_per_s: float = math.inf) -> Link:
        way = Way(delay_s=delay_s, bytes_per_s=bytes_per_s)
        return cls(way, way)


class _CutError(Exception):
    """The connection is to be reset."""


class _Connection:
    """A connection through the proxy: four tasks, two in each direction."""

    def __init__(self, link: Link, count: Callable[[int, int], None]) -> None:
        self.link = link
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._count = count
        self._writers: list[asyncio.StreamWriter] = []

    async def carry(
        self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter], port: int
    ) -> None:
        self._writers = [client[1]]
        try:
            server = await asyncio.open_connection("127.0.0.1", port)
            self._writers.append(server[1])
            async with asyncio.TaskGroup() as group:
                self._pump(group, client[0], server[1], self.link.up, 0)
                self._pump(group, server[0], client[1], self.link.down, 1)
        except* (_CutError, OSError):
            pass
        finally:
            self.reset()

    def reset(self) -> None:
        for writer in self._writers:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESET
                )
            writer.transport.abort()

    def _pump(
        self,
        group: asyncio.TaskGroup,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Way,
        index: int,
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        writer.transport.set_write_buffer_limits(0)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        group.create_task(_take(reader, queue, way))
        group.create_task(self._give(queue, writer, way, index))

    async def _give(
        self,
        queue: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        way: Way,
        index: int,
    ) -> None:
        position = 0
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self.flowing.wait()
            if not chunk:
                writer.write_eof()
                return
            passed = way.flipped(chunk, position)[: int(min(len(chunk), way.end - position))]
            writer.write(passed)
            await writer.drain()
            position += len(passed)
            self._count(index, len(passed))
            if position == way.cut_at:
                await _arrived(writer)
                raise _CutError
            if position == way.stall_at:
                self.flowing.clear()
            if way.bytes_per_s < math.inf:
                await asyncio.sleep(len(passed) / way.bytes_per_s)


async def _take(
    reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]], way: Way
) -> None:
    """Read as fast as is allowed; an empty chunk is the end."""
    chunk = b"-"
    while chunk:
        chunk = await reader.read(way.read_bytes)
        await queue.put((asyncio.get_running_loop().time() + way.delay_s, chunk))


async def _arrived(writer: asyncio.StreamWriter) -> None:
    """Wait until the other side's kernel has all that was written: a reset would drop the rest."""
    descriptor = writer.get_extra_info("socket").fileno()
    while struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4))[0]:
        await asyncio.sleep(0.001)


class FaultProxy:
    """A proxy in front of a server, while the context lasts.

    Args:
        port: of the server, on loopback.
        link: what happens to every connection that ``next`` says nothing about.

    Attributes:
        port: its own.
        passed: bytes that went up and down, in all.
        connections: how many were accepted.
    """

    def __init__(self, port: int, link: Link | None = None) -> None:
        self._server_port = port
        self.link = link or Link()
        self.port = 0
        self.passed = [0, 0]
        self.connections = 0
        self._coming: deque[Link] = deque()
        self._open: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._is_down = False
        self._ready = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def next(self, *links: Link) -> None:
        """What happens to the next connections, one each."""
        self._coming.extend(links)

    def freeze(self) -> None:
        """Nothing passes any more, of what is open and of what is opened from now on."""
        self._is_down = True
        self.freeze_open()

    def freeze_open(self) -> None:
        """Nothing passes any more over the connections that are open."""
        self._each(lambda connection: connection.flowing.clear())

    def thaw(self) -> None:
        """What had been held back passes."""
        self._is_down = False
        self._each(lambda connection: connection.flowing.set())

    def cut(self) -> None:
        """Reset every connection."""
        self._each(lambda connection: connection.reset())

    def _each(self, act: Callable[[_Connection], None]) -> None:
        done = Event()

        def work() -> None:
            for connection in tuple(self._open):
                act(connection)
            done.set()

        self._loop.call_soon_threadsafe(work)
        done.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accepted, "127.0.0.1", 0, limit=4 * _LARGEST)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = _Connection(self._coming.popleft() if self._coming else self.link, self._count)
        if self._is_down:
            connection.flowing.clear()
        self._open.add(connection)
        with suppress(asyncio.CancelledError):
            await connection.carry((reader, writer), self._server_port)
        self._open.discard(connection)

    def _count(self, index: int, count: int) -> None:
        self.passed[index] += count


def _main(port: int, delay_s: float = 0.0, bytes_per_s: float = math.inf) -> None:
    with FaultProxy(port, Link.both(delay_s, bytes_per_s)) as proxy:
        sys.stdout.write(f"{proxy.port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    _main(int(sys.argv[1]), *map(float, sys.argv[2:]))
