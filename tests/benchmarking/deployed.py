"""A tiny ONNX network, bundled for real and lying on this machine as if it had been pushed."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit import bundle, resources
from edgekit.domain import (
    SCHEMA_VERSION,
    Artifact,
    Deployment,
    DeviceFacts,
    DeviceRuntimeFound,
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

INPUT, OUTPUT = "golden/input_0.npy", "golden/output_0.npy"
TOLERANCE = 1e-4
RUNTIME = DeviceRuntimeFound(
    name="onnxruntime", module="onnxruntime", version=version("onnxruntime")
)


@dataclass(frozen=True)
class Deployed:
    """A bundle, where it lies, and the interpreter to run it with."""

    bundle: bundle.Bundle
    deployment: Deployment
    facts: DeviceFacts


def deploy(folder: Path, *, golden_error: float = 0.0, cores: int = 2) -> Deployed:
    """Bundle the network; its golden outputs are off by ``golden_error``."""
    parts = folder / "parts"
    (parts / "golden").mkdir(parents=True)
    weights = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    inputs = np.random.default_rng(2).normal(size=(5, 1, 4)).astype(np.float32)
    onnx.save(network(weights), parts / "model.onnx")
    np.save(parts / INPUT, inputs)
    np.save(parts / OUTPUT, np.maximum(inputs @ weights, 0) + np.float32(golden_error))
    shutil.copyfile(resources.runner(), parts / "edgekit_runner.py")
    made = folder / "bundle"
    bundle.write(parts, manifest(parts / "model.onnx"), made)
    with bundle.opened(made) as opened:
        return Deployed(opened, deployment(opened), device(cores))


def network(weights: np.typing.NDArray[np.float32]) -> onnx.ModelProto:
    """``y = relu(x @ weights)``."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Relu", ["z"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def manifest(model: Path) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model_name="tiny",
        model_sha256="0" * 64,
        device="this-machine",
        recipe=Recipe(format=Format.ONNXRUNTIME, runtime="onnxruntime", threads=4),
        runtimes={"onnxruntime": ">=1.18"},
        delegate=None,
        artifact=Artifact(
            path=model.name,
            format=Format.ONNXRUNTIME,
            sha256=bundle.digest(model),
            size_bytes=model.stat().st_size,
            inputs=(_binding("x", 4),),
            outputs=(_binding("y", 3),),
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
        golden=Golden(sample_count=5, inputs=(INPUT,), outputs=(OUTPUT,), tolerances=(TOLERANCE,)),
        plan=Plan(
            model_sha256="0" * 64, device="this-machine", goal=Goal(), candidates=(), rejected=()
        ),
        attempts=(),
        tool_versions={},
        digests={},
        sizes_bytes={},
    )


def _binding(name: str, length: int) -> TensorBinding:
    spec = TensorSpec(name, (1, length), "float32")
    return TensorBinding(source=spec, artifact=spec, permutation=(0, 1))


def deployment(opened: bundle.Bundle) -> Deployment:
    return Deployment(
        target="local",
        bundle_sha256=opened.sha256,
        path=str(opened.root),
        pushed_bytes=123,
        skipped_bytes=0,
        elapsed_s=0.1,
    )


def device(cores: int) -> DeviceFacts:
    return DeviceFacts(
        python=sys.executable,
        python_version="3.12.0",
        numpy_version=np.__version__,
        system="Linux",
        machine="x86_64",
        libc="glibc 2.36",
        cpu_model="test",
        cores=cores,
        memory_total_bytes=None,
        runtimes=(RUNTIME,),
    )


def replaced(deployed: Deployed, **changes: object) -> Deployed:
    """The same with other facts."""
    facts = msgspec.structs.replace(deployed.facts, **changes)
    return Deployed(deployed.bundle, deployed.deployment, facts)
