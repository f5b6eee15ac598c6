#!/usr/bin/env python3
"""What runs on the device: it looks around, verifies, infers and measures.

One file, the standard library and NumPy only, Python 3.8 and newer; ``facts`` and
``verify`` need no NumPy. Standard output carries JSON lines and nothing else: whatever
a library prints goes to standard error. A failure is one line
``{"event": "error", "kind", "message", "hint"}`` and exit status 1.

``bench`` measures in processes of their own, so that a runtime that crashes, hangs or
floods its output is reported instead of followed. It ends, and they with it, as soon as
its standard input closes: a client that went away leaves nothing running.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import fcntl
import functools
import gc
import hashlib
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import platform
import re
import resource
import select
import selectors
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, NamedTuple, Sequence, Tuple

MANIFEST = "manifest.json"
CHUNK_BYTES = 1 << 20
MAX_CHILD_BYTES = 32 << 20  # what a child may say: a million samples take some 10 MB
MAX_SAMPLES = 1_000_000  # per process: a model this fast has been measured well enough
STDERR_TAIL_BYTES = 2048
MEMORY_RUNS = 3
PROFILE_RUNS = 10
PROFILE_SECONDS = 1.0
PROFILED = 2000  # a file's operations: what is beyond is summed up by its kind anyhow
SUSTAINED_WINDOWS = 60
SUSTAINED_WINDOW_S = 10.0  # at most: a minute is seen in six points or more
VISITS_A_ROUND = 4
COUNTED = 1000
COUNT_EVERY_S = 0.05
REMEMBERED = 50  # benches: what makes a device slower for good is forgotten some day
CALM = 1.06
DUEL_WINDOW_S = 0.012  # a shared host changes its speed within hundredths of a second
MOST_WINDOWS = 5000
# One name for all users of a device; nothing is ever written into it, and no link followed.
DEVICE_LOCK = "/tmp/edgekit.lock"  # noqa: S108
LOCK_POLL_S = 0.1
SILENCE_S = 10.0  # after signs of life every second
ABANDONED = 75  # sysexits.h calls it EX_TEMPFAIL

# Module -> the runtime's name and the distributions that install it.
RUNTIMES = {
    "ai_edge_litert": ("litert", "ai-edge-litert", "ai-edge-litert-nightly"),
    "tflite_runtime": ("tflite-runtime", "tflite-runtime", "tflite-runtime-nightly"),
    "tensorflow": ("tensorflow", "tensorflow", "tensorflow-cpu", "tensorflow-macos"),
    "onnxruntime": ("onnxruntime", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
}
LITERT_MODULES = ("ai_edge_litert", "tflite_runtime", "tensorflow")
# Operators that keep a state from one run to the next, where a sample must not meet another.
REMEMBERING = ("LSTM", "RNN", "SVDF", "VAR_HANDLE")
TENSORRT = "TensorrtExecutionProvider"
DELEGATED = "DELEGATE"  # how LiteRT's interpreter names a node that a delegate has taken
INTERPRETERS = {"tensorflow": "tensorflow.lite.python.interpreter"}
DELEGATE_LIBRARIES = {
    "edgetpu": ("libedgetpu.so.1", "libedgetpu.1.dylib"),
    "gpu": ("libtensorflowlite_gpu_delegate.so", "libLiteRtOpenClAccelerator.so"),
}
ONNX_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # the rest is NumPy's name

Event = Dict[str, Any]
Step = Callable[[], Sequence[Any]]


class Failure(Exception):
    """Something to report: ``kind`` for programs, ``message`` and ``hint`` for people."""

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.event = {"event": "error", "kind": kind, "message": message, "hint": hint}


# ------------------------------------------------------------------- input and output


class Events:
    """The real standard output; from here on file descriptor 1 is standard error."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file = os.fdopen(os.dup(1), "w", encoding="ascii")
        os.dup2(2, 1)

    def __call__(self, event: Event) -> None:
        self._file.write(json.dumps(event, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()


def end_when_stdin_closes(
    clean_up: Callable[[], None], heard: Callable[[], None] | None = None
) -> None:
    """Clean up and leave the process at once when whoever started it has gone.

    A network that fails closes nothing: who has begun to send signs of life has gone, too,
    when they stop coming. Where ``heard`` is given it is called instead: what comes in is no
    sign of life then.
    """

    def wait() -> None:
        silence_s = None
        with contextlib.suppress(OSError):
            while select.select([0], [], [], silence_s)[0]:
                if not os.read(0, 4096):
                    break
                if heard is None:
                    silence_s = SILENCE_S
                else:
                    heard()
            else:
                clean_up()
                os._exit(ABANDONED)
        clean_up()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def read_text(path: str) -> str:
    """A small file's text; empty where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def output_of(*argv: str) -> str:
    """What a small system tool says; empty when it is not there or fails."""
    tool = shutil.which(argv[0])
    if tool is None:
        return ""
    try:
        done = subprocess.run([tool, *argv[1:]], stdout=subprocess.PIPE, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def first_words(error: BaseException) -> str:
    return (str(error).strip() or repr(error))[:500]


# ------------------------------------------------------------------------------ facts


def facts(emit: Events, _arguments: argparse.Namespace) -> None:
    """Say what this device is and which runtimes it has; nothing heavy is imported."""
    cpu_model, cpu_flags = cpu()
    memory = memory_total_bytes()
    # Rounded: kernels reserve a little more or less, and it stays the same device.
    who = (platform.machine(), cpu_model, os.cpu_count(), memory and memory >> 28)
    emit(
        {
            "event": "facts",
            "python": sys.executable,
            "python_version": platform.python_version(),
            "abi": sysconfig.get_config_var("SOABI") or "",
            "numpy_version": version_of("numpy"),
            "system": platform.system(),
            "machine": platform.machine(),
            "libc": libc(),
            "cpu_model": cpu_model,
            "cores": os.cpu_count() or 1,
            "memory_total_bytes": memory,
            "cpu_flags": cpu_flags,
            "runtimes": found_runtimes(),
            "fingerprint": hashlib.sha256(json.dumps(who).encode()).hexdigest(),
        }
    )


def cpu() -> tuple[str, list[str]]:
    """The processor's name and its instruction set extensions, as the kernel spells them."""
    if platform.system() == "Darwin":
        flags = output_of("sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features")
        return output_of("sysctl", "-n", "machdep.cpu.brand_string"), flags.lower().split()
    fields: dict[str, str] = {}
    for line in read_text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    board = read_text("/sys/firmware/devicetree/base/model").rstrip("\0")
    model = fields.get("model name") or board or fields.get("Hardware") or platform.processor()
    return model, (fields.get("flags") or fields.get("Features") or "").split()


def libc() -> str:
    musl = any(Path("/lib").glob("ld-musl-*"))
    return "musl" if musl else " ".join(platform.libc_ver()).strip()


def memory_total_bytes() -> int | None:
    if platform.system() == "Darwin":
        return int(output_of("sysctl", "-n", "hw.memsize") or 0) or None
    return kib_field("/proc/meminfo", "MemTotal")


def kib_field(path: str, name: str) -> int | None:
    """The value in bytes of a ``Name:  123 kB`` line; None where there is none."""
    for line in read_text(path).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return None


def found_runtimes() -> list[Event]:
    """The runtimes installed here; one without a version cannot be compared and is left out."""
    found = found_coreml()
    for module, (name, *distributions) in RUNTIMES.items():
        version = version_of(*distributions)
        if version and importlib.util.find_spec(module):
            found.append({"name": name, "module": module, "version": version})
    return found


def found_coreml() -> list[Event]:
    """Core ML has the system's version; Xcode is there to build what measures it."""
    version = output_of("sw_vers", "-productVersion")
    if not version or not output_of("xcrun", "--find", "coremlcompiler"):
        return []
    return [{"name": "coreml", "module": "coreml", "version": version}]


def version_of(*distributions: str) -> str | None:
    for distribution in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None


# ----------------------------------------------------------------------------- bundle


def verify(emit: Events, arguments: argparse.Namespace) -> None:
    """Check that a bundle holds exactly what its manifest lists, to the last byte."""
    digests = read_manifest(arguments.bundle)["digests"]
    unlisted = sorted(set(entries_under(arguments.bundle)) - set(digests) - {MANIFEST})
    if unlisted:
        raise Failure("bundle", f"the bundle holds {unlisted[0]!r}, which {MANIFEST} does not list")
    check_digests(arguments.bundle, digests, sorted(digests))
    emit({"event": "verified", "files": len(digests) + 1})


def read_manifest(bundle: Path) -> dict[str, Any]:
    try:
        text = (bundle / MANIFEST).read_text(encoding="utf-8")
        manifest: dict[str, Any] = json.loads(text)
        names = [Path(name) for name in manifest["digests"]]
    except OSError as error:
        raise Failure("bundle", f"{bundle} has no readable {MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Failure("bundle", f"{MANIFEST} is malformed: {error!r}") from error
    if any(name.is_absolute() or ".." in name.parts for name in names):
        raise Failure("bundle", f"{MANIFEST} lists a file outside the bundle")
    return manifest


def entries_under(bundle: Path) -> Iterator[str]:
    """Every entry but folders, by its path; a link counts as itself."""
    for folder, folders, files in os.walk(str(bundle)):
        here = Path(folder)
        for name in files + [name for name in folders if (here / name).is_symlink()]:
            yield (here / name).relative_to(bundle).as_posix()


def check_digests(bundle: Path, digests: dict[str, str], names: Sequence[str]) -> None:
    for name in names:
        path, expected = bundle / name, digests.get(name)
        if path.is_symlink() or not path.is_file():
            raise Failure("bundle", f"the bundle lacks the file {name!r}", "push it again")
        got = digest(path)
        if got != expected:
            raise Failure(
                "bundle",
                f"{name} is not what was bundled: expected sha256 {expected}, got {got}",
                "it changed on the device: push the bundle again",
            )


def digest(path: Path) -> str:
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            sha256.update(chunk)
    return sha256.hexdigest()


# --------------------------------------------------------------------------- runtimes
#
# Each runtime has the same face: made (the module is imported), ``load``, ``details``
# of its inputs and outputs in its own order, and ``step``: a function without arguments
# that runs once on given samples and does what an application must do, no more.


def numpy() -> Any:
    """NumPy, imported when first needed: ``facts`` and ``verify`` do without."""
    try:
        return importlib.import_module("numpy")
    except ImportError as error:
        raise Failure("runtime-missing", f"NumPy is missing: {error}", "install numpy") from error


def import_first(modules: Sequence[str], location: Callable[[str], str]) -> tuple[Event, Any]:
    """The first of ``modules`` that can be imported: what it is, and the module itself."""
    reasons = []
    for name in modules:
        try:
            module = importlib.import_module(location(name))
        except ImportError as error:
            reasons.append(f"{name}: {error}")
        else:
            return identity(name.partition(".")[0]), module
    message = f"no runtime for this artifact can be imported ({'; '.join(reasons)})"
    raise Failure("runtime-missing", message, f"install one of: {', '.join(modules)}")


def identity(module: str) -> Event:
    name, *distributions = RUNTIMES.get(module, (module, module))
    version = version_of(*distributions) or getattr(sys.modules[module], "__version__", "unknown")
    return {"name": name, "module": module, "version": version}


def missing_delegate(delegate: str, why: str) -> Failure:
    message = f"the accelerator's delegate {delegate!r} is not available: {why}"
    return Failure("runtime-missing", message, "install it, or run on the CPU with --cpu")


class OnnxRuntime:
    engines: Path | None = None
    """Where engines that TensorRT builds on this device are kept; None: nowhere."""

    def __init__(self, modules: Sequence[str], threads: int, delegate: str | None) -> None:
        self.identity, self._module = import_first(modules or ["onnxruntime"], str)
        self._threads, self._delegate = threads, delegate
        available = self._module.get_available_providers()
        if delegate and delegate not in available:
            raise missing_delegate(delegate, f"this onnxruntime has {', '.join(available)}")

    def load(self, path: Path, trace: Path | None = None) -> None:
        """Open a session; with ``trace`` it writes down, in that folder, what each node did."""
        options = self._module.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        self._is_traced = trace is not None
        if trace:
            options.enable_profiling = True
            options.profile_file_prefix = str(trace / "onnxruntime")
        delegate: list[Any] = [self._delegate] if self._delegate else []
        with contextlib.ExitStack() as building:
            if self.engines and self._delegate == TENSORRT:
                folder = self._engine_folder(path)
                delegate = [(TENSORRT, tensorrt_options(folder))]
                if not list(folder.glob("*.engine")):
                    options.log_severity_level = 0  # what the builder says is told at this level
                    building.enter_context(stderr_to(folder / "build.log"))
            self._session = self._module.InferenceSession(
                str(path), options, providers=[*delegate, "CPUExecutionProvider"]
            )
        # onnxruntime falls back to the CPU without an error when a provider does not start.
        if self._delegate and self._delegate not in self._session.get_providers():
            raise missing_delegate(self._delegate, "it is installed but did not start")

    def _engine_folder(self, path: Path) -> Path:
        """An engine is for one model, one version of each library, and this device."""
        versions = f"onnxruntime-{self.identity['version']}-tensorrt-{tensorrt_version()}"
        folder = (self.engines or Path()) / versions / digest(path)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def details(self) -> list[list[Event]]:
        sides = self._session.get_inputs(), self._session.get_outputs()
        return [[onnx_detail(value) for value in side] for side in sides]

    def step(self, samples: Sequence[Any]) -> Step:
        inputs, outputs = [[detail["name"] for detail in side] for side in self.details()]
        return functools.partial(self._session.run, outputs, dict(zip(inputs, samples)))

    def traced(self) -> list[Node]:
        """Every node that ran since the session was opened with a trace, in order."""
        text = Path(self._session.end_profiling()).read_text(encoding="utf-8")
        return onnx_nodes(json.loads(text))

    def placement(self) -> Event | None:
        """Nodes as they ran, after fusion: a stretch that a provider compiled counts as one."""
        if not self._is_traced:
            return None
        where = [node.where for node in one_run(self.traced())]
        return placed(", ".join(self._session.get_providers()), where)


def tensorrt_options(folder: Path) -> Event:
    """onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html, "Configurations"."""
    return {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }


def tensorrt_version() -> str:
    """TensorRT's version as its library tells it: NvInfer.h, ``getInferLibVersion``."""
    for name in ("libnvinfer.so", "libnvinfer.so.10", "libnvinfer.so.8"):
        with contextlib.suppress(OSError, AttributeError):
            return str(ctypes.CDLL(name).getInferLibVersion())
    return version_of("tensorrt") or "unknown"


@contextlib.contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """Whatever libraries write to standard error meanwhile goes into a file."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with path.open("wb") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Node(NamedTuple):
    """One operation of the graph as it ran once."""

    name: str
    kind: str
    where: str
    took_ns: int


def onnx_nodes(trace: Sequence[Event]) -> list[Node]:
    """What ONNX Runtime's profile says of nodes: Chrome's trace format, times in microseconds.

    onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html. Older versions tell of
    each node three times (``_fence_before``, ``_kernel_time``, ``_fence_after``).
    """
    suffix = "_kernel_time"
    return [
        Node(
            one["name"][: -len(suffix)],
            one["args"].get("op_name", "?"),
            one["args"].get("provider", "?"),
            int(one["dur"]) * 1000,
        )
        for one in trace
        if one.get("cat") == "Node" and one.get("name", "").endswith(suffix)
    ]


def one_run(nodes: Sequence[Node]) -> list[Node]:
    """The nodes of the first run: up to where the first one comes again."""
    first = [i for i, node in enumerate(nodes) if node.name == nodes[0].name]
    return list(nodes[: first[1]] if len(first) > 1 else nodes)


def placed(choices: str, where: Sequence[str]) -> Event:
    """How many operations run where, and in how many stretches, in the order of execution."""
    starts = [place for i, place in enumerate(where) if i == 0 or where[i - 1] != place]
    return {
        "compute_units": choices,
        "operations": {place: where.count(place) for place in sorted(set(where))},
        "partitions": {place: starts.count(place) for place in sorted(set(where))},
    }


def onnx_detail(value: Any) -> Event:
    """One input or output; an axis without a fixed length is None."""
    return {
        "name": value.name,
        "shape": [length if isinstance(length, int) else None for length in value.shape],
        "dtype": ONNX_TYPES.get(value.type, value.type.replace("tensor(", "").rstrip(")")),
        "scale": None,
        "zero_point": None,
    }


class LiteRt:
    """LiteRT, under any of the names it has had."""

    def __init__(self, modules: Sequence[str], threads: int, delegate: str | None) -> None:
        self.identity, self._module = import_first(modules or LITERT_MODULES, interpreter_module)
        self._threads, self._delegate = threads, delegate
        self._delegates = [self._load_delegate(delegate)] if delegate else None

    def _load_delegate(self, delegate: str) -> Any:
        reasons = []
        for library in DELEGATE_LIBRARIES.get(delegate, ()):
            try:
                return self._module.load_delegate(library)
            except (ValueError, OSError) as error:
                reasons.append(first_words(error))
        raise missing_delegate(delegate, "; ".join(reasons) or "the runner does not know it")

    def load(self, path: Path, trace: Path | None = None) -> None:  # noqa: ARG002
        """Open an interpreter; its Python interface has no way to time single operations."""
        self._interpreter = self._module.Interpreter(
            model_path=str(path),
            num_threads=self._threads,
            experimental_delegates=self._delegates,
        )
        self._interpreter.allocate_tensors()
        names = {operator["op_name"] for operator in self._interpreter._get_ops_details()}
        self._remembers = any(kind in name for name in names for kind in REMEMBERING)

    def details(self) -> list[list[Event]]:
        return [[litert_detail(*tensor) for tensor in side] for side in self._tensors]

    def step(self, samples: Sequence[Any]) -> Step:
        inputs, outputs = [[tensor["index"] for _, tensor in side] for side in self._tensors]
        self._fit(samples)
        interpreter, values = self._interpreter, list(zip(inputs, samples))

        def step() -> list[Any]:
            if self._remembers:
                interpreter.reset_all_variables()
            for index, value in values:
                interpreter.set_tensor(index, value)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in outputs]

        return step

    def placement(self) -> Event:
        """The operations that a delegate took, and those that it left to the built-in kernels.

        The interpreter lists the nodes of the model and behind them one for each stretch that a
        delegate took: what lies between such a node's inputs and its outputs went into it. A
        delegate does not tell its name; XNNPACK is applied where none is asked for.
        """
        nodes = self._interpreter._get_ops_details()
        taken = [node for node in nodes if node["op_name"] == DELEGATED]
        plain = [node for node in nodes if node["op_name"] != DELEGATED]
        inside = [len(between(plain, node["inputs"], node["outputs"])) for node in taken]
        delegate = self._delegate or "xnnpack"
        counts = {delegate: sum(inside), "builtin": len(plain) - sum(inside)}
        return {
            "compute_units": f"{delegate}, builtin",
            "operations": counts,
            "partitions": {delegate: len(taken)},
        }

    @functools.cached_property
    def _tensors(self) -> list[list[tuple[str, Event]]]:
        """Names and details, by the default signature's own names and order if it has one."""
        plain = [self._interpreter.get_input_details(), self._interpreter.get_output_details()]
        keys = list(self._interpreter.get_signature_list())
        if keys:
            key = "serving_default" if "serving_default" in keys else keys[0]
            runner = self._interpreter.get_signature_runner(key)
            signed = [runner.get_input_details(), runner.get_output_details()]
            if all(same_tensors(s.values(), p) for s, p in zip(signed, plain)):
                return [list(side.items()) for side in signed]
        return [[(tensor["name"], tensor) for tensor in side] for side in plain]

    def _fit(self, samples: Sequence[Any]) -> None:
        """Resize the inputs whose batch or size the model leaves open."""
        tensors = [tensor for _, tensor in self._tensors[0]]
        odd = [(t, s) for t, s in zip(tensors, samples) if tuple(t["shape"]) != s.shape]
        for tensor, sample in odd:
            self._interpreter.resize_tensor_input(tensor["index"], sample.shape, strict=True)
        if odd:
            self._interpreter.allocate_tensors()
            del self._tensors


def between(nodes: Sequence[Event], inputs: Iterable[int], outputs: Iterable[int]) -> set[int]:
    """The nodes that outputs depend on, up to the inputs: by their places in the list."""
    makers = {int(tensor): i for i, node in enumerate(nodes) for tensor in node["outputs"]}
    known, wanted, found = set(map(int, inputs)), [int(tensor) for tensor in outputs], set()
    while wanted:
        tensor = wanted.pop()
        if tensor in known or tensor not in makers:
            continue
        known.add(tensor)
        found.add(makers[tensor])
        wanted += [int(one) for one in nodes[makers[tensor]]["inputs"]]
    return found


def interpreter_module(name: str) -> str:
    return INTERPRETERS.get(name, name if "." in name else f"{name}.interpreter")


def same_tensors(signed: Sequence[Event], plain: Sequence[Event]) -> bool:
    """Whether a signature speaks of the main graph's own tensors, all of them."""
    return {tensor["index"] for tensor in signed} == {tensor["index"] for tensor in plain}


def litert_detail(name: str, tensor: Event) -> Event:
    scale, zero_point = tensor["quantization"]
    return {
        "name": name,
        "shape": [int(length) for length in tensor["shape"]],
        "dtype": numpy().dtype(tensor["dtype"]).name,
        "scale": float(scale) if scale else None,
        "zero_point": int(zero_point) if scale else None,
    }


ADAPTERS: dict[str, Any] = {"onnxruntime": OnnxRuntime, "litert": LiteRt}


def load(runtime: Any, path: Path, trace: Path | None = None) -> None:
    if not path.is_file():
        raise Failure("model", f"no such model: {path}")
    try:
        runtime.load(path, trace)
    except Failure:
        raise
    except Exception as error:
        where = "{name} {version}".format(**runtime.identity)
        message = f"{path.name} does not load in {where}: {first_words(error)}"
        raise Failure("model", message) from error


def run(runtime: Any, samples: Sequence[Any]) -> list[Any]:
    """One inference; what comes back are arrays of numbers."""
    try:
        arrays = [numpy().asarray(result) for result in runtime.step(samples)()]
    except Exception as error:
        raise Failure("run", f"the inference failed: {first_words(error)}") from error
    if any(array.dtype.hasobject for array in arrays):
        raise Failure("run", "the model gives something that is not a tensor of numbers")
    return arrays


# -------------------------------------------------------------------- samples on disk


class Samples:
    """A ``.npy`` file read one sample (its first axis) at a time: memory stays flat."""

    def __init__(self, path: Path) -> None:
        try:
            stored = numpy().load(str(path), mmap_mode="r", allow_pickle=False)
            usable = stored.size and stored.flags.c_contiguous and stored.dtype.isnative
            self.count, self.shape, self.dtype = stored.shape[0], stored.shape[1:], stored.dtype
            self._path, self._offset = path, stored.offset
        except (OSError, ValueError, IndexError, AttributeError, EOFError) as error:
            raise Failure("input", f"{path} is not a .npy file of samples: {error}") from error
        if not usable:
            raise Failure("input", f"{path} is empty, in Fortran order or of foreign byte order")

    def __iter__(self) -> Iterator[Any]:
        fromfile, length = numpy().fromfile, math.prod(self.shape)
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for _ in range(self.count):
                yield fromfile(file, self.dtype, length).reshape(self.shape)


class Outputs:
    """``output_<i>.npy``, one file per output, written one sample at a time."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._count = folder, count
        self._open: list[tuple[Any, Any]] = []

    def add(self, arrays: Sequence[Any]) -> None:
        self._open = self._open or [self._create(i, a) for i, a in enumerate(arrays)]
        for (file, first), value in zip(self._open, arrays):
            if (value.dtype, value.shape) != (first.dtype, first.shape):
                raise Failure("run", "an output changes its shape from sample to sample")
            file.write(value.tobytes())

    def _create(self, index: int, first: Any) -> tuple[Any, Any]:
        file, layout = (self._folder / f"output_{index}.npy").open("wb"), numpy().lib.format
        header = {
            "descr": layout.dtype_to_descr(first.dtype),
            "fortran_order": False,
            "shape": (self._count, *first.shape),
        }
        layout.write_array_header_1_0(file, header)
        return file, first

    def close(self) -> None:
        for file, _ in self._open:
            file.close()


def infer(emit: Events, arguments: argparse.Namespace) -> None:
    """Run every sample and write the outputs, in the artifact's own types."""
    runtime = loaded(arguments)
    inputs = [Samples(path) for path in ordered_inputs(runtime.details()[0], arguments)]
    check_inputs(runtime.details()[0], inputs)
    with contextlib.closing(Outputs(arguments.output_dir, inputs[0].count)) as outputs:
        for samples in zip(*inputs):
            outputs.add(run(runtime, samples))
    names = [detail["name"] for detail in runtime.details()[1]]
    emit({"event": "inferred", "outputs": names, **description(runtime)})


def describe(emit: Events, arguments: argparse.Namespace) -> None:
    """Say what a model takes and gives, without running it."""
    emit({"event": "described", **description(loaded(arguments))})


def loaded(arguments: argparse.Namespace) -> Any:
    """The model of the command line in its runtime, ready to run."""
    modules = [arguments.module] if arguments.module else []
    runtime = ADAPTERS[arguments.runtime](modules, arguments.threads, arguments.delegate)
    load(runtime, arguments.model)
    return runtime


def description(runtime: Any) -> Event:
    inputs, outputs = runtime.details()
    return {"input_details": inputs, "output_details": outputs, "runtime": runtime.identity}


def ordered_inputs(details: Sequence[Event], arguments: argparse.Namespace) -> list[Path]:
    """The input files in the model's order: by name where names are given."""
    if not arguments.input_name:
        return list(arguments.input)
    files = dict(zip(arguments.input_name, arguments.input))
    names = [detail["name"] for detail in details]
    if sorted(files) != sorted(names) or len(files) != len(arguments.input):
        message = f"the model takes {', '.join(names)}, got {', '.join(sorted(files))}"
        raise Failure("input", message)
    return [files[name] for name in names]


def check_inputs(details: Sequence[Event], inputs: Sequence[Samples]) -> None:
    if len(inputs) != len(details):
        names = ", ".join(detail["name"] for detail in details)
        raise Failure("input", f"the model takes {names}, got {len(inputs)} file(s)")
    for detail, samples in zip(details, inputs):
        expected, got = (detail["dtype"], detail["shape"]), (samples.dtype.name, samples.shape)
        if expected[0] != got[0] or len(expected[1]) != len(got[1]):
            name, kind, shape = detail["name"], *expected
            message = f"input {name!r} takes {kind} {shape}, got {got[0]} {list(got[1])}"
            raise Failure("input", message, "the first axis of the file counts the samples")
        if samples.count != inputs[0].count:
            raise Failure("input", "the inputs differ in their number of samples")


# --------------------------------------------------------- one part of a bench (a child)


class Visit:
    """A bundle's artifact in this process: what every part does before its own work."""

    def __init__(
        self, emit: Events, arguments: argparse.Namespace, trace: Path | None = None
    ) -> None:
        self._emit, self.bundle = emit, arguments.bundle
        self.manifest = read_manifest(arguments.bundle)
        self.artifact = self.manifest["artifact"]
        self.phase("importing the runtime")
        self.runtime = self._imported(arguments)
        self.phase("loading the model")
        model = self.bundle / self.artifact["path"]
        self.load_ns = elapsed_ns(lambda: load(self.runtime, model, trace))

    def _imported(self, arguments: argparse.Namespace) -> Any:
        kind = self.artifact["format"]
        if kind not in ADAPTERS:
            raise Failure("runtime-missing", f"the runner cannot run artifacts of format {kind!r}")
        modules = [arguments.module] if arguments.module else list(self.manifest["runtimes"])
        threads = arguments.threads or self.manifest["recipe"]["threads"]
        delegate = None if arguments.cpu else self.manifest["delegate"]
        runtime = ADAPTERS[kind](modules, threads, delegate)
        runtime.engines = arguments.engines
        return runtime

    def phase(self, name: str) -> None:
        """Tell the supervisor what comes next, in case it is the last thing done."""
        self._emit({"event": "phase", "name": name})

    def order(self, side: str) -> list[int]:
        """Where the runtime's tensors stand in the manifest: by name, else as they come."""
        details = self.runtime.details()[0 if side == "inputs" else 1]
        names = [detail["name"] for detail in details]
        listed = [binding["artifact"]["name"] for binding in self.artifact[side]]
        if len(names) != len(listed):
            message = f"the artifact has {len(names)} {side}, {MANIFEST} lists {len(listed)}"
            raise Failure("bundle", message)
        same = set(names) == set(listed)
        return [listed.index(name) if same else i for i, name in enumerate(names)]

    def golden(self, side: str) -> list[Samples]:
        """The golden samples of ``inputs`` or ``outputs``, in the runtime's order."""
        golden = self.manifest["golden"]
        files = [Samples(self.bundle / golden[side][i]) for i in self.order(side)]
        if any(samples.count != golden["sample_count"] for samples in files):
            raise Failure("bundle", f"the golden {side} are not {golden['sample_count']} samples")
        return files

    def first_step(self) -> Step:
        """A function that runs golden sample 0."""
        step: Step = self.runtime.step([next(iter(samples)) for samples in self.golden("inputs")])
        return step


def elapsed_ns(action: Callable[[], Any]) -> int:
    start = time.perf_counter_ns()
    action()
    return time.perf_counter_ns() - start


def golden(emit: Events, arguments: argparse.Namespace) -> None:
    """Compare this device's outputs with the bundle's, and see what ran where."""
    visit = Visit(emit, arguments, arguments.trace)
    visit.phase("running the golden inputs")
    order = visit.order("outputs")
    bindings = [visit.artifact["outputs"][i] for i in order]
    errors = [0.0] * len(order)
    for inputs, wanted in zip(zip(*visit.golden("inputs")), zip(*visit.golden("outputs"))):
        got = run(visit.runtime, inputs)
        for i, binding in enumerate(bindings):
            error = largest_error(got[i], wanted[i], binding["quantization"])
            errors[i] = max(errors[i], error)
    vectors = visit.manifest["golden"]
    names = [binding["artifact"]["name"] for binding in bindings]
    verdict = judged(names, errors, [vectors["tolerances"][i] for i in order])
    told = {"sample_count": vectors["sample_count"], "runtime": visit.runtime.identity}
    emit({**verdict, **told, "placement": visit.runtime.placement()})


def largest_error(got: Any, wanted: Any, quantization: Event | None) -> float:
    """The largest absolute difference in real units; infinite where one is not a number."""
    if got.shape != wanted.shape:
        message = f"an output has shape {got.shape}, its golden vector {wanted.shape}"
        raise Failure("golden", message)
    np = numpy()
    got, wanted = real(got, quantization), real(wanted, quantization)
    with np.errstate(invalid="ignore"):
        errors = np.where(got == wanted, 0.0, np.abs(got - wanted))
    largest = float(np.max(errors, initial=0.0))
    return math.inf if math.isnan(largest) else largest


def real(stored: Any, quantization: Event | None) -> Any:
    values = stored.astype("float64")
    if quantization and stored.dtype.kind in "iu":
        return (values - quantization["zero_point"]) * quantization["scale"]
    return values


def judged(names: Sequence[str], errors: Sequence[float], tolerances: Sequence[float]) -> Event:
    """The golden event; JSON knows no infinity, so an error without a number is None."""
    worst = max(range(len(names)), key=lambda i: errors[i] - tolerances[i])
    return {
        "event": "golden",
        "passed": all(error <= allowed for error, allowed in zip(errors, tolerances)),
        "max_error": finite(max(errors)),
        "worst_output": names[worst],
        "worst_error": finite(errors[worst]),
        "tolerance": tolerances[worst],
    }


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def measure(emit: Events, arguments: argparse.Namespace) -> None:
    """Time a fresh process: load, first inference, then the steady state."""
    visit = Visit(emit, arguments)
    step, told = warmed_up(visit, arguments)
    visit.phase("measuring")
    samples, counting = timed_beside_counting(step, arguments.runs, arguments.seconds)
    emit({**told, "samples_ns": samples.tolist(), "counting_ns": counting})


def warmed_up(visit: Visit, arguments: argparse.Namespace) -> tuple[Step, Event]:
    """A step in its steady state, and what is to be told of the way there."""
    step = visit.first_step()
    visit.phase("running for the first time")
    first_inference_ns = elapsed_ns(step)
    gc.collect()
    gc.disable()
    visit.phase("warming up")
    timed(step, arguments.warmup_runs, arguments.warmup_seconds)
    firsts = {"first_load_ns": visit.load_ns, "first_inference_ns": first_inference_ns}
    return step, {"event": "process", **firsts}


WAITING = "waiting for its turn"
TURN = threading.Semaphore(0)  # released by every byte on a child's standard input


def take_turns(emit: Events, arguments: argparse.Namespace) -> None:
    """As ``measure``, but a window at a time, each when its turn has come."""
    visit = Visit(emit, arguments)
    step, told = warmed_up(visit, arguments)
    count = windows_each(arguments.seconds)
    runs, seconds = math.ceil(arguments.runs / count), arguments.seconds / count
    windows = []
    for _ in range(count):
        visit.phase(WAITING)
        TURN.acquire()
        timed(step, 1, seconds / 10)  # the other has left the caches, and may spin for a moment
        windows.append(timed(step, runs, seconds))
    samples = [took for window in windows for took in window[: MAX_SAMPLES // count]]
    emit({**told, "samples_ns": samples, "windows_ns": [at_best(window) for window in windows]})


def at_best(window: Iterable[int]) -> int:
    """What a run takes that nobody interrupts; not the one luckiest: one in ten was faster.

    To wait for a core adds the same to both of two that are compared, and brings their ratio
    nearer to one: with four at work on two cores one that takes 5 % longer was 3.6 % slower by the
    medians of its windows, and 5.0 % by this.
    """
    ordered = sorted(window)
    return ordered[len(ordered) // 10]


def windows_each(seconds: float) -> int:
    """How many turns each of a pair has in so long; even, for who begins changes with each."""
    return 2 * min(max(2, round(seconds / DUEL_WINDOW_S / 2)), MOST_WINDOWS // 2)


def timed(step: Step, runs: int, seconds: float) -> array.array[int]:
    """Nanoseconds of each run, until both ``runs`` and ``seconds`` are reached.

    Between two readings of the clock lies one inference and nothing else.
    """
    clock, samples = time.perf_counter_ns, array.array("q")
    record = samples.append
    deadline = clock() + int(seconds * 1e9)
    for done in range(1, MAX_SAMPLES + 1):
        start = clock()
        step()
        end = clock()
        record(end - start)
        if done >= runs and end >= deadline:
            break
    return samples


def timed_beside_counting(
    step: Step, runs: int, seconds: float
) -> Tuple[array.array[int], list[int]]:
    """As ``timed``, and what counting took after each stretch of it."""
    samples, counting = array.array("q"), []
    deadline, left_s = time.monotonic() + seconds, seconds
    while len(samples) < MAX_SAMPLES and (len(samples) < runs or left_s > 0):
        samples.extend(timed(step, 1, min(COUNT_EVERY_S, left_s)))
        counting.append(counting_ns())
        left_s = deadline - time.monotonic()
    return samples[:MAX_SAMPLES], counting


def memory(emit: Events, arguments: argparse.Namespace) -> None:
    """Peak memory of a process that only loads and runs.

    ``ru_maxrss`` would carry over the parent's peak; ``VmHWM`` starts anew with a program.
    """
    visit = Visit(emit, arguments)
    step = visit.first_step()
    visit.phase("running")
    for _ in range(MEMORY_RUNS):
        step()
    emit({"event": "memory", "peak_memory_bytes": kib_field("/proc/self/status", "VmHWM")})


def profile(emit: Events, arguments: argparse.Namespace) -> None:
    """What each operation takes, where the runtime tells: in a process of its own, for it slows."""
    visit = Visit(emit, arguments, arguments.trace)
    why = ""
    if not hasattr(visit.runtime, "traced"):
        why = "the Python interface of {name} has no profile of single operations"
    elif arguments.trace is None:
        why = "there is no folder on the device that {name} could write its profile into"
    if why:
        emit({"event": "profile", "why": why.format(**visit.runtime.identity)})
        return
    step = visit.first_step()
    visit.phase("profiling")
    step()
    runs = len(timed(step, PROFILE_RUNS, PROFILE_SECONDS))
    nodes = visit.runtime.traced()
    first = len(one_run(nodes))  # the first inference is not the steady state
    emit({"event": "profile", "runs": runs, "operations": by_operation(nodes[first:])})


def by_operation(nodes: Sequence[Node]) -> list[Event]:
    """Each operation with the median of its times, in the order of execution."""
    taken: Dict[Node, list[int]] = {}
    for node in nodes:
        taken.setdefault(node._replace(took_ns=0), []).append(node.took_ns)
    return [
        {"name": node.name, "kind": node.kind, "where": node.where, "median_ns": middle(times)}
        for node, times in list(taken.items())[:PROFILED]
    ]


def middle(values: Iterable[int]) -> int:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def sustain(emit: Events, arguments: argparse.Namespace) -> None:
    """Run without a pause: how fast it is, window by window, and what the sensors say meanwhile."""
    visit = Visit(emit, arguments)
    step = visit.first_step()
    step()
    gc.collect()
    gc.disable()
    visit.phase("running for long")
    window_s = min(SUSTAINED_WINDOW_S, arguments.sustain_seconds / SUSTAINED_WINDOWS)
    windows: list[Event] = []
    before, started = heat(), time.monotonic()
    while not windows or time.monotonic() - started < arguments.sustain_seconds:
        at_s = time.monotonic() - started
        taken = timed(step, 1, window_s)
        told = {"at_s": round(at_s, 3), "runs": len(taken), "median_ns": middle(taken)}
        windows.append({**told, **heat()})
    emit({"event": "sustained", "before": before, "windows": windows})


def energy(emit: Events, arguments: argparse.Namespace) -> None:
    """What an inference takes beyond idling, of the best sensor there is."""
    meter, why = best_meter()
    if meter is None:
        emit({"event": "energy", "why": why})
        return
    seconds = max(LEAST_ENERGY_S, arguments.energy_seconds)
    with contextlib.closing(meter):
        visit = Visit(emit, arguments)
        step = visit.first_step()
        step()
        gc.disable()
        visit.phase("idling, to know what that takes")
        idle, _ = metered(meter, lambda: time.sleep(seconds))
        visit.phase("running, to know what that takes")
        busy, runs = metered(meter, lambda: len(timed(step, 1, seconds)))
    if idle is None or busy is None:
        emit({"event": "energy", "why": f"the sensor ({meter.source}) gave too few readings"})
        return
    told = {name: getattr(meter, name) for name in ("source", "rail", "resolution_w", "estimate")}
    emit({"event": "energy", **told, "idle": idle, "busy": busy, "runs": runs})


def sweep(emit: Events, arguments: argparse.Namespace) -> None:
    """Time many small models in turn, round after round, in this one process.

    A model that has enough windows in which the device was calm is not visited again. The
    first round is always whole, unless the deadline ends it.
    """
    end_when_stdin_closes(lambda: None)
    models = json.loads(arguments.models.read_text(encoding="utf-8"))
    windows: Dict[str, list[Window]] = {name: [] for name in models}
    failed: Dict[str, str] = {}
    started = time.monotonic()
    with locked(emit, arguments.lock, arguments.lock_wait):
        for number in range(arguments.rounds * VISITS_A_ROUND):
            usual_ns = undisturbed(windows)
            for name in models:
                if name in failed or len(calm(windows[name], usual_ns)) >= arguments.rounds:
                    continue
                spent_s = time.monotonic() - started
                if spent_s > arguments.deadline or (number and spent_s > arguments.seconds):
                    break
                try:
                    windows[name].append(swept(arguments, arguments.models.parent / name))
                except Failure as failure:
                    failed[name] = failure.event["message"]
    for name, seen in windows.items():
        emit(
            {
                "event": "swept",
                "model": name,
                "windows_ns": [window.median_ns for window in seen],
                "counting_ns": [window.counting_ns for window in seen],
                "error": failed.get(name),
            }
        )
    emit({"event": "done"})


class Window(NamedTuple):
    """A model's median in one window, and what counting took beside it; in nanoseconds."""

    median_ns: int
    counting_ns: int


def undisturbed(windows: Dict[str, list[Window]]) -> float:
    """What counting takes at its best."""
    taken = [w.counting_ns for seen in windows.values() for w in seen]
    return at_best(taken) if taken else 0


def calm(windows: list[Window], usual_ns: float) -> list[Window]:
    """The windows beside which counting took no longer than it has to."""
    return [window for window in windows if window.counting_ns <= CALM * usual_ns]


def counting_ns() -> int:
    """How long the interpreter takes to count: what slows it slows the models, too.

    Another thread of the same core, a clock that went down, a neighbour on the host: on
    virtual machines nothing else tells.
    """
    return min(counted(COUNTED) for _ in range(3))


def counted(count: int) -> int:
    """Nanoseconds of counting once."""
    begin = time.perf_counter_ns()
    total = 0
    for number in range(count):
        total += number * number
    return time.perf_counter_ns() - begin


def swept(arguments: argparse.Namespace, path: Path) -> Window:
    """One window of a model that is loaded for it."""
    arguments.model = path
    runtime = loaded(arguments)
    samples = random_inputs(runtime)
    run(runtime, samples)
    step = runtime.step(samples)
    timed(step, 2, arguments.window / 4)
    before = counting_ns()
    taken = sorted(timed(step, 5, arguments.window))
    return Window(taken[len(taken) // 2], max(before, counting_ns()))


def random_inputs(runtime: Any) -> list[Any]:
    """Something to compute with; a constant would take paths that numbers do not."""
    np = numpy()
    draw = np.random.default_rng(0).standard_normal
    details = runtime.details()[0]
    return [draw([n or 1 for n in d["shape"]]).astype(d["dtype"]) for d in details]


def peak(emit: Events, arguments: argparse.Namespace) -> None:
    """Peak memory of a process that only loads and runs one model, and before it did."""
    numpy()
    before = kib_field("/proc/self/status", "VmHWM")
    runtime = loaded(arguments)
    step = runtime.step(random_inputs(runtime))
    for _ in range(MEMORY_RUNS):
        step()
    after = kib_field("/proc/self/status", "VmHWM")
    emit({"event": "memory", "before_bytes": before, "peak_memory_bytes": after})


# ----------------------------------------------------------------------------- trtexec
#
# NVIDIA's own tool on a Jetson: it builds an engine of an ONNX file, and times it by itself. What
# it says goes beside the runtime's figures, never among them. Its flags, messages and files are
# those of github.com/NVIDIA/TensorRT, ``samples/trtexec`` and ``samples/common``, of 8 and 10.

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # JetPack's, which is on nobody's PATH
TRTEXEC_PROCESSES = 5
TRTEXEC_LOG_BYTES = 1 << 20
ODD_NUMBERS = {"nan": "NaN", "inf": "Infinity"}  # as C++ writes them, and JSON's readers
TRTEXEC_DIGITS = 5e-6  # it writes six digits of each number
STRONGLY_TYPED, ROOMY = (10,), (8, 4)  # releases of TensorRT
ONCE = ("--iterations=1", "--duration=0", "--warmUp=0")


def trtexec(emit: Events, arguments: argparse.Namespace) -> None:
    """Time the artifact by NVIDIA's tool, too; where that fails it tells why, and nothing else."""
    try:
        emit({"event": "trtexec", **told_by_trtexec(emit, arguments)})
    except (Failure, OSError) as error:
        words = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", str(error)).split()
        emit({"event": "trtexec", "why": " ".join(words)[:500]})


def told_by_trtexec(emit: Events, arguments: argparse.Namespace) -> Event:
    """The figures, once the engine has given the golden outputs."""
    manifest = read_manifest(arguments.bundle)
    model = arguments.bundle / manifest["artifact"]["path"]
    tool = shutil.which("trtexec") or shutil.which(TRTEXEC)
    if tool is None:
        raise Failure("trtexec", f"there is no trtexec, neither on the PATH nor as {TRTEXEC}")
    if model.suffix != ".onnx":
        raise Failure("trtexec", f"trtexec takes ONNX files, and the artifact is {model.name}")
    if arguments.trace is None:
        raise Failure("trtexec", "there is no folder on the device that it could write into")
    version = trtexec_version(trtexec_says(tool, ["--help"], arguments.trace))
    kept = (arguments.engines or arguments.trace).resolve()
    folder = kept / f"trtexec-{version}" / digest(model)
    folder.mkdir(parents=True, exist_ok=True)
    emit({"event": "phase", "name": f"trtexec of TensorRT {version} builds an engine"})
    built_s = trtexec_built(tool, version, model, manifest, folder)
    engine = [f"--loadEngine={folder / 'model.engine'}"]
    emit({"event": "phase", "name": "running the golden inputs by trtexec"})
    max_error = trtexec_golden(tool, engine, arguments, manifest)
    emit({"event": "phase", "name": "measuring by trtexec"})
    return {
        "version": version,
        "built_s": built_s,
        "log": str(folder / "build.log"),
        "max_error": max_error,
        "processes_ns": [trtexec_timed(tool, engine, arguments) for _ in range(TRTEXEC_PROCESSES)],
    }


def trtexec_says(tool: str, words: Sequence[str], folder: Path, log: str = "trtexec.log") -> str:
    """Run it in a folder, where its log stays; the end of that.

    Raises:
        Failure: it has not passed.
    """
    with (folder / log).open("wb+") as file:
        done = subprocess.run(
            [tool, *words],
            cwd=str(folder),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
        file.seek(max(0, file.seek(0, os.SEEK_END) - TRTEXEC_LOG_BYTES))
        said = file.read().decode("utf-8", "replace")
    if done.returncode < 0:
        raise Failure("trtexec", f"trtexec ended by {signal.Signals(-done.returncode).name}")
    if done.returncode or trtexec_error(said):
        why = trtexec_error(said) or f"status {done.returncode}"
        raise Failure("trtexec", f"trtexec failed: {why}")
    return said


def trtexec_error(said: str) -> str:
    """Why it has not passed; empty: it has.

    ``logger.cpp``: the last line is ``&&&& PASSED TensorRT.trtexec ...`` or ``&&&& FAILED ...``,
    severities are ``[E]``, ``[W]`` and ``[I]`` behind the time. The first error is the cause of
    those that follow. ``--help`` gives no verdict.
    """
    verdicts = re.findall(r"^&&&& (PASSED|FAILED) TensorRT\.trtexec", said, re.M)
    if verdicts == ["PASSED"] or (not verdicts and "=== Help ===" in said):
        return ""
    errors = re.findall(r"^(?:\[[\d/:-]+\] )?\[E\] *(\S.*)", said, re.M)
    lines = said.strip().splitlines() or ["it said nothing"]
    return str((errors or lines[-1:])[0])


def trtexec_version(said: str) -> str:
    """``10.3.0`` of ``[TensorRT v100300]``, ``8.6.1`` of ``[TensorRT v8601]``.

    NvInferVersion.h: major, minor and patch are 10000, 100 and 1 from 10 on, 1000, 100 and 1
    before. It is in the first line from 8.0 on.
    """
    found = re.search(r"^&&&& RUNNING TensorRT\.trtexec \[TensorRT v(\d+)\]", said, re.M)
    if not found:
        raise Failure("trtexec", "trtexec does not tell its version as TensorRT 8 and newer do")
    digits = found.group(1)
    major, rest = divmod(int(digits), 10_000 if len(digits) > len("8601") else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def trtexec_types(version: str, recipe: Event) -> list[str]:
    """What has it compute in the graph's own types.

    ``--stronglyTyped`` does from 10 on. Before, types that are allowed besides float32 are named,
    and up to 8.3 there are only 16 MB to work in unless more is asked for (``--workspace``).
    """
    release = tuple(map(int, version.split(".")))
    if release >= STRONGLY_TYPED:
        return ["--stronglyTyped"]
    types = {"float16": ["--fp16"], "static": ["--int8"]}
    mode = (recipe.get("quantization") or {"mode": "none"})["mode"]
    return types.get(mode, []) + (["--workspace=1024"] if release < ROOMY else [])


def trtexec_built(
    tool: str, version: str, model: Path, manifest: Event, folder: Path
) -> float | None:
    """Build the engine, and keep it with its log; how long that took, None: it was there."""
    engine, partial = folder / "model.engine", folder / "model.engine.partial"
    if engine.is_file():
        return None
    words = [f"--onnx={model.resolve()}", f"--saveEngine={partial}"]
    words += trtexec_types(version, manifest["recipe"])
    try:
        took_ns = elapsed_ns(lambda: trtexec_says(tool, [*words, *ONCE], folder, "build.log"))
    except Failure as failure:
        why = f"{failure}; all that it said is in {folder / 'build.log'}"
        raise Failure("trtexec", why) from failure
    try:
        partial.rename(engine)
    except OSError as error:
        raise Failure("trtexec", "trtexec passed, and wrote no engine") from error
    return took_ns / 1e9


def trtexec_golden(
    tool: str, engine: Sequence[str], arguments: argparse.Namespace, manifest: Event
) -> float:
    """The largest error of all golden outputs, none of which is beyond what is allowed."""
    artifact, vectors, folder = manifest["artifact"], manifest["golden"], arguments.trace
    sides = [
        [Samples(arguments.bundle / name) for name in vectors[side]]
        for side in ("inputs", "outputs")
    ]
    worst = 0.0
    for inputs, wanted in zip(zip(*sides[0]), zip(*sides[1])):
        loaded = trtexec_inputs(artifact["inputs"], inputs, folder)
        words = [*engine, loaded, "--exportOutput=outputs.json", *ONCE]
        trtexec_says(tool, words, folder)
        got = trtexec_outputs(read_text(str(folder / "outputs.json")))
        for binding, values, allowed in zip(artifact["outputs"], wanted, vectors["tolerances"]):
            name, affine = binding["artifact"]["name"], binding["quantization"]
            array = numpy().array(got.get(name, []), values.dtype)
            if array.size != values.size:
                raise Failure("trtexec", f"trtexec gives no {values.size} values of {name!r}")
            error = largest_error(array.reshape(values.shape), values, affine)
            written = TRTEXEC_DIGITS * float(numpy().abs(real(values, affine)).max(initial=0.0))
            if not error <= allowed + written:
                raise Failure(
                    "trtexec",
                    f"output {name!r} of the engine that trtexec built is off by {error:g} where "
                    f"{allowed:g} is allowed; no figure is reported",
                )
            worst = max(worst, error)
    return worst


def trtexec_inputs(bindings: Sequence[Event], samples: Sequence[Any], folder: Path) -> str:
    """Write raw samples, and name them: ``--loadInputs='name':file,...``, quoted for its colons."""
    specs = []
    for i, (binding, sample) in enumerate(zip(bindings, samples)):
        sample.tofile(str(folder / f"input_{i}.bin"))
        specs.append(f"'{binding['artifact']['name']}':input_{i}.bin")
    return f"--loadInputs={','.join(specs)}"


def trtexec_outputs(text: str) -> Dict[str, list[float]]:
    """What ``--exportOutput`` writes (``exportJSONOutput``): name -> the values, flat."""
    text = re.sub(r"(?<=[\[,\s]|-)(nan|inf)(?=[\s,\]])", lambda m: ODD_NUMBERS[m[0]], text)
    try:
        return {one["name"]: [float(v) for v in one["values"]] for one in json.loads(text)}
    except (ValueError, KeyError, TypeError) as error:
        raise Failure("trtexec", f"trtexec's outputs make no sense: {error!r}") from error


def trtexec_timed(tool: str, engine: Sequence[str], arguments: argparse.Namespace) -> list[int]:
    """Nanoseconds of each run in a process of its own, on golden sample 0."""
    folder, warmup_ms = arguments.trace, max(1, math.ceil(1000 * arguments.warmup_seconds))
    times = folder / "times.json"
    times.unlink(missing_ok=True)
    words = [
        f"--iterations={arguments.runs}",
        f"--duration={max(1, math.ceil(arguments.seconds))}",
        f"--warmUp={warmup_ms}",
        f"--exportTimes={times.name}",
    ]
    said = trtexec_says(tool, [*engine, *words], folder)
    return trtexec_samples(read_text(str(times)), said, warmup_ms)


def trtexec_samples(trace: str, said: str, warmup_ms: float) -> list[int]:
    """Nanoseconds of each run, of what ``--exportTimes`` writes.

    ``sampleReporting.cpp``, ``exportJSONTrace``: ``latencyMs`` is a query's time of transfer in,
    computing and transfer out. Older releases have the warm-up among them: all that began before
    its end. The summary's ``Latency: min = ... ms, ..., median = ... ms`` is of the same runs, and
    has to agree: if one day the units change, it is noticed.
    """
    try:
        runs = [run for run in json.loads(trace) if run["startComputeMs"] >= warmup_ms]
        taken = [round(1e6 * run["latencyMs"]) for run in runs]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Failure("trtexec", f"trtexec's times make no sense: {error!r}") from error
    found = re.search(r"^(?:\[[^]]*\] )*Latency: .*?\bmedian = ([\d.e+-]+) ms\b", said, re.M)
    if not found or not taken or min(taken) <= 0:
        raise Failure("trtexec", "trtexec passed, and told no latency in milliseconds")
    median, told = statistics.median(taken) / 1e6, float(found.group(1))
    if abs(median - told) > 0.01 * told:
        why = f"its runs have a median of {median:g} ms, its summary says {told:g}"
        raise Failure("trtexec", f"trtexec contradicts itself: {why}")
    return taken[: MAX_SAMPLES // TRTEXEC_PROCESSES]


PARTS: dict[str, Any] = {
    "golden": golden,
    "measure": measure,
    "take_turns": take_turns,
    "memory": memory,
    "energy": energy,
    "profile": profile,
    "trtexec": trtexec,
    "sustain": sustain,
}
PASSES = ("memory", "energy", "profile", "trtexec", "sustain")  # what heats comes last
TRACED = ("golden", "profile", "trtexec")


def child(emit: Events, arguments: argparse.Namespace) -> None:
    end_when_stdin_closes(end_session, TURN.release)
    PARTS[arguments.part](emit, arguments)


def end_session() -> None:
    """End a part with all that it has started."""
    if os.getsid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)


# ------------------------------------------------------------------------- supervisor


def bench(emit: Events, arguments: argparse.Namespace) -> None:
    """Compare the golden vectors, then measure; every part in a process of its own."""
    supervise(emit, arguments, Parts(arguments))


def supervise(emit: Events, arguments: argparse.Namespace, parts: Parts) -> None:
    """A whole bench, whatever runs its parts."""
    end_when_stdin_closes(parts.kill)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with locked(emit, arguments.lock, arguments.lock_wait) as device_lock:
        check_what_counts(arguments.bundle)
        for said in parts.prepare():
            emit(said)
        tell_golden(emit, parts)
        before, usage, counting = state(), Usage(), []
        for _ in range(arguments.processes):
            told = parts.run("measure")
            counting += told.pop("counting_ns", [])
            emit(told)
        after, others = {**state(), **parts.state()}, usage.by_others()
        counted = beside_earlier(counting, arguments, after)
        for part in parts.last:
            emit({"event": "phase", "name": f"the {part} pass"})
            emit(parts.run(part))
    seen = {"background_cores": others, "device_lock": device_lock, **counted}
    emit({"event": "environment", "before": before, "after": after, **seen, **clocks()})
    emit({"event": "done"})


def beside_earlier(counting: list[int], arguments: argparse.Namespace, now: Event) -> Event:
    """What counting took beside the runs, and the least that it took beside an earlier bench.

    A bench may fall as a whole into a time when a neighbour on the host slows everything down,
    evenly; only other times tell. They are kept in the working folder, apart by what else
    decides how fast this interpreter counts.
    """
    if not counting or arguments.lock is None:
        return {}
    place, mine = arguments.lock.parent / "counting.json", middle(counting)
    alike = [platform.python_version(), arguments.threads, arguments.cpu]
    key = json.dumps([*alike, now["power_mode"], now["frequency_cap_khz"]])
    kept = earlier_counting(place)
    known = [*kept.get(key, []), mine][-REMEMBERED:]
    with contextlib.suppress(OSError):
        aside = place.with_name(".counting.part")
        aside.write_text(json.dumps({**kept, key: known}), encoding="utf-8")
        aside.replace(place)
    return {"counting_ns": mine, "least_counting_ns": min(known)}


def earlier_counting(place: Path) -> Dict[str, list[int]]:
    """What was kept; nothing where that makes no sense."""
    try:
        kept = json.loads(read_text(str(place)) or "{}")
        return {str(key): [int(one) for one in known if one > 0] for key, known in kept.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def tell_golden(emit: Events, parts: Parts) -> None:
    """Compare the golden vectors; where they do not agree, nothing comes after."""
    compared = parts.run("golden")
    placement = compared.pop("placement", None)
    emit(compared)
    check_golden(compared)
    if placement:
        emit({"event": "placement", **placement})


def duel(emit: Events, arguments: argparse.Namespace) -> None:
    """Measure two bundles window by window in turn, in pair after pair of fresh processes.

    Only one of the two computes at any time. Windows are so short that what the device does
    meanwhile is done to both; it is the ratio of neighbouring ones that this is for.
    """
    both = [Parts(one_of(arguments, which)) for which in (0, 1)]

    def kill() -> None:
        for parts in both:
            parts.kill()

    end_when_stdin_closes(kill)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with locked(emit, arguments.lock, arguments.lock_wait) as device_lock:
        for which, parts in enumerate(both):
            emit({"event": "turn", "of": which})
            check_what_counts(arguments.bundle[which])
            tell_golden(emit, parts)
        before, usage = state(), Usage()
        for number in range(arguments.processes):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            told = duelled(emit, both, order, windows_each(arguments.seconds))
            for which in (0, 1):
                emit({"event": "turn", "of": which})
                emit(told[which])
        after, others = state(), usage.by_others()
    seen = {"background_cores": others, "device_lock": device_lock}
    emit({"event": "environment", "before": before, "after": after, **seen, **clocks()})
    emit({"event": "done"})


def one_of(arguments: argparse.Namespace, which: int) -> argparse.Namespace:
    """What one of the two was given."""
    own = {name: getattr(arguments, name)[which] for name in OF_EACH}
    return argparse.Namespace(**{**vars(arguments), **own})


def duelled(
    emit: Events, both: Sequence[Parts], order: tuple[int, int], windows: int
) -> Dict[int, Event]:
    """What the two of one pair tell in the end; they begin in ``order``, then in turn."""
    told: Dict[int, Any] = {}
    with contextlib.ExitStack() as running:
        pair = {}
        for which in order:
            pair[which] = running.enter_context(both[which].started("take_turns"))
            with naming(emit, which):
                pair[which].proceed()
        for number in range(windows):
            for which in order if number % 2 == 0 else order[::-1]:
                with naming(emit, which):
                    told[which] = pair[which].turn()
    return told


@contextlib.contextmanager
def naming(emit: Events, which: int) -> Iterator[None]:
    """Say whose failure it is; to say it each time would disturb what is being measured."""
    try:
        yield
    except Failure:
        emit({"event": "turn", "of": which})
        raise


def check_what_counts(bundle: Path) -> None:
    """The artifact and the golden vectors are what was bundled, at this very moment."""
    manifest = read_manifest(bundle)
    try:
        artifact, vectors = manifest["artifact"], manifest["golden"]
        # A package is a folder; what lies in it is listed.
        parts = [f"{artifact['path']}/{part}" for part in artifact.get("parts", ())]
        names = [*(parts or [artifact["path"]]), *artifact["extra_files"]]
        names += [*vectors["inputs"], *vectors["outputs"]]
    except (KeyError, TypeError) as error:
        raise Failure("bundle", f"{MANIFEST} is malformed: {error!r}") from error
    check_digests(bundle, manifest["digests"], names)


def check_golden(event: Event) -> None:
    if not event["passed"]:
        message = (
            "output {worst_output!r} is off by {worst_error} where {tolerance} is allowed "
            "({runtime[name]} {runtime[version]})"
        )
        hint = "this runtime computes something else than the one the artifact was validated on"
        raise Failure("golden", message.format(**event), hint)


@contextlib.contextmanager
def locked(emit: Events, path: Path | None, wait_s: float) -> Iterator[str | None]:
    """Hold a working folder's lock and the device's, which others have from other folders.

    Yields the device's; None: there is none to be had here, which is said. Both fall with the
    process, however that ends.
    """
    if path is None:
        yield None
        return
    deadline = time.monotonic() + wait_s
    with contextlib.ExitStack() as held:
        try:
            file = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            hold(emit, held, file, deadline)
        except OSError as error:
            raise Failure("device", f"cannot open the lock {path}: {error.strerror}") from error
        yield hold_device(emit, held, deadline)


def hold_device(emit: Events, held: contextlib.ExitStack, deadline: float) -> str | None:
    path = os.environ.get("EDGEKIT_DEVICE_LOCK", DEVICE_LOCK)
    try:
        hold(emit, held, open_to_all(path), deadline)
    except OSError as error:
        why = f"others here are not kept from measuring, too: {path}: {error.strerror}"
        emit({"event": "phase", "name": why})
        return None
    return path


def open_to_all(path: str) -> int:
    """Open a lock that every user of this device can hold: reading is all that it takes.

    Creating is tried only where there is none: Linux refuses that of another's file in a
    folder such as /tmp (docs.kernel.org/admin-guide/sysctl/fs.html, ``protected_regular``).
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    file = os.open(path, flags | os.O_CREAT)
    os.fchmod(file, 0o444)
    return file


def hold(emit: Events, held: contextlib.ExitStack, file: int, deadline: float) -> None:
    """Lock an open file, which stays so as long as the context does."""
    held.callback(os.close, file)
    others = "another benchmark or installation runs on this device"
    if try_lock(file):
        return
    emit({"event": "phase", "name": f"waiting: {others}"})
    while not try_lock(file):
        if time.monotonic() >= deadline:
            raise Failure(
                "busy", others, "wait for it to end: two at once would both measure wrong"
            )
        time.sleep(LOCK_POLL_S)


def try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Parts:
    """Runs the parts one after another and outlives whatever happens to them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._options = [str(arguments.bundle)] + (["--cpu"] if arguments.cpu else [])
        for name in OPTIONS_OF_A_PART:
            if getattr(arguments, name) is not None:
                self._options += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
        self._python = getattr(arguments, "python", None) or sys.executable
        self.last = [part for part in PASSES if part in arguments.passes.split(",")]
        self._deadline = time.monotonic() + arguments.deadline
        self._process: subprocess.Popen[bytes] | None = None
        self._bundle, self._lock = arguments.bundle, arguments.lock
        self._trace: Path | None = None

    def prepare(self) -> Iterator[Event]:
        """What has to be done before the first part; yields what there is to say of it."""
        return iter(())

    def state(self) -> Event:
        """What the parts told of the device's state, once they are done."""
        return {}

    def argv(self, part: str) -> list[str]:
        """The command that does one part."""
        trace = ["--trace", str(self._trace)] if self._trace else []
        runner = str(Path(__file__).resolve())
        return [self._python, runner, "_child", part, *self._options, *trace]

    def report(self, part: str) -> Report:
        return Report(part)

    def run(self, part: str) -> Event:
        """Run one part to its end; returns the event it reported.

        Raises:
            Failure: the part's own, or ``crashed``, ``hung``, ``flooded`` or ``garbled``.
        """
        with self.started(part) as running:
            return running.end()

    @contextlib.contextmanager
    def started(self, part: str) -> Iterator[Running]:
        """A part that has begun; it ends with the context, if it has not by itself."""
        self._trace = self._trace_folder() if part in TRACED else None
        argv, pipe = self.argv(part), subprocess.PIPE
        # The child's standard input closes when this process is gone.
        with subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        ) as self._process:
            try:
                yield Running(self._process, self.report(part), self._deadline)
            finally:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """End the running part, all it started and its trace; harmless when it has ended."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._drop_trace()

    def _drop_trace(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None:
            shutil.rmtree(str(trace), ignore_errors=True)

    def _trace_folder(self) -> Path | None:
        """A folder for what a part's runtime writes down; None: it does not, or nowhere.

        The work folder's staging, where what a killed bench leaves is swept.
        """
        kind = read_manifest(self._bundle)["artifact"]["format"]
        if not hasattr(ADAPTERS.get(kind), "traced"):
            return None
        staging = self._lock.parent / "staging" if self._lock else Path(tempfile.gettempdir())
        try:
            staging.mkdir(mode=0o700, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="trace-", dir=str(staging)))
        except OSError:
            return None


class Running:
    """A part at work, in a process of its own; it may be one that waits for its turns."""

    def __init__(self, process: subprocess.Popen[bytes], report: Report, deadline: float) -> None:
        self._process, self._report, self._deadline = process, report, deadline

    def proceed(self) -> Event | None:
        """Follow it until it waits for its turn; or to its end, for the event it reported."""
        status = self._report.follow(self._process, self._deadline)
        return None if status is None else self._report.conclude(status)

    def turn(self) -> Event | None:
        """Let it have its turn."""
        self._report.doing = "measuring"
        with contextlib.suppress(BrokenPipeError):  # it has ended: the report tells how
            os.write(self._process.stdin.fileno(), b"\n")  # type: ignore[union-attr]
        return self.proceed()

    def end(self) -> Event:
        """Follow a part that never waits to its end."""
        event = self.proceed()
        if event is None:
            raise Failure("garbled", f"it is {self._report.doing}, which nobody gives it")
        return event


class Report:
    """What a child says: its events, and the end of its standard error; bounded."""

    def __init__(self, part: str) -> None:
        self.doing = f"starting ({part})"
        self._last: Event = {}
        self._said_bytes, self._line, self.stderr = 0, bytearray(), b""

    def follow(self, process: subprocess.Popen[bytes], deadline: float) -> int | None:
        """Read until the child has closed its outputs and ended; returns its status.

        None: it has not, but waits for its turn.
        """
        with selectors.DefaultSelector() as selector:
            for pipe, add in (
                (process.stdout, self._add_stdout),
                (process.stderr, self._add_stderr),
            ):
                selector.register(pipe, selectors.EVENT_READ, add)  # type: ignore[arg-type]
            while selector.get_map():
                if self.doing == WAITING:
                    return None
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise self._hung()
                for key, _ in ready:
                    chunk = os.read(key.fd, CHUNK_BYTES)
                    key.data(chunk)
                    if not chunk:
                        selector.unregister(key.fileobj)
        try:
            return process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._hung() from None

    def _add_stdout(self, chunk: bytes) -> None:
        self._said_bytes += len(chunk)
        if self._said_bytes > MAX_CHILD_BYTES:
            raise Failure("flooded", f"{MAX_CHILD_BYTES} bytes of output while {self.doing}")
        self._line += chunk
        if b"\n" in chunk:
            *lines, self._line = self._line.split(b"\n")
            for line in lines:
                self.hear(line)

    def hear(self, line: bytearray) -> None:
        try:
            self._last = json.loads(line)
            if self._last["event"] == "phase":
                self.doing = self._last["name"]
        except (ValueError, TypeError, KeyError) as error:
            raise Failure("garbled", f"an answer without sense while {self.doing}") from error

    def _add_stderr(self, chunk: bytes) -> None:
        self.stderr = (self.stderr + chunk)[-STDERR_TAIL_BYTES:]

    def conclude(self, status: int) -> Event:
        """The child's own event; a signal, or no event at the end, is a failure."""
        if status < 0:
            name = signal.Signals(-status).name
            why = ": probably out of memory" if -status == signal.SIGKILL else ""
            raise self._failure("crashed", f"a process ended by {name} while {self.doing}{why}")
        if self._last.get("event") == "error":
            raise Failure(self._last["kind"], self._last["message"], self._last["hint"])
        if status != 0 or self._last.get("event", "phase") == "phase":
            raise self._failure("crashed", f"a process ended ({status}) while {self.doing}")
        return self._last

    def _hung(self) -> Failure:
        return self._failure("hung", f"no answer in time while {self.doing}; it was killed")

    def _failure(self, kind: str, message: str) -> Failure:
        tail = self.stderr.decode("utf-8", "replace").strip()
        return Failure(kind, message, f"the end of its standard error: {tail}" if tail else "")


# ------------------------------------------------------------------------ environment

CPUS = "sys/devices/system/cpu"


def state() -> Event:
    """What decides how fast this device is right now; None where it does not tell."""
    return {
        **heat(),
        "load_average": os.getloadavg()[0],
        "governor": read_text(f"/{CPUS}/cpu0/cpufreq/scaling_governor").strip() or None,
        "throttle_count": sum(numbers(f"{CPUS}/cpu*/thermal_throttle/*_count")),
        "power_mode": power_mode(output_of("nvpmodel", "-q")),
        **jetson_clocks(output_of("jetson_clocks", "--show")),
    }


def heat() -> Event:
    """What changes while it runs hot, and is quickly read."""
    celsius = [value / 1000 for value in numbers("sys/class/thermal/thermal_zone*/temp")]
    return {
        "frequency_khz": highest(numbers(f"{CPUS}/cpu*/cpufreq/scaling_cur_freq")),
        "frequency_cap_khz": highest(numbers(f"{CPUS}/cpu*/cpufreq/scaling_max_freq")),
        "temperature_celsius": highest(celsius),
        "throttle_bits": output_of("vcgencmd", "get_throttled").partition("=")[2] or None,
        "thermal_status": thermal_status(output_of("dumpsys", "thermalservice")),
        "battery_celsius": battery_celsius(output_of("dumpsys", "battery")),
    }


def thermal_status(said: str) -> int | None:
    """How far Android slows the device down, of what ``dumpsys thermalservice`` says.

    AOSP, ``ThermalManagerService.dump``: ``Thermal Status: N``; and ``IsStatusOverride: true``
    where ``cmd thermalservice override-status`` pretends one. 0 to 6 are
    ``PowerManager.THERMAL_STATUS_NONE`` to ``_SHUTDOWN``.
    """
    found = re.search(r"^Thermal Status: ([0-6])\s*$", said, re.M)
    return int(found.group(1)) if found and "IsStatusOverride: true" not in said else None


def battery_celsius(said: str) -> float | None:
    """Of what ``dumpsys battery`` says: ``temperature: 310`` is in tenths of a degree.

    AOSP, ``BatteryService.dump``: it says ``UPDATES STOPPED`` where ``dumpsys battery set``
    pretends another.
    """
    found = re.search(r"^\s*temperature: (-?\d{1,4})\s*$", said, re.M)
    return int(found.group(1)) / 10 if found and "UPDATES STOPPED" not in said else None


def power_mode(said: str) -> str | None:
    """A Jetson's power mode of what ``nvpmodel -q`` says, ``15W (2)``; None of anything else.

    Jetson Linux Developer Guide, "Platform Power and Performance", "nvpmodel": a line
    ``NV Power Mode: NAME``, then one with the mode's number. With ``--verbose`` the name comes
    behind other words, and other lines follow.
    """
    found = re.search(r"NV Power Mode:[ \t]*(\S+)\s*?(?:\n[ \t]*(\d+)[ \t]*(?:\n|$)|$)", said, re.M)
    if not found:
        return None
    name, number = found.groups()
    return f"{name} ({number})" if number else name


def jetson_clocks(said: str) -> Event:
    """A Jetson's clocks of what ``jetson_clocks --show`` says; it tells only the superuser.

    Jetson Linux Developer Guide, "Maximizing Jetson Performance": a line for each core and one
    for the GPU, ``MinFreq=`` and ``MaxFreq=`` in kHz (of the GPU in Hz). The clocks are locked
    when both are the same for whatever is online.
    """
    cores = re.findall(r"cpu\d+:.*?Online=1.*?MinFreq=(\d+) MaxFreq=(\d+)", said)
    gpu = re.findall(r"GPU MinFreq=(\d+) MaxFreq=(\d+)", said)
    ranges = cores + gpu
    return {
        "clocks_locked": all(low == high for low, high in ranges) if ranges else None,
        "gpu_frequency_cap_khz": int(gpu[0][1]) / 1000 if gpu else None,
    }


def numbers(pattern: str) -> list[int]:
    texts = [read_text(str(path)).strip() for path in Path("/").glob(pattern)]
    return [int(text) for text in texts if text.lstrip("-").isdigit()]


def highest(values: Sequence[float]) -> float | None:
    return max(values, default=None)


def clocks() -> Event:
    info = time.get_clock_info("perf_counter")
    source = read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource").strip()
    return {
        "clock": info.implementation,
        "clock_resolution_s": info.resolution,
        "clock_source": source or None,
    }


class Usage:
    """How many cores others keep busy from here on: the system's work less our own."""

    def __init__(self) -> None:
        self._start = time.monotonic(), system_busy_s(), own_busy_s()

    def by_others(self) -> float | None:
        start, system_s, own_s = self._start
        if system_s is None:
            return None
        others_s = (system_busy_s() or 0.0) - system_s - (own_busy_s() - own_s)
        return round(max(0.0, others_s / (time.monotonic() - start)), 3)


def system_busy_s() -> float | None:
    fields = read_text("/proc/stat").partition("\n")[0].split()
    if not fields:
        return None
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / float(os.sysconf("SC_CLK_TCK"))


def own_busy_s() -> float:
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


# ----------------------------------------------------------------------------- energy
#
# A meter has a ``source``, the ``rail`` that it sees, the smallest step that it tells
# (``resolution_w``), how often it is worth reading (``period_s``; 0: to read is to wait), and
# whether it is an ``estimate``. ``reading`` gives the time in seconds and the joules up to then.

Reading = Tuple[float, float]
LEAST_ENERGY_S = 10.0
LEAST_READINGS = 5
FAILED_PERIOD_S = 0.1
LATE_S = 2.0  # a tool that writes ten lines a second has nothing to say
# The rails that feed a whole module, by the names that boards give them; where there is none,
# all are added up.
WHOLE_MODULE = ("VDD_IN", "POM_5V_IN")
ESTIMATES = ("pmic",)  # what it does not see is not little
HWMON, POWERCAP = "sys/class/hwmon", "sys/class/powercap"
OLD_INA3221 = "sys/bus/i2c/drivers/ina3221x"


class Gauge:
    """A sensor of watts: ``read`` gives them, or None when it cannot."""

    resolution_w = 0.001  # milliwatts, or milliamperes of few volts

    def __init__(
        self,
        source: str,
        rails: Iterable[str],
        read: Callable[[], float | None],
        period_s: float,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.source, self.rail, self.period_s = source, " + ".join(rails), period_s
        self.estimate = source in ESTIMATES
        self.close, self._read = close, read
        self._last: Reading | None = None
        self._joules = 0.0

    def reading(self) -> Reading | None:
        watts, now = self._read(), time.monotonic()
        if watts is None:
            return None
        if self._last is not None:
            before, had = self._last
            self._joules += (now - before) * (watts + had) / 2  # the trapezoid rule
        self._last = now, watts
        return now, self._joules


class Rapl:
    """The processor's own count of joules, which starts again from zero at its end.

    docs.kernel.org/power/powercap/powercap.html: ``energy_uj`` counts microjoules up to
    ``max_energy_range_uj``; zones ``intel-rapl:N`` are packages.
    """

    source, estimate, period_s = "rapl", False, 0.5

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = zones
        self._ends = [whole(zone / "max_energy_range_uj") or 2**32 for zone in zones]
        self._last = [whole(zone / "energy_uj") for zone in zones]
        self._joules = 0.0
        self.rail = " + ".join(read_text(str(zone / "name")).strip() for zone in zones)
        self.resolution_w = 1e-6 / self.period_s

    def reading(self) -> Reading | None:
        now = [whole(zone / "energy_uj") for zone in self._zones]
        for before, after, end in zip(self._last, now, self._ends):
            if before is None or after is None:
                return None
            # It is read far more often than it wraps, which takes many minutes.
            self._joules += ((after - before) if after >= before else after + end - before) / 1e6
        self._last = now
        return time.monotonic(), self._joules

    def close(self) -> None:
        """Nothing is held."""


def whole(path: Path) -> int | None:
    """A whole number in a file of the kernel's; None where there is none to read."""
    text = read_text(str(path)).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def tegrastats_watts(line: str) -> dict[str, float]:
    """The rails of one line of ``tegrastats``, in watts.

    Jetson Linux Developer Guide, "tegrastats Utility", "Reported Statistics": ``NAME X/Y`` or,
    in newer releases, ``NAME XmW/YmW``, the present and the average milliwatts.
    """
    found = re.findall(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?=\s|$)", line)
    return {name: int(now) / 1000 for name, now, _ in found if name not in ("RAM", "SWAP", "IRAM")}


def pmic_watts(said: str) -> dict[str, float]:
    """The rails of ``vcgencmd pmic_read_adc`` (Raspberry Pi 5) that tell volts and amperes.

    raspberrypi.com/documentation/computers/os.html#vcgencmd: ``NAME_A current(N)=XA`` and
    ``NAME_V volt(N)=XV``. EXT5V, the whole board's, has no current: what USB and the HATs take
    is in none of them.
    """
    found = re.findall(r"(\w+)_([AV]) (?:current|volt)\(\d+\)=(\d+\.?\d*)[AV]\b", said)
    values = {(name, unit): float(value) for name, unit, value in found}
    return {
        name: values[name, "V"] * amperes
        for (name, unit), amperes in values.items()
        if unit == "A" and (name, "V") in values
    }


def whole_module(rails: Dict[str, Any]) -> Dict[str, Any]:
    """The rail that feeds all the others, where a board has it; else all of them."""
    for name in WHOLE_MODULE:
        if name in rails:
            return {name: rails[name]}
    return rails


def ina3221_rails(root: Path) -> Dict[str, Callable[[], float | None]]:
    """The rails of a board's INA3221 monitors: name -> watts.

    docs.kernel.org/hwmon/ina3221.html: ``inN_label``, ``inN_input`` in mV and ``currN_input`` in
    mA for N of 1 to 3. Jetson Linux up to 32 has a driver of its own: ``rail_name_N``, and
    ``in_powerN_input`` in mW. What is not connected is called ``NC``.
    """
    rails: Dict[str, Callable[[], float | None]] = {}
    for name in sorted(root.glob(f"{HWMON}/hwmon*/name")):
        for n in "123" if read_text(str(name)).strip() == "ina3221" else "":
            label = read_text(str(name.parent / f"in{n}_label")).strip()
            factors = name.parent / f"in{n}_input", name.parent / f"curr{n}_input"
            rails[label] = functools.partial(product, factors, 1e-6)
    for path in sorted(root.glob(f"{OLD_INA3221}/*/iio:device*/rail_name_*")):
        power = path.with_name(f"in_power{path.name[-1]}_input")
        rails[read_text(str(path)).strip()] = functools.partial(product, (power,), 1e-3)
    return {
        name: read for name, read in rails.items() if name not in ("", "NC") and read() is not None
    }


def product(paths: Sequence[Path], unit: float) -> float | None:
    values = [whole(path) for path in paths]
    return None if None in values else math.prod(value or 0 for value in values) * unit


def ina3221(root: Path) -> Gauge | None:
    rails = whole_module(ina3221_rails(root))
    return (
        Gauge("ina3221", rails, lambda: added(r() for r in rails.values()), 0.05) if rails else None
    )


def tegrastats(_root: Path) -> Gauge | None:
    """Watts of a line of ``tegrastats``, which writes one each tenth of a second."""
    tool = shutil.which("tegrastats")
    if tool is None:
        return None
    argv, pipe = [tool, "--interval", "100"], subprocess.PIPE
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, bufsize=0)
    lines: Any = process.stdout

    def line() -> Dict[str, float]:
        """The next line; those that came while nobody read are of then, and not of now."""
        while select.select([lines], [], [], 0)[0] and lines.readline():
            pass
        said = lines.readline() if select.select([lines], [], [], LATE_S)[0] else b""
        return tegrastats_watts(said.decode("utf-8", "replace"))

    def close() -> None:
        process.kill()
        process.communicate()

    rails = list(whole_module(line()))
    if not rails:
        close()
        return None
    return Gauge("tegrastats", rails, lambda: added(map(line().get, rails)), 0.0, close)


def pmic(_root: Path) -> Gauge | None:
    """Watts of a Raspberry Pi 5's rails, each reading a process of its own."""

    def now() -> Dict[str, float]:
        return pmic_watts(output_of("vcgencmd", "pmic_read_adc"))

    rails = list(now())
    return Gauge("pmic", rails, lambda: added(map(now().get, rails)), 0.25) if rails else None


def rapl(root: Path) -> Rapl | None:
    zones = rapl_packages(root)
    known = zones and all(whole(zone / "energy_uj") is not None for zone in zones)
    return Rapl(zones) if known else None


def rapl_packages(root: Path) -> list[Path]:
    """The zone of the whole platform, else those of processors; inner ones have two colons."""
    zones = sorted(root.glob(f"{POWERCAP}/intel-rapl:*"))
    outer = [zone for zone in zones if zone.name.count(":") == 1]
    platform_ = [zone for zone in outer if read_text(str(zone / "name")).strip() == "psys"]
    return platform_ or outer


METERS = (ina3221, tegrastats, pmic, rapl)  # the nearest to the whole device first


def best_meter(root: Path = Path("/")) -> tuple[Any, str]:
    """The best sensor there is, ready to be read; or None, and why there is none."""
    for make in METERS:
        meter = make(root)
        if meter is not None:
            return meter, ""
    if rapl_packages(root):
        return None, "the processor counts its joules, but tells them to the superuser only"
    return None, "there is no sensor"


def added(watts: Iterable[float | None]) -> float | None:
    values = list(watts)
    return None if None in values else sum(value or 0.0 for value in values)


def metered(meter: Any, action: Callable[[], Any]) -> tuple[Event | None, Any]:
    """What something takes in watts, read in a thread beside it; and what it returns."""
    readings, ended = [meter.reading()], threading.Event()

    def read() -> None:
        while not ended.wait(meter.period_s if readings[-1] else FAILED_PERIOD_S):
            readings.append(meter.reading())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        done = action()
    finally:
        ended.set()
        thread.join()
    readings.append(meter.reading())
    return averaged([reading for reading in readings if reading is not None]), done


def averaged(readings: Sequence[Reading]) -> Event | None:
    """The mean watts over all of the time, and how much they changed from reading to reading.

    None: too few readings to tell.
    """
    steps = [
        (joules - before) / (at - begun)
        for (begun, before), (at, joules) in zip(readings, itertools.islice(readings, 1, None))
        if at > begun
    ]
    if len(steps) < LEAST_READINGS:
        return None
    (begun, before), (ended, joules) = readings[0], readings[-1]
    return {
        "seconds": round(ended - begun, 3),
        "watts": (joules - before) / (ended - begun),
        "deviation_w": statistics.stdev(steps),
        "readings": len(readings),
    }


# ----------------------------------------------------------------------- command line


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is an event like every other failure."""

    def error(self, message: str) -> Any:
        raise Failure("usage", message, self.format_usage().strip())


def parser() -> Parser:
    top = Parser(prog="edgekit_runner", description=(__doc__ or "").partition("\n")[0])
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    command(commands, facts)
    command(commands, verify).add_argument("bundle", type=Path)
    describing = command(commands, describe)
    inferring = command(commands, infer)
    inferring.add_argument("--input", type=Path, action="append", required=True)
    inferring.add_argument("--input-name", action="append", help="of the --input at its place")
    inferring.add_argument("--output-dir", type=Path, required=True)
    sweeping = command(commands, sweep)
    sweeping.add_argument("models", type=Path, help="JSON: names beside this file")
    sweeping.add_argument("--rounds", type=int, default=3, help="calm windows of each model")
    sweeping.add_argument(
        "--window", type=float, default=0.012, help="seconds, per model and round"
    )
    sweeping.add_argument("--seconds", type=float, default=60.0, help="no round begins after this")
    add_runtime_arguments(sweeping)
    for one in (describing, inferring, command(commands, peak)):
        one.add_argument("model", type=Path)
        add_runtime_arguments(one)
    benching, dueling = command(commands, bench), command(commands, duel)
    for one in (benching, dueling):
        one.add_argument("--processes", type=int, default=5, help="of each, one after another")
    for one in (benching, dueling, sweeping):
        add_visit_arguments(one)
    part = command(commands, child, "_child")
    part.add_argument("part", choices=sorted(PARTS))
    part.add_argument("--trace", type=Path, help="a folder for what the runtime writes down")
    for one in (benching, part):
        add_bench_arguments(one)
    add_bench_arguments(dueling, of_each=2)
    dueling.add_argument("--python", nargs=2, default=(None, None), help="(this one)")
    return top


def command(commands: Any, function: Callable[..., None], name: str = "") -> Parser:
    made: Parser = commands.add_parser(name or function.__name__, help=function.__doc__)
    made.set_defaults(function=function)
    return made


def add_runtime_arguments(to: Parser) -> None:
    to.add_argument("--runtime", choices=sorted(ADAPTERS), required=True)
    to.add_argument("--module", help="the Python module to take the runtime from")
    to.add_argument("--threads", type=int, default=1)
    to.add_argument("--delegate")


def add_visit_arguments(to: Parser) -> None:
    to.add_argument("--lock", type=Path)
    to.add_argument("--lock-wait", type=float, default=5.0, help="seconds")
    to.add_argument("--deadline", type=float, default=600.0, help="seconds, for all of it")


def add_bench_arguments(to: Parser, of_each: int | None = None) -> None:
    none = of_each and (None,) * of_each
    to.add_argument("bundle", type=Path, nargs=of_each)
    to.add_argument(
        "--threads", type=int, nargs=of_each, default=none, help="the recipe's when not given"
    )
    to.add_argument(
        "--module", nargs=of_each, default=none, help="the Python module to take the runtime from"
    )
    to.add_argument("--runs", type=int, default=50, help="at least, per process")
    to.add_argument("--seconds", type=float, default=1.0, help="at least, per process")
    to.add_argument("--warmup-runs", type=int, default=3)
    to.add_argument("--warmup-seconds", type=float, default=0.5)
    to.add_argument("--cpu", action="store_true", help="leave the accelerator alone")
    to.add_argument("--energy-seconds", type=float, default=LEAST_ENERGY_S, help="10 at least")
    to.add_argument("--engines", type=Path, help="where engines built on this device are kept")
    to.add_argument("--sustain-seconds", type=float, default=600.0)
    to.add_argument("--passes", default="memory", help=f"some of {','.join(PASSES)}")


OF_EACH = ("bundle", "threads", "module", "python")  # what the two of a duel have of their own
OPTIONS_OF_A_PART = (
    *("runs", "seconds", "warmup_runs", "warmup_seconds", "threads", "module"),
    *("energy_seconds", "sustain_seconds", "engines"),
)


def main(argv: list[str] | None = None, parser: Callable[[], Parser] = parser) -> int:
    emit = Events()
    try:
        arguments = parser().parse_args(argv)
        arguments.function(emit, arguments)
    except Failure as failure:
        traceback.print_exc()
        emit(failure.event)
        return 1
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {first_words(error)}"
        emit({"event": "error", "kind": "internal", "message": message, "hint": ""})
        return 1
    return 0


if __name__ == "__main__":
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # a bundle's folder: what lies in it must not be imported by accident
    sys.exit(main())
