"""What is said about a Core ML package, and its bytes: equal for equal input.

coremltools names the parts of a package by random identifiers and writes the date into the
model; both are replaced by what follows from the content alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    import onnx

MANIFEST = "Manifest.json"
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/"
_NAMESPACE = uuid.UUID("6f7c1e3e-5a0d-5d8e-9d55-0f1f5e8b9a11")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")
_MADE_UP = ("com.github.apple.coremltools.conversion_date",)


class Metadata(Struct, frozen=True, kw_only=True):
    """What Xcode shows of a model; empty where the source says nothing."""

    author: str = ""
    license: str = ""
    version: str = ""
    description: str = ""
    source_sha256: str = ""


def metadata(model: onnx.ModelProto, sha256: str) -> Metadata:
    """What the source's own metadata say."""
    said = {entry.key.lower(): entry.value for entry in model.metadata_props}
    version = said.get("version", "") or (str(model.model_version) if model.model_version else "")
    return Metadata(
        author=said.get("author", "") or model.producer_name,
        license=said.get("license", "") or said.get("licence", ""),
        version=version,
        description=said.get("description", "") or model.doc_string,
        source_sha256=sha256,
    )


def save(
    mlmodel: Any,
    about: Metadata,
    destination: Path,
    amend: Callable[[Any], None] = lambda _: None,
) -> None:
    """Write a coremltools model as a package whose bytes follow from its content.

    Args:
        mlmodel: the model.
        about: what is said of it.
        destination: the package's folder; replaced.
        amend: changes the model's protobuf before it is written.
    """
    _describe(mlmodel, about)
    shutil.rmtree(destination, ignore_errors=True)
    mlmodel.save(str(destination))
    # Saved again: protobuf orders the entries of a map as it likes, unless it is told not to.
    path = destination / MODEL
    spec = type(mlmodel.get_spec())()
    spec.ParseFromString(path.read_bytes())
    amend(spec)
    path.write_bytes(spec.SerializeToString(deterministic=True))
    _rename_parts(destination)
    for file in (destination / name for name in parts(destination)):
        file.chmod(0o644)


def _describe(mlmodel: Any, about: Metadata) -> None:
    mlmodel.author, mlmodel.license = about.author, about.license
    mlmodel.version, mlmodel.short_description = about.version, about.description
    mlmodel.user_defined_metadata["edgekit.source_sha256"] = about.source_sha256
    for key in _MADE_UP:
        mlmodel.user_defined_metadata.pop(key, None)


def _rename_parts(package: Path) -> None:
    """Identifiers that follow from the parts' paths, in the order of the paths."""
    path = package / MANIFEST
    manifest = json.loads(path.read_bytes())
    entries = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(_NAMESPACE, item["path"])) for old, item in entries.items()}
    manifest["itemInfoEntries"] = {names[old]: item for old, item in entries.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")


def parts(package: Path) -> tuple[str, ...]:
    """The files of a package, relative to it, sorted."""
    files = (path for path in package.rglob("*") if path.is_file())
    return tuple(sorted(path.relative_to(package).as_posix() for path in files))


def digest(package: Path) -> str:
    """The sha256 of a package: over each file's name and digest, in the order of the names."""
    total = hashlib.sha256()
    for name in parts(package):
        total.update(name.encode() + b"\0")
        total.update(hashlib.sha256((package / name).read_bytes()).digest())
    return total.hexdigest()


def weight_bytes(package: Path) -> int:
    """What the weights of a package take; the smallest lie in the model itself."""
    files = (package / name for name in parts(package) if name.startswith(WEIGHTS))
    return sum(path.stat().st_size for path in files)


def size_bytes(package: Path) -> int:
    """What the files of a package take."""
    return sum((package / name).stat().st_size for name in parts(package))


def border_names(values: Iterable[str]) -> dict[str, str]:
    """The names of a model's inputs and outputs in the package, by their own; all differ."""
    names: dict[str, str] = {}
    for value in values:
        made = _identifier(value)
        while made in names.values():
            made += "_"
        names[value] = made
    return names


def _identifier(name: str) -> str:
    """As Core ML wants names: letters, digits and underscores, no digit first."""
    made = _NOT_IN_NAMES.sub("_", name) or "_"
    return f"_{made}" if made[0].isdigit() else made
