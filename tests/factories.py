"""Small valid things for tests: a bundle that was never built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from edgekit import bundle
from edgekit.domain import (
    SCHEMA_VERSION,
    Artifact,
    Format,
    Goal,
    Golden,
    Manifest,
    Plan,
    Recipe,
    TensorBinding,
    TensorSpec,
    ValidationReport,
)

ARTIFACT = "model.onnx"
_INPUT, _OUTPUT = "golden/input_0.npy", "golden/output_0.npy"


def make_bundle(
    destination: Path, artifact: bytes = b"weights" * 1000, extra: Mapping[str, bytes] | None = None
) -> bundle.Bundle:
    """Write a bundle folder and open it.

    Args:
        destination: the bundle; beside it ``<name>.parts`` is left behind.
        artifact: the content of its artifact, which is no network.
        extra: further files, by name.
    """
    parts = destination.with_name(destination.name + ".parts")
    files = {ARTIFACT: artifact, _INPUT: b"in" * 100, _OUTPUT: b"out" * 100, **(extra or {})}
    for name, content in files.items():
        (parts / name).parent.mkdir(parents=True, exist_ok=True)
        (parts / name).write_bytes(content)
    bundle.write(parts, make_manifest(artifact, tuple(extra or ())), destination)
    with bundle.opened(destination) as opened:
        return opened


def make_manifest(artifact: bytes, extra_files: tuple[str, ...] = ()) -> Manifest:
    """A manifest without its listing, which :func:`edgekit.bundle.write` fills in."""
    recipe = Recipe(format=Format.ONNXRUNTIME, runtime="onnxruntime")
    digest = hashlib.sha256(artifact).hexdigest()
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model_name="tiny",
        model_sha256="0" * 64,
        device="test-board",
        recipe=recipe,
        runtimes={"onnxruntime": ">=1.17"},
        delegate=None,
        artifact=Artifact(
            path=ARTIFACT,
            format=Format.ONNXRUNTIME,
            sha256=digest,
            size_bytes=len(artifact),
            inputs=(_binding("x"),),
            outputs=(_binding("y"),),
            extra_files=extra_files,
        ),
        validation=ValidationReport(
            sample_count=1,
            data="random",
            metric="cosine",
            baseline=1.0,
            value=1.0,
            drop=0.0,
            max_drop=0.005,
            per_output=(),
            passed=True,
        ),
        golden=Golden(sample_count=1, inputs=(_INPUT,), outputs=(_OUTPUT,), tolerances=(1e-3,)),
        plan=Plan(
            model_sha256="0" * 64, device="test-board", goal=Goal(), candidates=(), rejected=()
        ),
        attempts=(),
        tool_versions={},
        digests={},
        sizes_bytes={},
    )


def _binding(name: str) -> TensorBinding:
    spec = TensorSpec(name=name, dtype="float32", shape=(1, 4))
    return TensorBinding(source=spec, artifact=spec, permutation=(0, 1))
