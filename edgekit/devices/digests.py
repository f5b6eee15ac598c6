"""The sha256 of files on a device, computed there with whatever it has for that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from edgekit.devices.output import clean
from edgekit.devices.transport import Transport
from edgekit.errors import DeviceError

_COMMAND_BYTES = 32 * 1024
_SLOWEST_HASH_BYTES_PER_S = 2_000_000
_NO_TOOL = 77
_NOT_RUN = 126
_DIGESTS = f"""cd "$1" && shift || exit 1
if command -v sha256sum >/dev/null 2>&1; then exec sha256sum -- "$@"; fi
if command -v shasum >/dev/null 2>&1; then exec shasum -a 256 -- "$@"; fi
if command -v python3 >/dev/null 2>&1; then exec python3 -c '
import hashlib, sys
for name in sys.argv[1:]:
    digest = hashlib.sha256()
    with open(name, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    print(digest.hexdigest() + "  " + name)
' "$@"; fi
exit {_NO_TOOL}"""
_DIGEST_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def sha256(
    transport: Transport, folder: str, names: Iterable[str], total_bytes: int
) -> dict[str, str]:
    """Digests in hexadecimal, by name; what cannot be read is left out.

    Args:
        transport: an open connection.
        folder: where the files lie.
        names: relative to ``folder``; printable, without backslashes, as a bundle has them.
        total_bytes: how much there is to read: sets the deadline.

    Raises:
        DeviceError: the device has nothing that works to compute them with.
    """
    timeout_s = 60.0 + total_bytes / _SLOWEST_HASH_BYTES_PER_S
    found: dict[str, str] = {}
    for batch in batches(names):
        done = transport.run(["sh", "-c", _DIGESTS, "sh", folder, *batch], timeout_s=timeout_s)
        if done.exit_status == _NO_TOOL:
            raise DeviceError(
                f"{transport.target}: no way to compute a sha256 there",
                "install sha256sum (coreutils or busybox), shasum or python3 on the device",
            )
        if done.exit_status is None or done.exit_status >= _NOT_RUN:
            why = clean(done.stderr) or done.signal or f"status {done.exit_status}"
            raise DeviceError(f"{transport.target}: the sha256 tool there does not work: {why}")
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            if match := _DIGEST_LINE.fullmatch(line):
                found[match[2]] = match[1]
    return found


def batches(names: Iterable[str]) -> Iterator[list[str]]:
    """Names in groups that fit a command line."""
    batch: list[str] = []
    for name in names:
        batch.append(name)
        if sum(len(n.encode()) for n in batch) > _COMMAND_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch
