"""A bundle's bytes follow from its files alone, and opening one misses no change."""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import msgspec
import pytest

from edgekit import bundle
from edgekit.domain import SCHEMA_VERSION
from edgekit.errors import BundleError
from tests.factories import ARTIFACT, make_bundle, make_manifest

WEIGHTS = b"weights" * 100


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def laid_out(folder, names, *, mtime):
    """The parts of a bundle, written in an order and at a time of one's own."""
    contents = {ARTIFACT: WEIGHTS, "golden/input_0.npy": b"in", "golden/output_0.npy": b"out"}
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents[name])
        os.utime(folder / name, (mtime, mtime))
    return folder


def made_with(tools):
    return msgspec.structs.replace(make_manifest(WEIGHTS), tool_versions=tools)


def refusal(path):
    with pytest.raises(BundleError) as caught, bundle.opened(path):
        pass
    return caught.value


def changed_manifest(folder, change):
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest))


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def made(tmp_path):
    """A bundle folder."""
    return make_bundle(tmp_path / "made", WEIGHTS).root


def test_the_same_files_give_the_same_bytes(tmp_path):
    names = [ARTIFACT, "golden/input_0.npy", "golden/output_0.npy"]
    first = laid_out(tmp_path / "first", names, mtime=1e9)
    second = laid_out(tmp_path / "second", reversed(names), mtime=1.5e9)
    one, two = tmp_path / "one.edgekit", tmp_path / "two.edgekit"
    tools = {"numpy": "2", "onnx": "1"}
    before = os.umask(0o022)
    try:
        identity = bundle.write(first, made_with(tools), one)
        os.umask(0o077)
        assert bundle.write(second, made_with(dict(reversed(tools.items()))), two) == identity
    finally:
        os.umask(before)
    assert sha256(one) == sha256(two)


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)])
def test_a_zip_does_not_depend_on_the_order_of_a_listing(made, tmp_path, order):
    bundle.publish(made, tuple(order(str(p) for p in tree(made))), tmp_path / "z.edgekit")
    with zipfile.ZipFile(tmp_path / "z.edgekit") as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_another_file_gives_another_identity(tmp_path):
    assert make_bundle(tmp_path / "a", b"a").sha256 != make_bundle(tmp_path / "b", b"b").sha256


def test_a_folder_may_be_completed_twice(tmp_path):
    folder = laid_out(tmp_path / "parts", [ARTIFACT, *make_manifest(b"").golden.inputs], mtime=1e9)
    (folder / "golden/output_0.npy").write_bytes(b"out")
    first = bundle.write(folder, make_manifest(WEIGHTS), tmp_path / "first.edgekit")
    again = bundle.write(folder, make_manifest(WEIGHTS), tmp_path / "again.edgekit")
    assert first == again
    with bundle.opened(tmp_path / "again.edgekit") as opened:
        assert bundle.MANIFEST not in opened.manifest.digests


def test_folder_and_zip_have_the_same_identity_and_files(tmp_path):
    extra = {"labels.txt": b"cat\ndog\n"}
    folder = make_bundle(tmp_path / "folder", WEIGHTS, extra)
    packed = make_bundle(tmp_path / "packed.edgekit", WEIGHTS, extra)
    assert packed.sha256 == folder.sha256 == sha256(folder.root / bundle.MANIFEST)
    with bundle.opened(tmp_path / "packed.edgekit") as opened:
        assert tree(opened.root) == tree(folder.root)
        assert opened.artifact.read_bytes() == WEIGHTS
        assert opened.files[-1] == bundle.MANIFEST
        assert set(opened.files) == {p.as_posix() for p in tree(folder.root)}
        unpacked = opened.root
    assert not unpacked.exists()


def test_files_beyond_the_limit_of_a_plain_zip_are_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 500)
    big = os.urandom(2000)
    make_bundle(tmp_path / "big.edgekit", big)
    with bundle.opened(tmp_path / "big.edgekit") as opened:
        assert opened.artifact.read_bytes() == big


@pytest.mark.parametrize("name", ["out", "out.edgekit"])
def test_publishing_replaces_what_was_there(tmp_path, name):
    make_bundle(tmp_path / name, b"old", {"only-in-the-old": b""})
    shutil.rmtree(tmp_path / f"{name}.parts")
    new = make_bundle(tmp_path / name, b"new")
    with bundle.opened(tmp_path / name) as opened:
        assert opened.sha256 == new.sha256
        assert opened.artifact.read_bytes() == b"new"
        assert not (opened.root / "only-in-the-old").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, f"{name}.parts"]


def test_who_reads_the_old_one_reads_it_to_its_end(tmp_path):
    make_bundle(tmp_path / "out.edgekit", b"old")
    whole = (tmp_path / "out.edgekit").read_bytes()
    with (tmp_path / "out.edgekit").open("rb", buffering=0) as reading:
        start = reading.read(10)
        make_bundle(tmp_path / "out.edgekit", b"new" * 100)
        assert start + reading.read() == whole


@pytest.mark.parametrize("name", ["out", "out.edgekit"])
def test_a_failing_write_leaves_the_old(tmp_path, name):
    old = make_bundle(tmp_path / name, b"old")
    parts = tmp_path / f"{name}.parts"
    with pytest.raises(BundleError, match=r"cannot write .*No such file"):
        bundle.publish(parts, (ARTIFACT, "zz-not-there"), tmp_path / name)
    with bundle.opened(tmp_path / name) as opened:
        assert opened.sha256 == old.sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, f"{name}.parts"]


def test_a_folder_comes_back_when_the_last_step_fails(tmp_path, monkeypatch):
    old = make_bundle(tmp_path / "out", b"old")
    rename = Path.rename

    def fails_for_the_new(self, target):
        if self.name == "made":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(BundleError, match="Input/output error"):
        make_bundle(tmp_path / "out", b"new")
    with bundle.opened(tmp_path / "out") as opened:
        assert opened.sha256 == old.sha256


@pytest.mark.parametrize(
    "others",
    [
        {"thesis.txt": b"years of work"},
        {"manifest.json": b'{"name": "a browser extension"}', "background.js": b"code"},
    ],
)
def test_a_folder_that_holds_something_else_is_refused(tmp_path, others):
    (tmp_path / "out").mkdir()
    for name, content in others.items():
        (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(BundleError, match="holds something else"):
        make_bundle(tmp_path / "out")
    assert {str(k): v for k, v in tree(tmp_path / "out").items()} == others


def test_a_bundle_with_a_file_of_the_users_beside_it_is_not_replaced(made):
    (made / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="holds something else"):
        make_bundle(made)
    assert (made / "notes.txt").read_text() == "mine"


def test_a_damaged_bundle_may_be_replaced(made):
    (made / ARTIFACT).write_bytes(b"damaged")
    assert make_bundle(made, b"new").artifact.read_bytes() == b"new"


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"the user's only copy")
    with pytest.raises(BundleError) as caught:
        make_bundle(model)
    assert "model.onnx" in caught.value.message
    assert bundle.SUFFIX in caught.value.hint
    assert model.read_bytes() == b"the user's only copy"


def test_a_folder_may_not_be_named_like_a_zip(tmp_path):
    (tmp_path / "out.edgekit").mkdir()
    with pytest.raises(BundleError, match="is a folder"):
        bundle.check_destination(tmp_path / "out.edgekit")


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    assert make_bundle(tmp_path / "out").root == tmp_path / "out"


def test_a_whole_bundle_opens(made):
    with bundle.opened(made) as opened:
        assert opened.root == made


def test_a_changed_byte_is_found(made):
    content = bytearray(WEIGHTS)
    content[len(content) // 2] ^= 1
    (made / ARTIFACT).write_bytes(content)
    error = refusal(made)
    assert error.message.startswith(f"{ARTIFACT} is not the file that was bundled")
    assert sha256(made / ARTIFACT)[:12] in error.message


def test_a_changed_byte_in_a_zip_is_found(tmp_path):
    make_bundle(tmp_path / "z.edgekit", WEIGHTS)
    raw = (tmp_path / "z.edgekit").read_bytes()
    (tmp_path / "z.edgekit").write_bytes(raw.replace(b"weights", b"Weights", 1))
    assert "Bad CRC-32" in refusal(tmp_path / "z.edgekit").message


def test_a_missing_file_is_found(made):
    (made / "golden/input_0.npy").unlink()
    assert "lacks 'golden/input_0.npy'" in refusal(made).message


@pytest.mark.parametrize("name", ["extra", "golden/extra", ".hidden", "deep/down/here"])
def test_an_unlisted_file_is_found(made, name):
    (made / name).parent.mkdir(parents=True, exist_ok=True)
    (made / name).touch()
    assert f"holds {name!r}, which its manifest does not list" in refusal(made).message


def test_a_symlink_is_found_even_to_the_same_bytes(made, tmp_path):
    (made / ARTIFACT).rename(tmp_path / "elsewhere")
    (made / ARTIFACT).symlink_to(tmp_path / "elsewhere")
    assert f"holds {ARTIFACT!r}, which is not a plain file" in refusal(made).message


def test_a_symlinked_folder_is_found(made, tmp_path):
    (made / "golden").rename(tmp_path / "elsewhere")
    (made / "golden").symlink_to(tmp_path / "elsewhere")
    assert "holds 'golden', which is not a plain file" in refusal(made).message


def test_a_symlinked_manifest_is_found(made, tmp_path):
    (made / bundle.MANIFEST).rename(tmp_path / "elsewhere")
    (made / bundle.MANIFEST).symlink_to(tmp_path / "elsewhere")
    assert "it has no manifest.json" in refusal(made).message


def test_a_pipe_is_found_and_not_read(made):
    os.mkfifo(made / "pipe")
    assert "holds 'pipe', which is not a plain file" in refusal(made).message


def test_a_wrong_size_is_found(made):
    (made / ARTIFACT).write_bytes(WEIGHTS + b"!")
    says = f"{ARTIFACT} is {len(WEIGHTS) + 1} bytes, its manifest says {len(WEIGHTS)}"
    assert refusal(made).message == says


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION - 1, None, "1", [1]])
def test_another_schema_is_refused_with_both_versions(made, version):
    changed_manifest(made, lambda m: m.update(schema_version=version, unheard_of="key"))
    error = refusal(made)
    assert f"schema {version!r}, this edgekit knows {SCHEMA_VERSION}" in error.message
    assert "newer" in error.hint


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b"\0" * 100,
        b'{"schema_version": 1}',
        b'{"schema_version": 1e999}',
        b'{"a":' * 100_000,
        b'{"schema_version": ' + b"[" * 100_000,
    ],
    ids=lambda content: repr(content[:22]),
)
def test_a_malformed_manifest_is_refused(made, content):
    (made / bundle.MANIFEST).write_bytes(content)
    assert "manifest" in refusal(made).message


@pytest.mark.parametrize("table", ["", "recipe", "artifact", "golden", "plan"])
def test_an_unknown_key_is_refused(made, table):
    changed_manifest(made, lambda m: (m[table] if table else m).update(sneaky=1))
    assert "unknown field `sneaky`" in refusal(made).message


@pytest.mark.parametrize("key", ["digests", "artifact", "model_name"])
def test_a_lacking_key_is_refused(made, key):
    changed_manifest(made, lambda m: m.pop(key))
    assert f"missing required field `{key}`" in refusal(made).message


@pytest.mark.parametrize("table", ["digests", "sizes_bytes"])
def test_a_file_must_have_both_a_digest_and_a_size(made, table):
    changed_manifest(made, lambda m: m[table].pop("golden/input_0.npy"))
    assert "golden/input_0.npy" in refusal(made).message


@pytest.mark.parametrize(
    ("table", "key"), [("artifact", "path"), ("golden", "inputs"), ("artifact", "extra_files")]
)
def test_a_file_the_manifest_speaks_of_must_be_listed(made, table, key):
    value = "other" if key == "path" else ["other"]
    changed_manifest(made, lambda m: m[table].update({key: value}))
    assert "speaks of other, which it does not list" in refusal(made).message


def test_a_huge_manifest_is_not_read(made):
    with (made / bundle.MANIFEST).open("ab") as file:
        file.truncate(17 * 1024 * 1024)
    assert "is larger than" in refusal(made).message


def test_nothing_there_names_what_makes_one(tmp_path):
    error = refusal(tmp_path / "nowhere.edgekit")
    assert "no such bundle" in error.message
    assert "edgekit build" in error.hint


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    assert "it has no manifest.json" in refusal(tmp_path).message


def test_a_file_that_cannot_be_read_is_a_bundle_error(made, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bundle, "digest", denied)
    assert "Permission denied" in refusal(made).message
