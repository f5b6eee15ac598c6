"""``--image-input`` and ``--labels`` as people write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli.interfaces import interface
from edgekit.domain import Interface, Picture
from edgekit.errors import DataError, UsageError
from tests.cli.conftest import Edgekit
from tests.paths import DIGITS_MODEL


@pytest.mark.parametrize(
    ("text", "name", "picture"),
    [
        ("x=rgb", "x", Picture(colours="rgb")),
        ("a=b=gray,scale=0.5", "a=b", Picture(colours="gray", scale=(0.5,))),
        (
            "x,y=bgr,scale=1/2/3,bias=-1/0/1e-2",
            "x,y",
            Picture(colours="bgr", scale=(1.0, 2.0, 3.0), bias=(-1.0, 0.0, 0.01)),
        ),
    ],
)
def test_pictures(text: str, name: str, picture: Picture) -> None:
    assert interface([text], None) == Interface(pictures={name: picture})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "names no colours"),
        ("=rgb", "names no colours"),
        ("x=rgba", "names no colours"),
        ("x=rgb,scale=a", "'scale=a' is odd"),
        ("x=rgb,gain=1", "no option 'gain'"),
    ],
)
def test_pictures_that_are_not_understood(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        interface([text], None)


def test_labels(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\r\n a dog \n\nKäfer\n".encode())
    assert interface([], path).labels == ("cat", "a dog", "Käfer")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\n\n", "no labels"), (b"a\nb\na\n", "'a' twice"), (b"\xff\xfe\x00", "cannot read")],
)
def test_labels_that_will_not_do(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        interface([], path)


def test_a_bundle_tells_of_them(edgekit: Edgekit, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join("abcdefghij"))
    words = ("build", DIGITS_MODEL, "--device", "pixel-8", "--format", "onnxruntime")
    told = ("--image-input", "image=gray,scale=0.0625", "--labels", tmp_path / "labels.txt")
    ran = edgekit(*words, *told, "-o", tmp_path / "out", "--json")
    assert ran.code == 0, ran.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["artifact"]["inputs"][0]["image"] is None  # it takes what the model took
    interface = manifest["interface"]
    assert interface["labels"] == list("abcdefghij")
    assert interface["pictures"]["image"]["scale"] == [0.0625]
