"""``--ort-package``: ONNX Runtime's own model package, one directory for several accelerators.

A model built for several execution providers is one component with a variant for each; ONNX
Runtime picks the one for the provider that the application asks for. Layout and schema 1.0 are
those that ``model_package/README.md`` and ``onnxruntime/core/session/model_package/README.md`` of
ONNX Runtime describe; it reads them from 1.28 on, and the tests open one with what they have.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edgekit.bundle import Bundle
from edgekit.domain import Format, TensorSpec
from edgekit.errors import BundleError, UsageError
from edgekit.exporting.contract import ExportSpec, Files, Package
from edgekit.exporting.tensors import Tensor

_SCHEMA = "1.0"
_CPU = "CPUExecutionProvider"
_PROVIDER = re.compile(r"[A-Za-z]+ExecutionProvider")
_MODEL = "model.onnx"
_KEY = "edgekit"

Table = dict[str, Any]


def files(package: Package) -> Files:
    """The manifest, the component, and a folder for each variant.

    Raises:
        BundleError: what is no name of an execution provider: folders are named after it.
        UsageError: bundles of different models, of different inputs or outputs, or two for one
            execution provider.
    """
    bundles = _by_provider((package.bundle, *package.others))
    variants = {_variant(provider): bundle for provider, bundle in bundles.items()}
    name = package.name
    return {
        "manifest.json": _json(_manifest(package)),
        f"{name}/component.json": _json(_component(package, bundles)),
        **{f"{name}/{variant}/{_MODEL}": bundle.artifact for variant, bundle in variants.items()},
    }


def _by_provider(bundles: tuple[Bundle, ...]) -> dict[str, Bundle]:
    """The bundles by the execution provider that each was built for, in their order."""
    first = bundles[0].manifest
    found: dict[str, Bundle] = {}
    for bundle in bundles:
        manifest = bundle.manifest
        provider = manifest.delegate or _CPU
        if not _PROVIDER.fullmatch(provider):
            raise BundleError(f"the bundle is for {provider!r:.80}, expected an execution provider")
        if manifest.model_sha256 != first.model_sha256:
            raise UsageError(
                f"the bundles are of two models, {first.model_name} and {manifest.model_name}",
                "a package holds one model, built for several execution providers",
            )
        if _tensors(bundle) != _tensors(bundles[0]):
            raise UsageError(
                f"the model for {provider} takes or gives other tensors than the first one",
                "an application could not use one in the place of the other",
            )
        if provider in found:
            raise UsageError(
                f"two bundles are for {provider}", "give one for each execution provider"
            )
        found[provider] = bundle
    return found


def _tensors(bundle: Bundle) -> list[TensorSpec]:
    artifact = bundle.manifest.artifact
    return [binding.artifact for binding in (*artifact.inputs, *artifact.outputs)]


def _variant(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider").lower()


def _manifest(package: Package) -> Table:
    return {
        "schema_version": _SCHEMA,
        "package_name": package.name,
        "package_version": package.bundle.sha256[:12],
        "layout": "portable",
        "components": {package.name: package.name},
    }


def _component(package: Package, bundles: dict[str, Bundle]) -> Table:
    signature = package.signature
    told = {
        "inputs": [_tensor(tensor) for tensor in signature.inputs],
        "outputs": [_tensor(tensor) for tensor in signature.outputs],
        "labels": signature.labels,
    }
    return {
        "component_name": package.name,
        "variants": {_variant(p): _body(p, bundle) for p, bundle in bundles.items()},
        "additional_metadata": {_KEY: told},
    }


def _body(provider: str, bundle: Bundle) -> Table:
    manifest = bundle.manifest
    told = {
        "bundle": bundle.sha256,
        "sha256": manifest.digests[manifest.artifact.path],
        "device": manifest.device,
        "recipe": manifest.recipe.label,
    }
    return {
        "variant_directory": _variant(provider),
        "ep": provider,
        "executor_info": {"ort": {"model_file": _MODEL}},
        "additional_metadata": {_KEY: told},
    }


def _tensor(tensor: Tensor) -> Table:
    """What an application has to know beyond what the model file says."""
    return {
        "name": tensor.artifact.name,
        "source": tensor.source,
        "permutation": tensor.permutation,
        "quantization": tensor.quantization,
        "picture": tensor.picture,
    }


def _json(table: Table) -> bytes:
    return msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n"


SPEC = ExportSpec(platform="ort-package", formats=(Format.ONNXRUNTIME,), files=files, several=True)
