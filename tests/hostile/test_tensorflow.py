"""Hostile files of TensorFlow's kinds: refused, and nothing that they hold has run."""

import struct
import sys
import zipfile

import pytest

from edgekit import sources
from edgekit.errors import ModelError
from edgekit.sources import Original, tensorflow_graph

pytestmark = pytest.mark.xdist_group("tensorflow")


def refusal(path, folder, canary):
    with pytest.raises(ModelError) as caught:
        sources.load(path, folder)
    assert not canary.exists()
    return f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("lambda.keras", "Lambda", id="code of the file's own (CVE-2024-3660)"),
        pytest.param("lambda.h5", "Lambda", id="safe_mode does not cover HDF5 (CVE-2025-9905)"),
        pytest.param("external_link.h5", "links to another file", id="HDF5 external link"),
        pytest.param("external_data.h5", "keeps data in another", id="HDF5 external storage"),
        pytest.param("virtual.h5", "virtual dataset", id="HDF5 virtual dataset"),
        pytest.param("writes", "WriteFile", id="a graph that writes files"),
        pytest.param("python", "PyFunc", id="a graph that calls Python"),
        pytest.param("table", "tables", id="what is initialised by running the file's code"),
    ],
)
def test_it_is_refused_unrun(name, says, tensorflow_models, tmp_path):
    said = refusal(tensorflow_models / name, tmp_path, tensorflow_models / "canary")
    assert says in said


CONFIGS = {
    "CVE-2025-1550: a module that is not Keras": '{"module": "os", "class_name": "system"}',
    "CVE-2025-8747: a function of Keras's own that fetches": (
        '{"module": "builtins", "class_name": "function", "config": "get_file"}'
    ),
    "CVE-2025-9906: switched off by the file itself": (
        '{"module": "keras.config", "class_name": "function", '
        '"config": "enable_unsafe_deserialization"}'
    ),
    "CVE-2025-12058: a vocabulary of another file": (
        '{"module": "keras.layers", "class_name": "StringLookup", '
        '"config": {"vocabulary": "/etc/passwd"}}'
    ),
    "a class of the user's own": '{"module": null, "class_name": "Custom>Thing"}',
    "a SavedModel of another place": '{"module": "keras.layers", "class_name": "TFSMLayer"}',
    "nested a hundred thousand deep": "[" * 100_000,
    "no JSON": "{",
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_keras_configuration_that_names_code_is_refused(config, tensorflow_models, tmp_path):
    path = tmp_path / "forged.keras"
    repacked(tensorflow_models / "gru.keras", path, {"config.json": config.encode()})
    refusal(path, tmp_path, tensorflow_models / "canary")


def test_tensorflow_is_not_loaded_for_what_is_refused(tmp_path, monkeypatch):
    """It takes seconds, and may look at the file itself."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    path = tmp_path / "code.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("code.py", "")
    with pytest.raises(ModelError, match=r"'code\.py'"):
        tensorflow_graph.convert(Original(kind="keras", path=path), tmp_path, {})


def repacked(source, destination, changed):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(destination, "w") as new:
        for name in old.namelist():
            new.writestr(name, changed.get(name, old.read(name)))
        for name in changed.keys() - set(old.namelist()):
            new.writestr(name, changed[name], zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("../evil", b"x"),
        ("assets/../../evil", b"x"),
        ("/evil", b"x"),
        ("extra.py", b"x"),
        ("assets/bomb", bytes(20_000_000)),
    ],
    # pytest tells the name of a test in the environment, and a bomb does not fit there.
    ids=["outside", "outside by a detour", "absolute", "code", "a bomb"],
)
def test_a_keras_archive_with_what_does_not_belong_there(
    member, content, tensorflow_models, tmp_path
):
    path = tmp_path / "forged.keras"
    repacked(tensorflow_models / "gru.keras", path, {member: content})
    assert member.rsplit("/", 1)[-1] in refusal(path, tmp_path, tensorflow_models / "canary")


@pytest.mark.parametrize("name", ["x.keras", "x.h5", "x.tflite"])
@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"PK\x03\x04" + b"\0" * 60])
def test_what_is_no_model_is_refused(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    refusal(path, tmp_path, tmp_path / "canary")


def test_a_folder_that_is_no_saved_model_or_holds_links(tensorflow_models, tmp_path):
    canary = tmp_path / "canary"
    for name in ("work", "work2", "empty", "linked"):
        (tmp_path / name).mkdir()
    assert "no SavedModel" in refusal(tmp_path / "empty", tmp_path / "work", canary)
    (tmp_path / "linked" / "saved_model.pb").symlink_to(
        tensorflow_models / "saved" / "saved_model.pb"
    )
    assert "is a link" in refusal(tmp_path / "linked", tmp_path / "work2", canary)


def test_the_eight_bytes_that_crash_an_interpreter(tmp_path):
    path = tmp_path / "short.tflite"
    path.write_bytes(struct.pack("<I", 0x18) + b"TFL3")
    assert "damaged" in refusal(path, tmp_path, tmp_path / "canary")
