"""Packages that are damaged or hostile: a clear error, and nothing outside is read."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from edgekit import mil
from edgekit.errors import DataError, ModelError, ToolError
from edgekit.mil.types import ElementType
from edgekit.mil.weights_file import WeightsFile, unpacked
from tests.mil.programs import ct, edited, floats, mb, model_file, saved

X = floats(2, 32)
WEIGHT = floats(64, 32, seed=1)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    return saved(folder, lambda x: mb.linear(x=x, weight=WEIGHT, name="y"), {"x": X})


@pytest.fixture
def package(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "copy.mlpackage"))


def _manifest(package):
    return package / "Manifest.json"


def _weights(package):
    (found,) = package.rglob("*.bin")
    return found


def _point_to(package, path):
    manifest = json.loads(_manifest(package).read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = path
    _manifest(package).write_text(json.dumps(manifest))


def _operations(model):
    return model.mlProgram.functions["main"].block_specializations["CoreML6"].operations


def _weight(model):
    """The weight's value: the constant that lies in a file."""
    for operation in _operations(model):
        if operation.attributes["val"].WhichOneof("value") == "blobFileValue":
            return operation.attributes["val"]
    raise AssertionError("no weight lies in a file")


def _last(model):
    return _operations(model)[-1]


def test_the_original_runs(package: Path) -> None:
    (output,) = mil.evaluate(mil.load(package), {"x": X}).values()
    np.testing.assert_allclose(output, X @ WEIGHT.T, 1e-4, 1e-4)


def _elsewhere(package):
    shutil.copy(model_file(package), package.parent / "stolen.mlmodel")
    _point_to(package, "../../stolen.mlmodel")


def _absolute(package):
    _point_to(package, str(model_file(package)))


def _link_to_model(package):
    path = model_file(package)
    path.rename(package.parent / "outside.mlmodel")
    path.symlink_to(package.parent / "outside.mlmodel")


def _link_to_folder(package):
    folder = package / "Data"
    folder.rename(package.parent / "data")
    folder.symlink_to(package.parent / "data")


def _link_to_weights(package):
    path = _weights(package)
    path.rename(package.parent / "outside.bin")
    path.symlink_to(package.parent / "outside.bin")


def _cut_model(package):
    path = model_file(package)
    path.write_bytes(path.read_bytes()[:-20])


def _cut_weights(package):
    path = _weights(package)
    path.write_bytes(path.read_bytes()[:-100])


def _old_weights(package):
    path = _weights(package)
    path.write_bytes(struct.pack("<II", 1, 1) + path.read_bytes()[8:])


FILES = {
    "no-manifest": (lambda p: _manifest(p).unlink(), "no file 'Manifest.json'"),
    "manifest-cut": (lambda p: _manifest(p).write_text("{"), "Manifest.json names no model"),
    "manifest-empty": (lambda p: _manifest(p).write_text("[]"), "Manifest.json names no model"),
    "manifest-nested": (lambda p: _manifest(p).write_text("[" * 10**5), "names no model"),
    "manifest-large": (lambda p: _manifest(p).write_text(" " * 2**21), "larger than a mebibyte"),
    "elsewhere": (_elsewhere, "leads out of the package"),
    "absolute": (_absolute, "leads out of the package"),
    "no-model": (lambda p: model_file(p).unlink(), "it has no file"),
    "model-is-a-link": (_link_to_model, "is a link or lies behind one"),
    "folder-is-a-link": (_link_to_folder, "is a link or lies behind one"),
    "weights-are-a-link": (_link_to_weights, "is a link or lies behind one"),
    "model-cut": (_cut_model, "cannot be read"),
    "no-weights": (lambda p: _weights(p).unlink(), "it has no file 'weights/weight.bin'"),
    "weights-cut": (_cut_weights, "lie outside its"),
    "weights-empty": (lambda p: _weights(p).write_bytes(b""), "a header of 64 bytes"),
    "weights-old": (_old_weights, "weight files have version 2, got 1"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(package: Path, name: str) -> None:
    damage, said = FILES[name]
    damage(package)
    with pytest.raises(ModelError, match=said):
        mil.load(package)


def _file(model):
    return _weight(model).blobFileValue


def _set(target, **fields):
    for name, value in fields.items():
        setattr(target, name, value)


def _tensor(model):
    return _weight(model).type.tensorType


def _classic(model):
    model.ClearField("mlProgram")
    model.neuralNetwork.SetInParent()


def _no_block(model):
    model.mlProgram.functions["main"].opset = "CoreML99"


def _inline(model, kind, *values):
    """The weight as numbers within the model."""
    weight = _weight(model)
    _set(weight.type.tensorType, dataType=kind, rank=1)
    del weight.type.tensorType.dimensions[1:]
    weight.ClearField("blobFileValue")
    weight.immediateValue.tensor.ints.values[:] = values


def _too_large(model):
    _inline(model, 21, *[300] * 64)


def _too_few(model):
    _inline(model, 23, 1, 2, 3)


def _no_picture(model):
    _set(model.description.input[0].type.imageType, width=2, height=2, colorSpace=77)


def _no_classes(model):
    operation = _operations(model).add(type="classify")
    operation.inputs["classes"].arguments.add(name="nobody")


MODELS = {
    "not-a-program": (_classic, "expected an ML Program, it holds neuralNetwork"),
    "no-function": (lambda m: m.mlProgram.functions.pop("main"), "no function 'main'; it has none"),
    "no-block": (_no_block, "no block for its operation set CoreML99"),
    "weights-elsewhere": (
        lambda m: _set(_file(m), fileName="@model_path/../../../secret.bin"),
        "leads out of the package",
    ),
    "weights-absolute": (
        lambda m: _set(_file(m), fileName="/etc/passwd"),
        "named from @model_path",
    ),
    "offset-beyond": (lambda m: _set(_file(m), offset=2**63), "lie outside its"),
    "offset-astray": (lambda m: _set(_file(m), offset=0), "no tensor begins at offset 0"),
    "another-size": (
        lambda m: _set(_tensor(m).dimensions[0].constant, size=65),
        "should be float32 in 8320 bytes, it is float32 in 8192",
    ),
    "half-type": (lambda m: _set(_tensor(m), dataType=10), "should be float16 in 4096 bytes"),
    "unknown-type": (lambda m: _set(_tensor(m), dataType=13), "bfloat16, which the evaluator"),
    "huge": (
        lambda m: _set(_last(m).outputs[0].type.tensorType.dimensions[0].constant, size=2**40),
        r"more than 2\*\*31 elements",
    ),
    "no-such-type": (lambda m: _set(_tensor(m), dataType=99), "contradicts itself"),
    "strings-in-a-file": (lambda m: _set(_tensor(m), dataType=2), "holds no strings"),
    "too-large-a-number": (_too_large, "a constant of int8 holds other numbers"),
    "too-few-numbers": (_too_few, r"a constant of shape \(64,\) holds 3 elements"),
    "no-such-picture": (_no_picture, "contradicts itself"),
    "no-classes": (_no_classes, "contradicts itself: KeyError"),
    "no-rank": (
        lambda m: _set(_last(m).outputs[0].type.tensorType, rank=-1),
        "without a fixed rank",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(package: Path, name: str) -> None:
    damage, said = MODELS[name]
    edited(package, damage)
    with pytest.raises(ModelError, match=said):
        mil.load(package)


def _other_shape(model):
    model.description.output[0].type.multiArrayType.shape[:] = [2, 63]
    _last(model).outputs[0].type.tensorType.dimensions[1].constant.size = 63


def _other_type(model):
    array = model.description.output[0].type.multiArrayType
    array.dataType = array.FLOAT16


def _undefined(model):
    _last(model).inputs["x"].arguments[0].name = "nobody"


def _no_output(model):
    model.description.output[0].name = "z"


RUNS = {
    "shape": (_other_shape, ToolError, r"linear 'y' .* has shape \(2, 64\), declared is \(2, 63\)"),
    "type": (_other_type, ToolError, "description says that 'y' is of float16, .* says float32"),
    "undefined": (_undefined, ModelError, "nothing defines 'nobody' before its use"),
    "output": (_no_output, ModelError, "does not give 'z'"),
    "input": (
        lambda m: _set(m.description.input[0], name="w"),
        DataError,
        "has no input 'x'; it has w",
    ),
    "parameter": (
        lambda m: _last(m).inputs["gain"].CopyFrom(_last(m).inputs["x"]),
        ToolError,
        "linear 'y' cannot be evaluated: TypeError",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_program_that_contradicts_itself(package: Path, name: str) -> None:
    damage, kind, said = RUNS[name]
    program = mil.load(edited(package, damage))
    with pytest.raises(kind, match=said):
        mil.evaluate(program, {"x": X})


def test_no_package_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing.mlpackage: it has no file 'Manifest.json'"):
        mil.load(tmp_path / "nothing.mlpackage")


def test_the_package_itself_may_be_a_link(package: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.mlpackage"
    link.symlink_to(package)
    assert mil.load(link).inputs == mil.load(package).inputs


def test_an_input_that_is_not_described(package: Path) -> None:
    program = mil.load(edited(package, lambda m: _set(m.description.input[0], name="w")))
    with pytest.raises(ModelError, match="its description lacks 'x'"):
        mil.evaluate(program, {"w": X})


@pytest.mark.parametrize(
    ("bits", "storage", "values"),
    [
        (1, "uint8", [1, 0, 1, 1, 0, 0, 1, 0, 1]),
        (2, "uint8", [0, 3, 2, 1, 3]),
        (3, "uint8", [7, 0, 5, 2, 6, 1, 3]),
        (4, "uint8", [15, 0, 9]),
        (4, "int8", [-8, 7, -1, 0, 3]),
        (6, "uint8", [63, 0, 33, 17, 2]),
    ],
)
def test_packed_elements(bits: int, storage: str, values: list[int]) -> None:
    """Least significant bit first, across the borders of bytes; the last byte is filled up."""
    number = sum((value % (1 << bits)) << (bits * i) for i, value in enumerate(values))
    data = np.frombuffer(number.to_bytes(-(-bits * len(values) // 8), "little"), np.uint8)
    found = unpacked(data, ElementType("packed", bits, storage), len(values))
    assert (found.tolist(), found.dtype) == (values, np.dtype(storage))
    with pytest.raises(ModelError, match="bytes, got"):
        unpacked(data, ElementType("packed", bits, storage), len(values) + 8)


@pytest.mark.parametrize(
    "kind", ["float16", "float32", "int8", "uint8", "int16", "uint16", "int32"]
)
def test_coremltools_writes_what_is_read(kind: str, tmp_path: Path) -> None:
    from coremltools.libmilstoragepython import _BlobStorageWriter

    values = np.arange(5, dtype=kind)
    written = values.view(np.uint16) if kind == "float16" else values
    names = {"float16": "fp16", "float32": "float"}
    writer = _BlobStorageWriter(str(tmp_path / "w.bin"))
    offset = getattr(writer, f"write_{names.get(kind, kind)}_data")(written)
    del writer
    element = ElementType(kind, values.itemsize * 8, kind)
    found = WeightsFile(tmp_path / "w.bin").read(offset, element, 5)
    np.testing.assert_array_equal(found, values)
    assert ct.__version__
