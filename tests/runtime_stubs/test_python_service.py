"""The service of a Python application: whatever a line holds, it is answered with a line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edgekit_model import ModelError, Tensor
from edgekit_model.service import Service, main, serve_socket

IMAGE = Tensor("x", (1, 3), "uint8", "x", "uint8", (0, 1))


class Sums:
    """A model that adds up; held back until it is let."""

    inputs = (IMAGE,)

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.go.set()

    def predict_many(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.began.set()
        assert self.go.wait(20)
        return [{"y": IMAGE.to_artifact(call["x"]).sum(keepdims=True)} for call in calls]


@pytest.fixture
def sums() -> Sums:
    return Sums()


@pytest.fixture
def service(sums: Sums) -> Iterator[Service]:
    made = Service(sums, (), 4)  # type: ignore[arg-type]
    yield made
    sums.go.set()
    made.close()


def asked(service: Service, line: str) -> dict[str, Any]:
    answer = service.answer(line.encode())
    assert answer.endswith(b"\n")
    return json.loads(answer, parse_constant=lambda name: pytest.fail(f"{name} in an answer"))


@pytest.mark.parametrize("number", ['"a"', "7", "1.5", "-1e300"])
def test_nested_lists_are_an_array_of_integers(service: Service, number: str) -> None:
    got = asked(service, f'{{"inputs": {{"x": [[1, 2, 255]]}}, "id": {number}}}')
    assert got == {"id": json.loads(number), "outputs": {"y": [[258]]}}


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ('"inputs": {}, "id": NaN', "it has no NaN"),
        ('"inputs": {"x": [[Infinity, 0, 0]]}', "it has no Infinity"),
        ('"inputs": {}, "id": 1e999', "an id is a string or a finite number"),
        ('"inputs": {}, "id": [1e999]', "an id is a string or a finite number"),
        ('"inputs": {}, "id": null', "an id is a string or a finite number"),
        ('"inputs": {"x": [[1e300, 0, 0]]}', "takes uint8"),
        ('"inputs": {"x": [[1, 2, 256]]}', "got numbers from 1 to 256, which uint8 does not hold"),
        ('"inputs": {"x": [["a", "b", "c"]]}', "no array of numbers"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(service: Service, rest: str, says: str) -> None:
    error = asked(service, f"{{{rest}}}")["error"]
    assert error["kind"] == "request"
    assert says in error["message"]


@pytest.mark.parametrize("dtype", ["(1,,2)f4,i4", "f4,(", "object", "U9", "<f4", ["f4"], None, {}])
def test_a_type_is_one_of_few(service: Service, dtype: Any) -> None:
    packed = {"base64": "AAAA", "dtype": dtype, "shape": [1, 3]}
    error = asked(service, json.dumps({"inputs": {"x": packed}, "id": 1}))["error"]
    assert error["kind"] == "request"


def test_bytes_are_an_array(service: Service) -> None:
    packed = {"base64": "AQL/", "dtype": "uint8", "shape": [1, 3]}
    assert asked(service, json.dumps({"inputs": {"x": packed}})) == {"outputs": {"y": [[258]]}}


def test_who_waits_is_told_that_it_closes(service: Service, sums: Sums) -> None:
    sums.go.clear()
    line, told = '{"inputs": {"x": [[1, 2, 3]]}}', {}

    def ask(who: str) -> None:
        told[who] = asked(service, line)

    asking = [threading.Thread(target=ask, args=(who,)) for who in ("first", "second")]
    asking[0].start()
    assert sums.began.wait(20)
    asking[1].start()
    while asking[1].is_alive() and not service._worker._waiting:
        time.sleep(0.01)
    closing = threading.Thread(target=service.close)
    closing.start()
    asking[1].join(20)
    assert told["second"]["error"] == {"kind": "request", "message": "the worker was closed"}
    sums.go.set()
    for thread in (asking[0], closing):
        thread.join(20)
    assert told["first"] == {"outputs": {"y": [[6]]}}


def test_a_place_that_there_is_not(service: Service, tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "such" / "x", tmp_path / ("x" * 200)):
        with pytest.raises(ModelError, match="cannot listen on"):
            serve_socket(service, path)


def test_the_command_line_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["digits", "--socket", str(tmp_path / "no" / "x")]
    monkeypatch.setattr("sys.argv", argv)
    assert main("digits", lambda **_: Sums(), ()) == 1  # type: ignore[arg-type,return-value]
    assert capsys.readouterr().err.startswith("digits: cannot listen on")
