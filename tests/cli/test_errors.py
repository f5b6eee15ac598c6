"""Bad input: an exit code, a message that helps, and nothing half-written left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import DATA, Edgekit
from tests.paths import CALIBRATION, DIGITS_MODEL

PI = ("--device", "raspberry-pi-5")


def refused(edgekit: Edgekit, folder: Path, *words: object, code: int = 2) -> dict[str, str]:
    """Run a command that must fail in an empty folder, and leave it empty; its error."""
    before = sorted(folder.rglob("*"))
    ran = edgekit(*words, "--json", cwd=folder)
    assert ran.code == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert sorted(folder.rglob("*")) == before
    # The same for a person: the message and its hint, nothing on standard output.
    told = edgekit(*words, cwd=folder)
    assert told.code == code
    assert told.stdout == ""
    assert f"error: {ran.error['message']}" in told.stderr
    return ran.error


def build(model: object, *words: object) -> tuple[object, ...]:
    return ("build", model, *PI, *words, "-o", "out.edgekit")


def test_no_such_model(edgekit: Edgekit, tmp_path: Path) -> None:
    error = refused(edgekit, tmp_path, *build("absent.onnx", *DATA))
    assert "no such file" in error["message"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.onnx", b"this is a text, and no model at all"),
        ("empty.onnx", b""),
        ("half.onnx", DIGITS_MODEL.read_bytes()[:20_000]),
    ],
)
def test_not_a_model(edgekit: Edgekit, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(edgekit, tmp_path, *build(name, *DATA))
    assert "not an ONNX model" in error["message"]


def test_calibration_of_another_shape(edgekit: Edgekit, tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", x=np.zeros((4, 9, 9), np.float32))
    error = refused(edgekit, tmp_path, *build(DIGITS_MODEL, "--calibration", "wrong.npz"))
    assert "[9, 9]" in error["message"]
    assert "[1, 8, 8]" in error["message"]


def test_calibration_under_another_name(edgekit: Edgekit, tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", pictures=np.zeros((4, 8, 8), np.float32))
    error = refused(edgekit, tmp_path, *build(DIGITS_MODEL, "--calibration", "wrong.npz"))
    assert "pictures" in error["message"]
    assert "image" in error["hint"]


def test_unknown_device_offers_the_nearest(edgekit: Edgekit, tmp_path: Path) -> None:
    words = ("plan", DIGITS_MODEL, "--device", "raspbery-pi5")
    error = refused(edgekit, tmp_path, *words)
    assert "raspberry-pi-5" in error["hint"]


def test_impossible_goal_says_what_would_be_possible(edgekit: Edgekit, tmp_path: Path) -> None:
    words = build(DIGITS_MODEL, *DATA, "--max-latency-ms", 1e-6)
    error = refused(edgekit, tmp_path, *words, code=1)
    assert "latency" in error["message"]
    assert "would fit with a latency budget of" in error["hint"]


def test_a_gate_that_cannot_be_met(edgekit: Edgekit, tmp_path: Path) -> None:
    """No artifact is smaller than this; the plan cannot know it for sure, the build does."""
    words = ("build", DIGITS_MODEL, "--device", "generic-x86-64", *DATA, "-o", "out.edgekit")
    size = ("--max-size-mb", 0.0145, "--format", "onnxruntime", "--precision", "int8-static")
    error = refused(edgekit, tmp_path, *words, *size, code=1)
    assert "0.0145" in error["message"]


def test_zeros_in_a_pattern(edgekit: Edgekit, tmp_path: Path) -> None:
    error = refused(edgekit, tmp_path, *build(DIGITS_MODEL, *DATA, "--prune", "2:4"))
    assert "neither bytes nor time" in error["message"]
    assert "--prune 0.25" in error["hint"]


def test_static_int8_without_calibration(edgekit: Edgekit, tmp_path: Path) -> None:
    words = build(DIGITS_MODEL, "--precision", "int8-static")
    error = refused(edgekit, tmp_path, *words)
    assert "--calibration" in error["hint"]


def test_a_device_of_another_format(edgekit: Edgekit, tmp_path: Path) -> None:
    words = ("plan", DIGITS_MODEL, "--device", "iphone-15-pro", "--format", "litert")
    error = refused(edgekit, tmp_path, *words)
    assert "does not take litert" in error["message"]
    assert "coreml" in error["hint"]


@pytest.mark.xdist_group("digits-bundle")
def test_unreachable_host(edgekit: Edgekit, digits_bundle: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("bench", digits_bundle, "--on", f"ssh://nobody@127.0.0.1:{port}")
    error = refused(edgekit, tmp_path, *words, code=3)
    assert str(port) in error["message"]


@pytest.mark.xdist_group("digits-bundle")
def test_a_damaged_bundle(edgekit: Edgekit, digits_bundle: Path, tmp_path: Path) -> None:
    content = bytearray(digits_bundle.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.edgekit").write_bytes(content)
    error = refused(edgekit, tmp_path, "verify", "damaged.edgekit")
    assert error["kind"] == "bundle"


def test_an_output_that_is_a_folder_of_something_else(edgekit: Edgekit, tmp_path: Path) -> None:
    (tmp_path / "out.edgekit").mkdir()
    (tmp_path / "out.edgekit" / "precious.txt").write_text("mine")
    error = refused(edgekit, tmp_path, *build(DIGITS_MODEL, *DATA))
    assert "is a folder" in error["message"]
    assert (tmp_path / "out.edgekit" / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("plan", "model.onnx"),
        ("plan", DIGITS_MODEL, *PI, "--max-latency-ms", "-1"),
        ("plan", DIGITS_MODEL, *PI, "--max-latency-ms", "soon"),
        ("plan", DIGITS_MODEL, *PI, "--shape", "image"),
        ("plan", DIGITS_MODEL, *PI, "--max-lat", "5"),
        ("build", DIGITS_MODEL, *PI, "--provision", "-o", "out.edgekit"),
        ("build", DIGITS_MODEL, *PI, "--wheels", ".", "-o", "out.edgekit"),
        ("push", CALIBRATION, "--on", "ftp://somewhere"),
    ],
)
def test_wrong_usage(edgekit: Edgekit, tmp_path: Path, words: tuple[object, ...]) -> None:
    refused(edgekit, tmp_path, *words)


def test_wheels_with_nothing_to_install(edgekit: Edgekit, tmp_path: Path) -> None:
    error = refused(edgekit, tmp_path, "push", "some.edgekit", "--wheels", ".")
    assert "--provision" in error["hint"]


def test_verbose_shows_where_it_happened(edgekit: Edgekit, tmp_path: Path) -> None:
    ran = edgekit("inspect", tmp_path / "absent.onnx", "--verbose")
    assert ran.code == 2
    assert "Traceback" in ran.stderr


def test_a_folder_that_cannot_be_written(edgekit: Edgekit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    words = ("build", DIGITS_MODEL, *PI, *DATA, "-o", "file/out.edgekit")
    refused(edgekit, tmp_path, *words)
