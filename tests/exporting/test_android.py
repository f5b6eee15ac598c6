"""``--android``: what the module holds, and what it refuses; `make lab` compiles and runs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import msgspec
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit import exporting
from edgekit.domain import AffineQuantization, Interface, Picture
from edgekit.errors import BundleError, UsageError
from edgekit.exporting import android
from edgekit.exporting.contract import Package
from tests.exporting.conftest import HOSTILE, LABELS, hostile
from tests.exporting.test_elf import header
from tests.kotlin import STUBS, faults

pytestmark = pytest.mark.xdist_group("exports")
Shown = Callable[..., Package]
SOURCES = "src/main/kotlin/dev/edgekit/digits"
MODULE = {"LICENSE", "README.md", "build.gradle.kts"}
SHARED = {"Artifact", "Cascade", "Digest", "Model", "Picture", "Scores", "Session", "Tensor"}


def exported(bundle: Path, folder: Path, **options: str) -> dict[str, bytes]:
    made = exporting.export(bundle, "android", folder, **options)
    return {name: (made.path / name).read_bytes() for name in made.record.files}


@pytest.mark.parametrize(
    ("bundle", "session", "suffix", "maven"),
    [
        ("litert_bundle", "LiteRtSession", "tflite", "com.google.ai.edge.litert:litert:2.3.0"),
        (
            *("onnx_bundle", "OnnxSession", "onnx"),
            "com.microsoft.onnxruntime:onnxruntime-android:1.27.0",
        ),
    ],
)
def test_a_module(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    bundle: str,
    session: str,
    suffix: str,
    maven: str,
) -> None:
    files = exported(request.getfixturevalue(bundle), tmp_path / "digits")
    classes = {f"{SOURCES}/{name}.kt" for name in {*SHARED, session, "Worker", "DigitsModel"}}
    assert set(files) == {*MODULE, *classes, f"src/main/assets/edgekit/digits.{suffix}"}
    build = files["build.gradle.kts"].decode()
    assert re.findall(r'implementation\("(.+)"\)', build) == [maven]
    assert 'namespace = "dev.edgekit.digits"' in build
    for name, content in files.items():
        if name.endswith((".kt", ".kts")):
            assert faults(content) == [], name
        if name.endswith(".kt"):
            assert content.count(b"\npackage dev.edgekit.digits\n") == 1
            assert b"dev.edgekit." not in content.replace(b"package dev.edgekit.digits", b"")


def test_nothing_of_another_platform(litert_bundle: Path, tmp_path: Path) -> None:
    files = exported(litert_bundle, tmp_path / "digits")
    del files["src/main/assets/edgekit/digits.tflite"]  # which names its converter
    everything = b"".join([*files.values(), *(name.encode() for name in files)]).lower()
    for word in (b"coreml", b"mlpackage", b"swift", b"xcode", b"numpy", b"onnx", b"golden"):
        assert word not in everything, word


def test_the_sources_are_those_of_the_stubs(litert_bundle: Path, tmp_path: Path) -> None:
    files = exported(litert_bundle, tmp_path / "digits", name="reader")
    written = files["src/main/kotlin/dev/edgekit/reader/Tensor.kt"]
    original = (STUBS / "dev" / "edgekit" / "Tensor.kt").read_bytes()
    assert written == original.replace(b"package dev.edgekit\n", b"package dev.edgekit.reader\n")


def test_the_class_knows_the_model(litert_bundle: Path, shown: Shown) -> None:
    picture = Picture(colours="gray", scale=(1 / 16,), bias=(0.5,))
    interface = Interface(pictures={"image": picture}, labels=('a "$b"', *LABELS[1:]))
    package = shown(litert_bundle, interface=interface)
    text = bytes(android.files(package)[f"{SOURCES}/DigitsModel.kt"]).decode()
    assert faults(text.encode()) == []
    assert f'const val SHA256 = "{package.artifact.sha256}"' in text
    (bound,) = package.artifact.inputs
    assert bound.quantization is not None
    assert (
        'Tensor("image", intArrayOf(1, 1, 8, 8), Type.FLOAT32, Type.INT8, intArrayOf(0, 2, 3, 1), '
        f"Quantization({bound.quantization.scale:.9g}f, {bound.quantization.zero_point}))"
    ) in text
    assert re.findall(r'^            (".+"),$', text, re.M) == [
        r'"a \"\$b\""',
        *(f'"{label}"' for label in LABELS[1:]),
    ]
    assert (
        "8, 8, Colours.GRAY,\n            floatArrayOf(0.0625f), floatArrayOf(0.5f), false," in text
    )
    assert "fun imageOfPixels(pixels: IntArray): FloatArray" in text
    assert "fun best(count: Int = 5): List<Scored> = best(logits, LABELS, count)" in text


@pytest.mark.parametrize("words", HOSTILE)
def test_no_word_of_a_manifest_becomes_code(litert_bundle: Path, shown: Shown, words: str) -> None:
    """But for one comment, the source is the same."""
    name = f"{SOURCES}/DigitsModel.kt"
    plain = bytes(android.files(shown(litert_bundle))[name]).decode()
    package = shown(litert_bundle, recipe=hostile(words))
    artifact = msgspec.structs.replace(package.artifact, sha256=words)
    files = android.files(shown(litert_bundle, recipe=hostile(words), artifact=artifact))
    made = bytes(files[name]).decode()
    assert faults(made.encode()) == []
    (said,) = set(made.splitlines()) - set(plain.splitlines())
    assert re.fullmatch(r"/\*\* The model digits: ((?!\*/|/\*).)* \*/", said)
    assert len(made.split("\n")) == len(plain.split("\n"))
    (told,) = set(lines(files["README.md"])) - set(
        lines(android.files(shown(litert_bundle))["README.md"])
    )
    assert told.startswith("Made by `edgekit export --android`: ")


def test_versions_that_are_none(litert_bundle: Path, shown: Shown) -> None:
    with pytest.raises(BundleError, match="the bundle's runtimes have no versions"):
        android.files(shown(litert_bundle, runtimes={"ai_edge_litert": "the newest"}))


def test_a_large_model_is_an_asset_pack(
    litert_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = exporting.export(litert_bundle, "android", tmp_path / "small").record
    assert not any("model/" in name for name in size.files)
    monkeypatch.setattr(android, "PACK_BYTES", 14_000)
    files = exported(litert_bundle, tmp_path / "large")
    assert "model/src/main/assets/edgekit/digits.tflite" in files
    assert "src/main/assets/edgekit/digits.tflite" not in files
    pack = files["model/build.gradle.kts"].decode()
    assert faults(pack.encode()) == []
    assert 'id("com.android.asset-pack")' in pack
    assert 'packName.set("digits_model")' in pack
    assert 'assetPacks += ":digits_model"' in files["README.md"].decode()


def test_native_libraries_are_looked_into(litert_bundle: Path, shown: Shown) -> None:
    package = shown(litert_bundle)
    artifact = msgspec.structs.replace(package.artifact, extra_files=("libops.so", "notes.txt"))
    package = shown(litert_bundle, artifact=artifact)
    library = package.bundle.root / "libops.so"
    library.write_bytes(header(2, 183, 16384))
    assert "src/main/jniLibs/arm64-v8a/libops.so" in android.files(package)
    library.write_bytes(header(2, 183, 4096))
    with pytest.raises(UsageError, match=r"libops.so \(arm64-v8a\) has a segment aligned to 4096"):
        android.files(package)


@pytest.mark.parametrize(
    ("delegate", "maven", "says"),
    [
        ("gpu", ("litert", "litert-gpu"), "OUTPUTS, Accelerator.GPU, threads)"),
        (None, ("litert",), "OUTPUTS, Accelerator.CPU, threads)"),
    ],
)
def test_processors(
    litert_bundle: Path, shown: Shown, delegate: str | None, maven: tuple[str, ...], says: str
) -> None:
    files = android.files(shown(litert_bundle, delegate=delegate))
    build = bytes(files["build.gradle.kts"]).decode()
    assert tuple(re.findall(r'litert:(litert[a-z-]*):2.3.0"', build)) == maven
    assert says in bytes(files[f"{SOURCES}/DigitsModel.kt"]).decode()


def test_what_the_phone_does_not_reach(litert_bundle: Path, shown: Shown) -> None:
    with pytest.raises(UsageError, match="runs on edgetpu by litert, which --android does not"):
        android.files(shown(litert_bundle, delegate="edgetpu"))
    with pytest.raises(UsageError, match="is for tflite_runtime >=2, --android brings"):
        android.files(shown(litert_bundle, runtimes={"tflite_runtime": ">=2"}))
    with pytest.raises(UsageError, match="is for ai_edge_litert <2, --android brings"):
        android.files(shown(litert_bundle, runtimes={"ai_edge_litert": "<2"}))


def test_what_remembers_is_refused(litert_bundle: Path, shown: Shown) -> None:
    """LiteRT's classes for Kotlin have nothing that resets a variable tensor."""
    package = shown(litert_bundle)
    model = schema.ModelT.InitFromPackedBuf(package.model.read_bytes())
    (graph,) = model.subgraphs
    graph.tensors[graph.operators[0].outputs[0]].isVariable = True
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    package.model.write_bytes(builder.Output())
    with pytest.raises(UsageError, match="the model remembers what it was given"):
        android.files(package)


def test_types_that_the_wrapper_does_not_have(litert_bundle: Path, shown: Shown) -> None:
    package = shown(litert_bundle)
    (bound,) = package.artifact.inputs
    odd = msgspec.structs.replace(
        bound,
        artifact=msgspec.structs.replace(bound.artifact, dtype="int16"),
        quantization=AffineQuantization(1.0, 0),
    )
    artifact = msgspec.structs.replace(package.artifact, inputs=(odd,))
    with pytest.raises(UsageError, match="'image' is int16, --android has float32"):
        android.files(shown(litert_bundle, artifact=artifact))


def lines(content: bytes | Path) -> list[str]:
    return bytes(content).decode().splitlines()
