"""``--android``: a Gradle module with the model, typed Kotlin to call it, and the gate.

The wrapper's sources are those of ``runtime_stubs/android``, in a package of the model's own, so
that an app can have several models. A large model becomes an asset pack beside the module.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from string import Template

from msgspec import Struct

from edgekit import resources
from edgekit.domain import Format
from edgekit.errors import UsageError
from edgekit.exporting import elf, kotlin, tflite
from edgekit.exporting.contract import ExportSpec, Files, Package

PACK_BYTES = 100_000_000
"""From this size on a model is an asset pack: Google Play delivers base modules of 200 MB at most
(Play Console help, "Maximum size limits"), and the app wants room, too."""

_VARIABLE = "VAR_HANDLE"
"""The operator that a variable outside the graph is reached by."""


class _Runtime(Struct, frozen=True, kw_only=True):
    """A runtime on Android.

    Attributes:
        module: what manifests call it.
        maven: the group of its artifacts.
        version: of all of them.
        min_sdk: the oldest Android that it takes.
    """

    module: str
    maven: str
    version: str
    min_sdk: int


_RUNTIMES = {
    # Both numbers: the AARs of 2.3.0 on Google's Maven repository (October 2026).
    Format.LITERT: _Runtime(
        module="ai_edge_litert", maven="com.google.ai.edge.litert", version="2.3.0", min_sdk=24
    ),
    # The newest onnxruntime-android that javadoc.io lists (June 2026); the oldest Android by
    # default_full_aar_build_settings.json of its repository.
    Format.ONNXRUNTIME: _Runtime(
        module="onnxruntime", maven="com.microsoft.onnxruntime", version="1.27.0", min_sdk=24
    ),
}


class _Reach(Struct, frozen=True):
    """How a processor is reached: the session in Kotlin, and the Maven artifacts it takes."""

    session: str
    artifacts: tuple[str, ...]


_LITERT = "LiteRtSession(artifact, INPUTS, OUTPUTS, {}, threads)"
_ONNX = "OnnxSession(artifact, INPUTS, OUTPUTS, threads)"
_REACHES = {
    (Format.LITERT, None): _Reach(_LITERT.format("Accelerator.CPU"), ("litert",)),
    # From 2.3 on the GPU accelerator is an artifact of its own.
    (Format.LITERT, "gpu"): _Reach(_LITERT.format("Accelerator.GPU"), ("litert", "litert-gpu")),
    (Format.ONNXRUNTIME, None): _Reach(_ONNX, ("onnxruntime-android",)),
    (Format.ONNXRUNTIME, "NnapiExecutionProvider"): _Reach(
        f"{_ONNX} {{ it.addNnapi() }}", ("onnxruntime-android",)
    ),
    (Format.ONNXRUNTIME, "QNNExecutionProvider"): _Reach(
        f'{_ONNX} {{ it.addQnn(mapOf("backend_path" to "libQnnHtp.so")) }}',
        ("onnxruntime-android-qnn",),
    ),
}
"""By format and the manifest's delegate."""

_BUILD = Template("""\
$generated
plugins {
    // Version 9 or newer of the Android Gradle plugin: it compiles Kotlin itself.
    id("com.android.library")
}

android {
    namespace = "$package"
    // What version 9.0 of the plugin knows.
    compileSdk = 36

    defaultConfig {
        minSdk = $min_sdk
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
$dependencies}

// The gate: a model that does not keep its budgets is built into no app. In gradle.properties
//   edgekit.project  names the edgekit.toml (the one of the root project),
//   edgekit.command  the program (edgekit, as the PATH has it),
//   edgekit.check    is false where there is no edgekit.
val edgekitCheck = tasks.register<Exec>("edgekitCheck") {
    group = "verification"
    description = "Holds the models against the budgets of edgekit.toml."
    val gate = providers.gradleProperty("edgekit.check").getOrElse("true").toBoolean()
    onlyIf("edgekit.check is not false") { gate }
    val project = providers.gradleProperty("edgekit.project").getOrElse("edgekit.toml")
    workingDir = rootDir
    commandLine(
        providers.gradleProperty("edgekit.command").getOrElse("edgekit"),
        "check", "--project", rootDir.resolve(project).path,
    )
}

tasks.named("preBuild") {
    dependsOn(edgekitCheck)
}
""")

_PACK = Template("""\
$generated
plugins {
    id("com.android.asset-pack")
}

assetPack {
    packName.set("${name}_model")
    dynamicDelivery {
        // There when the app starts, among its assets.
        deliveryType.set("install-time")
    }
}
""")

_README = Template("""\
# $name for Android

Made by `edgekit export --android`: $recipe, sha256 $sha256.

In `settings.gradle.kts` of the app:

```kotlin
include(":$name")
project(":$name").projectDir = file("path/to/this/folder")
$settings```

In `build.gradle.kts` of its module:

```kotlin
${pack}dependencies {
    implementation(project(":$name"))
}
```

```kotlin
import $package.$model

$model.load(context).use { model ->
    val output = model.predict($model.Input($arguments))
}
```

Calls block: have a `Worker` make them, which has a thread of its own and a queue with an end. A
model that is asked the same again can keep its answers (`load(context, cached = 64)`), and a
`Cascade` asks a large model only where a small one is not sure.

Building the app runs `edgekit check` first; `build.gradle.kts` here says how that is set.
""")


def files(package: Package) -> Files:
    """The module, and for a large model an asset pack.

    Raises:
        UsageError: a model that the wrapper cannot run as it was proven.
    """
    manifest, name = package.bundle.manifest, package.name
    runtime, reach = _runtime(package), _reach(package)
    _check_state(package)
    suffix = PurePosixPath(manifest.artifact.path).suffix
    asset, is_pack = f"edgekit/{name}{suffix}", manifest.artifact.size_bytes >= PACK_BYTES
    own = f"dev.edgekit.{name}"
    sources = f"src/main/kotlin/dev/edgekit/{name}"
    made: dict[str, bytes] = {
        "build.gradle.kts": _build(own, runtime, reach),
        "README.md": _readme(package, own, is_pack=is_pack),
        f"{sources}/{kotlin.class_name(name)}.kt": kotlin.wrapper(
            package, own, asset, reach.session
        ),
    }
    if is_pack:
        made["model/build.gradle.kts"] = _PACK.substitute(
            generated=kotlin.GENERATED, name=name
        ).encode()
    folder = "model/src/main/assets" if is_pack else "src/main/assets"
    stubs = resources.folder("runtime_stubs")
    return {
        **made,
        **_library(sources, own, reach),
        **_native(package),
        f"{folder}/{asset}": package.model,
        "LICENSE": stubs / "LICENSE",
    }


def _runtime(package: Package) -> _Runtime:
    manifest = package.bundle.manifest
    runtime = _RUNTIMES[manifest.artifact.format]
    wanted = package.runtimes.get(runtime.module)
    if wanted is None or runtime.version not in wanted:
        told = ", ".join(f"{name} {versions}" for name, versions in manifest.runtimes.items())
        raise UsageError(
            f"the bundle is for {told}, --android brings {runtime.module} {runtime.version}",
            "build it for a device with that version, for example --device pixel-8",
        )
    return runtime


def _reach(package: Package) -> _Reach:
    manifest = package.bundle.manifest
    format_, delegate = manifest.artifact.format, manifest.delegate
    if (format_, delegate) not in _REACHES:
        raise UsageError(
            f"the bundle runs on {delegate} by {format_.value}, which --android does not reach",
            "build it for the CPU, or for an accelerator that an Android phone has",
        )
    return _REACHES[format_, delegate]


def _check_state(package: Package) -> None:
    """What remembers from one run to the next has to be reset, which LiteRT's Kotlin does not."""
    if package.artifact.format is not Format.LITERT:
        return
    graphs = tflite.graphs(package.model)
    variables = any(tensor.variable for graph in graphs for tensor in graph.tensors)
    if variables or any(op.name == _VARIABLE for graph in graphs for op in graph.operators):
        raise UsageError(
            "the model remembers what it was given, as an LSTM does, and LiteRT's classes for "
            "Kotlin cannot make it forget",
            "build the bundle with --format onnxruntime",
        )


def _build(own: str, runtime: _Runtime, reach: _Reach) -> bytes:
    dependencies = "".join(
        f'    implementation("{runtime.maven}:{artifact}:{runtime.version}")\n'
        for artifact in reach.artifacts
    )
    return _BUILD.substitute(
        generated=kotlin.GENERATED, package=own, min_sdk=runtime.min_sdk, dependencies=dependencies
    ).encode()


def _readme(package: Package, own: str, *, is_pack: bool) -> bytes:
    name = package.name
    settings = f'include(":{name}_model")\n' if is_pack else ""
    if is_pack:
        settings += f'project(":{name}_model").projectDir = file("path/to/this/folder/model")\n'
    return _README.substitute(
        name=name,
        recipe=package.recipe,
        sha256=package.sha256,
        settings=settings,
        pack=f'android {{\n    assetPacks += ":{name}_model"\n}}\n\n' if is_pack else "",
        package=own,
        model=kotlin.class_name(name),
        arguments=", ".join(kotlin.arguments(package)),
    ).encode()


def _library(sources: str, own: str, reach: _Reach) -> dict[str, bytes]:
    """The wrapper's own sources, in the model's package, with the one session that it needs."""
    folder = resources.folder("runtime_stubs") / "android" / "dev" / "edgekit"
    session = reach.session.partition("(")[0]
    return {
        f"{sources}/{path.name}": path.read_bytes().replace(
            b"\npackage dev.edgekit\n", f"\npackage {own}\n".encode(), 1
        )
        for path in sorted(folder.glob("*.kt"))
        if path.stem == session or not path.stem.endswith("Session") or path.stem == "Session"
    }


def _native(package: Package) -> dict[str, bytes]:
    """Native libraries that came with the model, each where its ABI is looked for."""
    made = {}
    for name in package.artifact.extra_files:
        if name.endswith(".so"):
            content = (package.bundle.root / name).read_bytes()
            path = PurePosixPath(name)
            made[f"src/main/jniLibs/{elf.abi(name, content)}/{path.name}"] = content
    return made


SPEC = ExportSpec(platform="android", formats=(Format.LITERT, Format.ONNXRUNTIME), files=files)
