"""``--ios``: what the Swift package holds, and what it refuses."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgekit import exporting
from edgekit.domain import Interface, Picture, TensorSpec
from edgekit.errors import BundleError, UsageError
from edgekit.exporting import ios
from edgekit.exporting.contract import Package
from edgekit.formats.coreml_package import digest
from tests.exporting.conftest import HOSTILE, LABELS, hostile
from tests.runtime_stubs.test_swift import APPLICATION, SHARED, faults

pytestmark = pytest.mark.xdist_group("exports")
Shown = Callable[..., Package]
FOLDER = "Sources/EdgekitDigits"
PACKAGE = f"{FOLDER}/Resources/digits.mlpackage"


@pytest.fixture(scope="module")
def exported(coreml_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exporting.export(coreml_bundle, "ios", tmp_path_factory.mktemp("ios") / "out").path


def test_a_package(exported: Path) -> None:
    files = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    own = {"LICENSE", "Package.swift", "README.md", "edgekit-check.sh", "edgekit-export.json"}
    shared = {f"{name}.swift" for name in SHARED}
    swift = {f"{FOLDER}/{name}" for name in {*APPLICATION, *shared, "DigitsModel.swift"}}
    parts = {name for name in files if name.startswith(PACKAGE)}
    assert files == own | swift | parts
    assert f"{PACKAGE}/Manifest.json" in parts
    for path in exported.rglob("*.swift"):
        assert faults(path.read_bytes()) == [], path.name
    for word in (b"kotlin", b"android", b"gradle", b"tflite", b"onnx", b"numpy"):
        assert not any(word in p.read_bytes().lower() for p in exported.rglob("*.swift")), word


def test_the_digest_is_that_of_the_package(exported: Path) -> None:
    text = (exported / FOLDER / "DigitsModel.swift").read_text()
    assert f'sha256 = "{digest(exported / PACKAGE)}"' in text


def test_the_oldest_system(exported: Path, coreml_bundle: Path, shown: Shown) -> None:
    text = (exported / "Package.swift").read_text()
    assert 'platforms: [.iOS("17.0"), .macOS("14.0")]' in text
    assert 'resources: [.copy("Resources/digits.mlpackage")]' in text
    newer = ios.files(shown(coreml_bundle, runtimes={"coreml": ">=18.1"}))["Package.swift"]
    assert b'.iOS("18.0"), .macOS("15.0")' in bytes(newer)
    mac = ios.files(shown(coreml_bundle, runtimes={"coreml": ">=13.2"}))["Package.swift"]
    assert b'.iOS("16.0"), .macOS("13.0")' in bytes(mac)


def test_the_class_knows_the_model(coreml_bundle: Path, shown: Shown) -> None:
    interface = Interface(labels=('a "\\(b)"\n', *LABELS[1:]))
    package = shown(coreml_bundle, interface=interface, delegate="cpuAndNeuralEngine")
    text = bytes(ios.files(package)[f"{FOLDER}/DigitsModel.swift"]).decode()
    assert faults(text.encode()) == []
    assert 'Tensor(name: "image", shape: [1, 1, 8, 8], element: .float32)' in text
    assert "computeUnits: MLComputeUnits = .cpuAndNeuralEngine" in text
    assert r'        "a \"\\(b)\"\u{a}",' in text.splitlines()
    assert "session.run([.floats(input.image)])" in text
    assert "EdgekitDigits.best(count, of: logits, labels: DigitsModel.labels)" in text


def test_a_picture_is_a_picture(coreml_bundle: Path, shown: Shown) -> None:
    package = shown(coreml_bundle)
    (bound,) = package.artifact.inputs
    seen = msgspec.structs.replace(
        bound,
        artifact=TensorSpec("image", (8, 8), "uint8"),
        permutation=(0, 2, 3, 1),
        image=Picture(colours="gray"),
    )
    artifact = msgspec.structs.replace(package.artifact, inputs=(seen,))
    text = bytes(ios.files(shown(coreml_bundle, artifact=artifact))[f"{FOLDER}/DigitsModel.swift"])
    assert faults(text) == []
    assert b"public var image: Picture" in text
    assert b".picture(input.image)" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"artifact": TensorSpec("image", (1, 1, 8, 8), "float16")}, "'image' is float16"),
        (
            {
                "artifact": TensorSpec("image", (1, 8, 8, 1), "float32"),
                "permutation": (0, 2, 3, 1),
            },
            "axes in the order",
        ),
    ],
)
def test_what_the_wrapper_does_not_have(
    coreml_bundle: Path, shown: Shown, change: dict[str, object], says: str
) -> None:
    package = shown(coreml_bundle)
    odd = msgspec.structs.replace(package.artifact.inputs[0], **change)
    artifact = msgspec.structs.replace(package.artifact, inputs=(odd,))
    with pytest.raises(UsageError, match=says):
        ios.files(shown(coreml_bundle, artifact=artifact))


@pytest.mark.parametrize("words", HOSTILE)
def test_no_word_of_a_manifest_becomes_code(coreml_bundle: Path, shown: Shown, words: str) -> None:
    """But for the words in comments, the source is the same."""
    plain = code(bytes(ios.files(shown(coreml_bundle))[f"{FOLDER}/DigitsModel.swift"]))
    package = shown(coreml_bundle, recipe=hostile(words))
    artifact = msgspec.structs.replace(package.artifact, sha256=words)
    files = ios.files(shown(coreml_bundle, recipe=hostile(words), artifact=artifact))
    assert code(bytes(files[f"{FOLDER}/DigitsModel.swift"])) == plain
    (told,) = set(lines(files["README.md"])) - set(
        lines(ios.files(shown(coreml_bundle))["README.md"])
    )
    assert told.startswith("Made by `edgekit export --ios`: ")
    for units in (words, "all) async throws { evil() }; func f(x: Int = 1"):
        with pytest.raises(BundleError, match="Core ML on cpuOnly, cpuAndGPU"):
            ios.files(shown(coreml_bundle, delegate=units))
    seen = msgspec.structs.replace(
        package.artifact.inputs[0],
        artifact=TensorSpec("image", (8, 8), f"uint8), {words}"),
        image=Picture(colours="gray"),
    )
    artifact = msgspec.structs.replace(package.artifact, inputs=(seen,))
    with pytest.raises(UsageError, match="'image' is uint8"):
        ios.files(shown(coreml_bundle, artifact=artifact))


def code(swift: bytes) -> list[str]:
    return [line for line in swift.decode().splitlines() if not line.lstrip().startswith("//")]


def test_systems_without_core_ml(coreml_bundle: Path, shown: Shown) -> None:
    for runtimes in ({"coreml": "17"}, {"coreml": "x"}):
        with pytest.raises(BundleError, match="the bundle's runtimes have no versions"):
            ios.files(shown(coreml_bundle, runtimes=runtimes))
    with pytest.raises(BundleError, match="which have no such Core ML"):
        ios.files(shown(coreml_bundle, runtimes={"coreml": ">=9"}))


def test_other_formats_are_refused(litert_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--ios takes coreml"):
        exporting.export(litert_bundle, "ios", tmp_path / "out")


SAYS = """#!/bin/sh
echo "$@"
echo "FAILED: digits for here: size 2 MB, 100.0% over the budget of 1 MB"
echo "inconclusive: digits for here: latency was not measured; the budget is 1 ms"
exit 1
"""


def test_the_script_tells_xcode(exported: Path, tmp_path: Path) -> None:
    """Its own part alone: the check is shown by a program that says what edgekit says."""
    tool = tmp_path / "bin" / "edgekit"
    tool.parent.mkdir()
    tool.write_text(SAYS)
    tool.chmod(stat.S_IRWXU)
    script = ["sh", str(exported / "edgekit-check.sh")]

    def run(**settings: str) -> subprocess.CompletedProcess[str]:
        env = {"HOME": str(tmp_path), "PATH": f"{tool.parent}:{os.environ['PATH']}", **settings}
        return subprocess.run(script, env=env, capture_output=True, text=True, check=False)

    red = run(SRCROOT="/app")
    assert red.returncode == 1
    assert red.stdout.splitlines() == [
        "check --project /app/edgekit.toml",
        "error: digits for here: size 2 MB, 100.0% over the budget of 1 MB",
        "warning: digits for here: latency was not measured; the budget is 1 ms",
    ]
    assert "--project other.toml" in run(SRCROOT="/app", EDGEKIT_PROJECT="other.toml").stdout
    out = run(EDGEKIT_CHECK="NO")
    assert (out.returncode, out.stdout[:8]) == (0, "warning:")
    missing = run(PATH="/usr/bin:/bin")
    assert missing.returncode == 1
    assert re.match("error: edgekit is not installed", missing.stdout)


def lines(content: bytes | Path) -> list[str]:
    return bytes(content).decode().splitlines()
