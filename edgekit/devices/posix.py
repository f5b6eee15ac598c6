"""Files by a POSIX shell, where a transport has nothing better; paths are ``$1`` and ``$2``."""

from __future__ import annotations

import re

REMOVE = '[ -L "$1" ] || [ ! -e "$1" ] || chmod -R u+w "$1"; rm -rf "$1"'
SYNC = 'sync "$1" 2>/dev/null || sync'

STAT = '[ -e "$1" ] || [ -L "$1" ] || exit 0; stat -c "%f %s %Y" "$1"'
"""Says mode (hexadecimal), size and seconds of the last change; nothing where nothing is."""

LIST = '[ -d "$1" ] || exit 0; find "$1/" -mindepth 1 -maxdepth 1 -print0'
"""Says paths, each ended by a NUL."""

MKDIR = 'umask 022; mkdir -p -m "$2" "$1"'

# rename(2), which mv is but for folders: into one that is there it moves.
RENAME = 'if [ -d "$2" ] && [ ! -L "$2" ]; then rmdir "$2" || exit 1; fi; mv -f "$1" "$2"'

TOO_SHORT = 73
WRITE = f"""
if [ "$2" = 0 ]; then : > "$1" || exit 1; else
  size=$(stat -c %s "$1") || exit 1
  if [ "$size" -lt "$2" ]; then echo "$size" >&2; exit {TOO_SHORT}; fi
  truncate -s "$2" "$1" || exit 1
fi
cat >> "$1" && {{ {SYNC}; }}
"""
"""Keeps ``$2`` bytes of the file, writes its standard input behind them and makes it durable."""

DISK = re.compile(r"\s\d+\s+-?\d+\s+(-?\d+)\s+\d+%\s")
"""The columns of ``df -Pk``."""


def free_bytes(df: bytes) -> int | None:
    """The free space that ``df -Pk`` tells of; ``None`` when it does not."""
    row = DISK.findall(df.decode("utf-8", "replace"))
    return max(0, int(row[-1])) * 1024 if row else None
