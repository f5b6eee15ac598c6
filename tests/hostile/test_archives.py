"""A forged ``.edgekit`` is refused, whatever it holds, and writes nowhere but in its own folder."""

import io
import os
import stat
import tempfile
import tracemalloc
import zipfile

import pytest

from edgekit import bundle
from edgekit.errors import BundleError
from tests.hostile import archives
from tests.hostile.archives import described, packed

HARMLESS = b"not yours"
MIB = 1024**2


def snapshot(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where archives lie; the temporary folder is so deep that ``..`` ends inside the test's."""
    temporary = tmp_path / "canary" / "a" / "b" / "tmp"
    temporary.mkdir(parents=True)
    (tmp_path / "canary" / "alive").write_bytes(HARMLESS)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(temporary)
    return tmp_path


@pytest.fixture
def files(tmp_path_factory):
    return archives.honest(tmp_path_factory.mktemp("parts"))


def refusal(path):
    """The error of an archive that must not open, once nothing was found outside its folder."""
    before = snapshot(path.parent)
    with pytest.raises(BundleError) as caught, bundle.opened(path):
        pass
    assert snapshot(path.parent) == before
    return caught.value


def test_the_honest_one_opens(place, files):
    path = packed(place / "honest.edgekit", files.items())
    with bundle.opened(path) as opened:
        assert set(opened.files) == set(files)
    assert not list((place / "canary/a/b/tmp").iterdir())


NAMES = [
    "../evil",
    "../../evil",
    "golden/../../evil",
    "golden/../evil",
    "..",
    ".",
    "./evil",
    "golden//evil",
    "..\\evil",
    "golden\\evil",
    "C:evil",
    "C:\\evil",
    "\\\\server\\share\\evil",
    "/ABSOLUTE/evil",
    "//ABSOLUTE/evil",
    "evil\n",
    "evil\x1b[2J",
    "evil\u202etxt.exe",
    "golden/",
    "golden/input_0.npy/evil",
    "x" * 300,
    "",
]


@pytest.mark.parametrize("listed", ["listed", "sizes only", "digests only", "unlisted"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_leads_elsewhere(place, files, name, listed):
    name = name.replace("/ABSOLUTE", str(place / "canary"))
    tables = {"listed": (), "sizes only": ("sizes_bytes",), "digests only": ("digests",)}
    if listed == "unlisted":
        forged = {**files, name: b"evil"}
    else:
        forged = archives.listing(files, {name: b"evil"}, *tables[listed])
    entries = [(described(entry), content) for entry, content in forged.items()]
    refusal(packed(place / "forged.edgekit", entries))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
@pytest.mark.parametrize("name", ["link", bundle.MANIFEST])
def test_an_entry_that_is_no_plain_file(place, files, kind, name):
    forged = archives.listing(files, {"link": b"/etc/passwd"})
    entries = [(described(n, kind if n == name else stat.S_IFREG), c) for n, c in forged.items()]
    assert "not a plain file" in refusal(packed(place / "forged.edgekit", entries)).message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("model.onnx", "model.onnx"),
        (bundle.MANIFEST, bundle.MANIFEST),
        ("model.onnx", "MODEL.ONNX"),
        (bundle.MANIFEST, "Manifest.JSON"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(place, files, first, second):
    forged = archives.listing(files, {first: b"weights"}) if first not in files else files
    entries = [*forged.items(), (second, b"other weights")]
    assert "holds a name twice" in refusal(packed(place / "forged.edgekit", entries)).message


METHODS = [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.mark.parametrize("honest_size", [True, False])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["model.onnx", bundle.MANIFEST])
def test_a_bomb_takes_no_memory_and_no_disk(place, files, name, method, honest_size):
    forged = archives.listing(files, {"model.onnx": bytes(20 * MIB)})
    if name == bundle.MANIFEST:
        forged[bundle.MANIFEST] += b" " * 20 * MIB
    entries = [(described(n, method=method if n == name else 0), c) for n, c in forged.items()]
    if name == bundle.MANIFEST:
        entries = [(n, c) for n, c in entries if n.filename != "model.onnx"]
    path = packed(place / "bomb.edgekit", entries)
    assert path.stat().st_size < MIB
    if not honest_size:
        archives.with_size(path, name, 100)
    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_more_than_the_manifest_says(place, files):
    forged = {**files, "model.onnx": b"weights and more"}
    error = refusal(packed(place / "forged.edgekit", forged.items()))
    assert error.message == "'model.onnx' is 16 bytes, expected at most 7"


@pytest.mark.parametrize("claimed", [0, 7, 2**31, 2**32 - 1])
def test_a_size_that_lies(place, files, claimed):
    forged = {**files, "model.onnx": b"weights and more"}
    path = packed(place / "forged.edgekit", forged.items())
    refusal(archives.with_size(path, "model.onnx", claimed))


@pytest.mark.parametrize("offset", [2**40, 2**63, 2**64 - 1])
def test_an_offset_out_of_this_world(place, files, offset):
    entries = [(described(name), content) for name, content in files.items()]
    for entry, _ in entries:
        entry.extra = b"ek\x08\x00" + bytes(8)
    path = packed(place / "forged.edgekit", entries)
    refusal(archives.with_far_offset(path, "model.onnx", offset))


def test_a_name_that_is_not_text(place, files):
    path = packed(place / "forged.edgekit", [*files.items(), ("\xe9", b"")])
    path.write_bytes(path.read_bytes().replace("\xe9".encode(), b"\xff\xfe"))
    assert "is not a bundle" in refusal(path).message


def test_an_encrypted_entry(place, files):
    path = packed(place / "forged.edgekit", files.items())
    archives.with_flag(path, "model.onnx", archives.ENCRYPTED)
    assert "encrypted" in refusal(path).message


def test_entries_that_share_bytes(place, files):
    inner = b"weights" * 1000
    outer = archives.local_entry("inner", inner)
    forged = archives.listing(files, {"outer": outer, "inner": inner})
    path = archives.overlapping(place / "forged.edgekit", forged, "outer", "inner")
    with zipfile.ZipFile(path) as archive:
        places = {entry.filename: entry.header_offset for entry in archive.infolist()}
    assert places["inner"] == places["outer"] + 30 + len("outer")
    assert path.read_bytes().count(inner) == 1
    assert "overlap" in refusal(path).message.lower()


def test_a_manifest_that_names_itself(place, files):
    def names_itself(manifest):
        manifest["digests"][bundle.MANIFEST] = "0" * 64
        manifest["sizes_bytes"][bundle.MANIFEST] = 10 * MIB

    forged = archives.edited(files, names_itself)
    error = refusal(packed(place / "forged.edgekit", forged.items()))
    assert error.message == "a bundle cannot hold a file named 'manifest.json'"


def test_a_bundle_within_a_bundle_is_just_a_file(place, files):
    packed(place / "inner.edgekit", files.items())
    forged = {**files, bundle.MANIFEST: (place / "inner.edgekit").read_bytes()}
    assert "malformed" in refusal(packed(place / "forged.edgekit", forged.items())).message


@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_a_truncated_one(place, files, percent):
    raw = packed(place / "whole", files.items()).read_bytes()
    (place / "cut.edgekit").write_bytes(raw[: len(raw) * percent // 100])
    refusal(place / "cut.edgekit")


@pytest.mark.parametrize("percent", range(5, 100, 5))
def test_one_whose_beginning_or_middle_is_gone(place, files, percent):
    raw = packed(place / "whole", files.items()).read_bytes()
    (place / "cut.edgekit").write_bytes(raw[len(raw) * percent // 100 :])
    refusal(place / "cut.edgekit")
    at = len(raw) * percent // 100
    (place / "cut.edgekit").write_bytes(raw[: at - 20] + raw[at:])
    refusal(place / "cut.edgekit")


@pytest.mark.parametrize("mask", [0xFF, 0x80, 0x01])
def test_a_forged_header_is_refused_or_changes_nothing(place, files, mask):
    whole = packed(place / "whole", files.items())
    raw = whole.read_bytes()
    with bundle.opened(whole) as opened:
        identity = opened.sha256
    refused = 0
    for at in archives.headers_of(raw):
        forged = bytearray(raw)
        forged[at] ^= mask
        whole.write_bytes(forged)
        try:
            with bundle.opened(whole) as opened:
                assert opened.sha256 == identity
        except BundleError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"PK\x05\x06" + bytes(18), b"#!/bin/sh\n", bytes(5000), os.urandom(5000)],
    ids=["empty", "magic", "empty zip", "script", "zeros", "noise"],
)
def test_not_a_bundle_at_all(place, content):
    (place / "no.edgekit").write_bytes(content)
    assert "is not a bundle" in refusal(place / "no.edgekit").message


def test_a_zip_without_a_manifest(place):
    path = packed(place / "no.edgekit", [("readme.txt", b"hello")])
    assert "it has no manifest.json" in refusal(path).message


def test_a_manifest_in_a_folder_is_none(place, files):
    path = packed(place / "no.edgekit", [(f"inner/{n}", c) for n, c in files.items()])
    assert "it has no manifest.json" in refusal(path).message


def test_the_canary_sees_what_a_careless_reader_would_write(place):
    path = packed(place / "forged.edgekit", [(described("../evil"), b"evil")])
    before = snapshot(place)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        for entry in archive.infolist():
            with open(f"{tempfile.mkdtemp()}/{entry.filename}", "wb") as file:  # noqa: PTH123
                file.write(archive.read(entry))
    assert snapshot(place) != before
