"""The Swift sources, judged without a Mac: by a parser, and by what they say."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import tree_sitter_swift
from tree_sitter import Language, Node, Parser

from edgekit import resources
from edgekit.benchmarking import events
from edgekit.domain import Artifact, Format, Golden, TensorBinding
from edgekit.domain.coreml import COMPUTE_UNITS

FILES = {
    name: path
    for name, path in resources.runner_files(Format.COREML).items()
    if path.suffix == ".swift"
}
APPLICATION = {
    path.name: path
    for path in (resources.folder("runtime_stubs") / "ios" / "Sources" / "EdgekitModel").iterdir()
}
SHARED = ("Arrays", "Digest")
"""Of the runner, and of an application's wrapper, too."""

PARSER = Parser(Language(tree_sitter_swift.language()))


def faults(source: bytes) -> list[str]:
    """What a parser cannot make sense of, by line."""
    found, waiting = [], [PARSER.parse(source).root_node]
    while waiting:
        node: Node = waiting.pop()
        if node.is_error or node.is_missing:
            found.append(f"line {node.start_point[0] + 1}: {(node.text or b'')[:60]!r}")
        elif node.has_error:
            waiting.extend(node.children)
    return found


def source(name: str) -> str:
    return FILES[f"ios/Sources/EdgekitCoreML/{name}.swift"].read_text()


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_is_swift(name: str) -> None:
    assert faults(FILES[name].read_bytes()) == []


@pytest.mark.parametrize("name", sorted(APPLICATION))
def test_every_file_of_the_wrapper_is_swift(name: str) -> None:
    assert faults(APPLICATION[name].read_bytes()) == []


def test_what_is_shared_stands_alone() -> None:
    """It knows nothing of the runner, and the wrapper declares nothing again."""
    declared = re.compile(r"^(?:(?:public|final) )*(?:struct|class|enum|func) (\w+)", re.M)
    shared = {name for part in SHARED for name in declared.findall(source(part))}
    runner = {name for part in FILES.values() for name in declared.findall(part.read_text())}
    own = {name for path in APPLICATION.values() for name in declared.findall(path.read_text())}
    assert {"digest", "NoDigest", "Element", "numbers"} <= shared
    assert not shared & own
    for part in SHARED:
        assert not (runner - shared) & set(re.findall(r"\w+", source(part)))


def test_the_parser_sees_faults() -> None:
    broken = source("Parts").replace("func perform(", "func perform((", 1)
    assert faults(broken.encode())


def test_the_package_has_no_dependencies() -> None:
    manifest = FILES["ios/Package.swift"].read_text()
    assert "dependencies" not in manifest
    # What imports something else than the system's own frameworks would not build.
    imported = {
        name
        for path in (*FILES.values(), *APPLICATION.values())
        for name in re.findall(r"^import (\w+)", path.read_text(), re.M)
    }
    assert imported <= {
        *("CoreGraphics", "CoreML", "CoreVideo", "CryptoKit", "Foundation"),
        *("PackageDescription", "SwiftUI", "UIKit"),
    }


def test_it_says_what_edgekit_understands() -> None:
    """Every event of the parts is one that is decoded, with the fields that have no default."""
    known = {
        kind.__struct_config__.tag: kind
        for kind in (
            *(events.Device, events.Golden, events.Process, events.Memory, events.Placement),
            *(events.Phase, events.Error),
        )
    }
    said = source("Parts") + source("Events")
    tags = set(re.findall(r'"event": "(\w+)"', said))
    assert tags - {"described"} == known.keys()
    for kind in known.values():
        for field in msgspec.structs.fields(kind):
            if field.required:
                assert f'"{field.encode_name}":' in said, (kind, field.name)


def test_it_reads_what_manifests_have() -> None:
    """Each field of the structures it decodes is one of the manifest's, in Swift's spelling."""

    def swift(kind: type[msgspec.Struct]) -> set[str]:
        return {re.sub(r"_(\w)", lambda m: m[1].upper(), f) for f in kind.__struct_fields__}

    def read(name: str) -> set[str]:
        body = re.search(rf"struct {name}: Decodable {{(.*?)\n    }}", source("Job"), re.DOTALL)
        assert body is not None
        return set(re.findall(r"let (\w+):", body[1]))

    assert read("Artifact") <= swift(Artifact)
    assert read("Golden") == swift(Golden)
    assert read("Binding") <= swift(TensorBinding)


def test_the_compute_units_are_the_same() -> None:
    assert set(re.findall(r'"(\w+)": \.\1,', source("Job"))) == set(COMPUTE_UNITS)


def test_it_is_in_the_bundle_and_the_wheel() -> None:
    assert {Path(name).name for name in FILES} == {
        "Package.swift",
        *(f"{name}.swift" for name in ("Arrays", "Digest", "Events", "Job", "Model", "Parts")),
        *(f"{name}.swift" for name in ("Runner", "Samples", "System")),
    }
