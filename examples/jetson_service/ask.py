"""Ask the service which digits are on pictures: ``ask.py SOCKET PICTURE.pgm...``.

Nothing but the standard library: whatever speaks JSON over a Unix socket can do the same.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

BRIGHTEST = 255


def main() -> int:
    """Print a line for each picture: its name, the digit, and how it scored against the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("pictures", nargs="+", type=Path)
    given = parser.parse_args()
    with socket.socket(socket.AF_UNIX) as service:
        service.connect(given.socket)
        answers = service.makefile("rb")
        for path in given.pictures:
            service.sendall(json.dumps({"inputs": {"image": picture(path)}}).encode() + b"\n")
            answer = json.loads(answers.readline())
            if "error" in answer:
                print(f"{path.name}: {answer['error']['message']}", file=sys.stderr)
                return 1
            scores = " ".join(f"{score:.9g}" for score in answer["outputs"]["logits"][0])
            print(path.name, answer["label"], scores)
    return 0


def picture(path: Path) -> dict[str, Any]:
    """A plain gray picture (PGM, "P2"), as the service takes bytes."""
    words = re.sub(r"#.*", "", path.read_text(encoding="ascii")).split()
    width, height, brightest = map(int, words[1:4])
    if words[0] != "P2" or brightest != BRIGHTEST:
        raise SystemExit(f"{path} is no plain PGM picture of bytes")
    pixels = bytes(map(int, words[4:]))
    text = base64.b64encode(pixels).decode("ascii")
    return {"base64": text, "dtype": "uint8", "shape": [height, width]}


if __name__ == "__main__":
    sys.exit(main())
