"""The Kotlin wrapper compiled by Kotlin's own compiler, and run on a JVM over real runtimes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgekit import bundle, exporting
from edgekit.formats.binding import to_source
from tests import kotlin
from tests.cli.conftest import Edgekit, edgekit
from tests.exporting.conftest import litert_bundle, onnx_bundle
from tests.kotlin import STAND_INS, STUBS
from tests.test_phone_apps import made

__all__ = ["edgekit", "litert_bundle", "onnx_bundle"]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(kotlin.why_not_here() is not None, reason=str(kotlin.why_not_here())),
]
TEST = STAND_INS / "dev" / "edgekit" / "test"


def test_the_parts_that_need_no_android(tmp_path: Path) -> None:
    declared = re.findall(r'"(\w+)" to ::', (TEST / "Parts.kt").read_text())
    classes = tmp_path / "classes"
    alone = [path for path in STUBS.rglob("*.kt") if kotlin.stands_alone(path)]
    kotlin.compile_([*alone, TEST / "Parts.kt"], classes)
    assert kotlin.run("dev.edgekit.test.PartsKt", classes).split() == declared
    assert len(declared) == 12


def test_exported_models_give_the_golden_outputs(
    litert_bundle: Path, onnx_bundle: Path, tmp_path: Path
) -> None:
    """Both in one program, beside each other: loaded from assets, asked through a worker."""
    assets, golden, sources = tmp_path / "assets", {}, [TEST / "Parts.kt", TEST / "Golden.kt"]
    (assets / "edgekit").mkdir(parents=True)
    for kind, path in (("litert", litert_bundle), ("onnx", onnx_bundle)):
        made = exporting.export(path, "android", tmp_path / kind, name=f"{kind}_digits").path
        sources += made.rglob("*.kt")
        for asset in (made / "src" / "main" / "assets" / "edgekit").iterdir():
            asset.rename(assets / "edgekit" / asset.name)
        with bundle.opened(path) as opened:
            inputs, golden[kind] = samples(opened)
    inputs.astype("<f4").tofile(tmp_path / "samples")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((assets / "edgekit" / "onnx_digits.onnx").read_bytes() + b"\0")
    classes = tmp_path / "classes"
    sources += [p for p in STUBS.rglob("*.kt") if kotlin.stands_alone(p)]
    sources += STAND_INS.rglob("LiteRt.kt")
    kotlin.compile_(sources, classes, java=STAND_INS.rglob("*.java"))
    paths = (str(assets), str(tmp_path / "samples"), str(damaged))
    given = rows(kotlin.run("dev.edgekit.test.GoldenKt", classes, *paths))
    for kind, expected in golden.items():
        np.testing.assert_array_equal(given[kind], expected)
    np.testing.assert_array_equal(given["again"], golden["litert"][-2:])
    sure = given["sure"] >= np.float32(0.9)
    assert sure.any()
    np.testing.assert_array_equal(
        given["cascade"], np.where(sure, golden["litert"], golden["onnx"])
    )


def samples(opened: bundle.Bundle) -> tuple[np.ndarray, np.ndarray]:
    """The golden vectors in the words of the source, which the app speaks."""
    artifact, golden = opened.manifest.artifact, opened.manifest.golden
    (inputs,), (outputs,) = golden.inputs, golden.outputs
    given = to_source(np.load(opened.root / inputs), artifact.inputs[0])
    return given, to_source(np.load(opened.root / outputs), artifact.outputs[0])[:, 0]


def rows(said: str) -> dict[str, np.ndarray]:
    told: dict[str, list[list[float]]] = {}
    for line in said.splitlines():
        kind, *numbers = line.split()
        told.setdefault(kind, []).append([float(number) for number in numbers])
    return {kind: np.array(numbers, np.float32) for kind, numbers in told.items()}


def test_the_example_compiles(edgekit: Edgekit, tmp_path: Path) -> None:
    app = made(edgekit, tmp_path, "android_app")
    java = STAND_INS.rglob("*.java")
    sources = [*app.rglob("*.kt"), *STAND_INS.rglob("LiteRt.kt")]
    kotlin.compile_(sources, tmp_path / "classes", java=java)
