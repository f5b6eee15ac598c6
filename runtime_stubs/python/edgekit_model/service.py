"""A model as a service: a line of JSON in, a line of JSON out, on a socket or standard input.

``{"inputs": {"image": [[...]]}, "id": 7}`` is answered with
``{"id": 7, "outputs": {"logits": [[...]]}, "label": "cat"}``, or with ``{"id": 7, "error": ...}``.
An array is nested lists, or its bytes: ``{"base64": ..., "dtype": "uint8", "shape": [32, 32, 3]}``,
little-endian, the last axis fastest; ``"as": "base64"`` has outputs in that form. Whoever may open
the socket may ask; there is no network.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import os
import signal
import socket
import socketserver
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Dict, Sequence

import numpy as np

from .errors import ModelError, QueueFull
from .worker import Worker

if TYPE_CHECKING:
    from .model import Model

_TYPES = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_LONGEST_VALUE = 32  # characters that a number takes as text, with what is around it
_LONGEST_REST = 1 << 20


class Service:
    """Answers lines; one worker runs the model for all who ask.

    Args:
        model: what answers.
        labels: of the classes, in the order of the first output's scores.
        capacity: how many calls may wait; one more is refused.
    """

    def __init__(self, model: Model, labels: Sequence[str], capacity: int) -> None:
        self._model, self._labels = model, labels
        self._worker = Worker(model.predict_many, capacity, min(capacity, 8))
        values = sum(int(np.prod(tensor.shape)) for tensor in model.inputs)
        self.longest_line = _LONGEST_VALUE * values + _LONGEST_REST

    def answer(self, line: bytes) -> bytes:
        """The answer to a line, a line itself; whatever is wrong with it is said there."""
        said: Dict[str, Any] = {}
        try:
            request = self._request(line)
            said = {"id": request["id"]} if "id" in request else {}
            inputs = {name: _array(value) for name, value in request["inputs"].items()}
            outputs = self._worker.submit(inputs).result()
            said.update(self._told(outputs, as_bytes=request.get("as") == "base64"))
        except QueueFull as error:
            said["error"] = {"kind": "busy", "message": str(error)}
        except ModelError as error:
            said["error"] = {"kind": "request", "message": str(error)}
        return json.dumps(said, allow_nan=False).encode("ascii") + b"\n"

    def close(self) -> None:
        self._worker.close()

    def _request(self, line: bytes) -> Dict[str, Any]:
        if len(line) > self.longest_line:
            raise ModelError(f"a line has {self.longest_line} bytes at most")
        try:
            request = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the line is no JSON: {error}") from error
        if not isinstance(request, dict) or not isinstance(request.get("inputs"), dict):
            raise ModelError('expected {"inputs": {NAME: ARRAY}}')
        if not _is_id(request.get("id", "")):
            raise ModelError("an id is a string or a finite number")
        return request

    def _told(self, outputs: Dict[str, Any], *, as_bytes: bool) -> Dict[str, Any]:
        told: Dict[str, Any] = {"outputs": {n: _told(a, as_bytes) for n, a in outputs.items()}}
        if self._labels:
            told["label"] = self._labels[int(np.argmax(next(iter(outputs.values()))))]
        return told


def _no_constant(name: str) -> None:
    raise ValueError(f"it has no {name}")


def _is_id(value: Any) -> bool:
    """What an answer can repeat: JSON has no number that is not finite."""
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _array(value: Any) -> Any:
    """An input as it was written."""
    try:
        if isinstance(value, dict):
            if value["dtype"] not in _TYPES:
                raise ModelError(f"an input's dtype is one of {', '.join(sorted(_TYPES))}")
            raw = base64.b64decode(value["base64"], validate=True)
            dtype = np.dtype(value["dtype"]).newbyteorder("<")
            array = np.frombuffer(raw, dtype).reshape(value["shape"])
        else:
            array = np.array(value)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ModelError(f"an input is no array: {error!r}") from error
    if array.dtype.name not in _TYPES:
        raise ModelError("an input is no array of numbers")
    return array


def _told(array: Any, as_bytes: bool) -> Any:
    """An output as it is written; JSON has no infinity and no NaN."""
    if as_bytes:
        little = array.astype(array.dtype.newbyteorder("<"))
        text = base64.b64encode(little.tobytes()).decode("ascii")
        return {"base64": text, "dtype": array.dtype.name, "shape": list(array.shape)}
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError("an output is not finite: ask for it as base64")
    return array.tolist()


# --------------------------------------------------------------------------------- who asks


def serve_stream(service: Service, lines: BinaryIO, out: BinaryIO) -> None:
    """Answer line after line until there is none."""
    while True:
        line = lines.readline(service.longest_line + 1)
        if not line:
            return
        out.write(service.answer(line))
        out.flush()
        if not line.endswith(b"\n"):
            return  # longer than a line may be, or the last one


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, service: Service) -> None:
        self.service = service
        super().__init__(str(path), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone: nobody is left to be told."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Server)  # noqa: S101
        serve_stream(server.service, self.rfile, self.wfile)  # type: ignore[arg-type]


def serve_socket(service: Service, path: Path) -> None:
    """Answer whoever connects, until SIGTERM or Ctrl-C.

    A socket that nobody listens on any more is replaced.

    Raises:
        ModelError: another service listens there, something else is there, or there is no place.
    """
    try:
        _clear(path)
        made = _Server(path, service)
    except OSError as error:
        raise ModelError(f"cannot listen on {path}: {error.strerror or error}") from error
    with made as server:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        _notify("READY=1")
        server.serve_forever(poll_interval=0.2)
    with contextlib.suppress(OSError):
        path.unlink()


def _clear(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise ModelError(f"{path} is there already, and no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise ModelError(f"a service listens on {path} already")


def _notify(state: str) -> None:
    """Tell systemd; see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        name = "\0" + address[1:] if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(name)
            notify.sendall(state.encode())


def main(name: str, load: Callable[..., Model], labels: Sequence[str]) -> int:
    """``python -m NAME``: the command line of a model's package.

    Args:
        name: of the package.
        load: loads its model.
        labels: of its classes.

    Returns:
        The exit status: 0, or 1 with the reason on standard error.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--socket", type=Path, metavar="PATH", help="(standard input and output)")
    parser.add_argument("--queue", type=int, default=16, metavar="N", help="calls that wait (16)")
    parser.add_argument("--keep", type=int, default=0, metavar="N", help="answers that are kept")
    parser.add_argument("--threads", type=int, metavar="N", help="(what the model was built for)")
    parser.add_argument("--cpu", action="store_true", help="leave the accelerator alone")
    given = parser.parse_args()
    try:
        model = load(threads=given.threads, kept=given.keep, accelerated=not given.cpu)
        service = Service(model, labels, given.queue)
        if given.socket:
            serve_socket(service, given.socket)
        else:
            _serve_standard_streams(service)
        service.close()
    except ModelError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    return 0


def _serve_standard_streams(service: Service) -> None:
    """Standard output is for answers alone: what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        serve_stream(service, sys.stdin.buffer, out)
