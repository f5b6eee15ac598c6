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
import fcntl
import functools
import gc
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import resource
import select
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Sequence

MANIFEST = "manifest.json"
CHUNK_BYTES = 1 << 20
MAX_CHILD_BYTES = 32 << 20  # what a child may say: a million samples take some 10 MB
MAX_SAMPLES = 1_000_000  # per process: a model this fast has been measured well enough
STDERR_TAIL_BYTES = 2048
MEMORY_RUNS = 3
VISITS_A_ROUND = 4
COUNTED = 1000
CALM = 1.06
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


def end_when_stdin_closes(clean_up: Callable[[], None]) -> None:
    """Clean up and leave the process at once when whoever started it has gone.

    A network that fails closes nothing: who has begun to send signs of life has gone, too,
    when they stop coming.
    """

    def wait() -> None:
        silence_s = None
        with contextlib.suppress(OSError):
            while select.select([0], [], [], silence_s)[0]:
                if not os.read(0, 4096):
                    break
                silence_s = SILENCE_S
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
    def __init__(self, modules: Sequence[str], threads: int, delegate: str | None) -> None:
        self.identity, self._module = import_first(modules or ["onnxruntime"], str)
        self._threads, self._delegate = threads, delegate
        available = self._module.get_available_providers()
        if delegate and delegate not in available:
            raise missing_delegate(delegate, f"this onnxruntime has {', '.join(available)}")

    def load(self, path: Path) -> None:
        options = self._module.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        providers = [self._delegate] if self._delegate else []
        providers.append("CPUExecutionProvider")
        self._session = self._module.InferenceSession(str(path), options, providers=providers)
        # onnxruntime falls back to the CPU without an error when a provider does not start.
        if self._delegate and self._delegate not in self._session.get_providers():
            raise missing_delegate(self._delegate, "it is installed but did not start")

    def details(self) -> list[list[Event]]:
        sides = self._session.get_inputs(), self._session.get_outputs()
        return [[onnx_detail(value) for value in side] for side in sides]

    def step(self, samples: Sequence[Any]) -> Step:
        inputs, outputs = [[detail["name"] for detail in side] for side in self.details()]
        return functools.partial(self._session.run, outputs, dict(zip(inputs, samples)))


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
        self._threads = threads
        self._delegates = [self._load_delegate(delegate)] if delegate else None

    def _load_delegate(self, delegate: str) -> Any:
        reasons = []
        for library in DELEGATE_LIBRARIES.get(delegate, ()):
            try:
                return self._module.load_delegate(library)
            except (ValueError, OSError) as error:
                reasons.append(first_words(error))
        raise missing_delegate(delegate, "; ".join(reasons) or "the runner does not know it")

    def load(self, path: Path) -> None:
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


def load(runtime: Any, path: Path) -> None:
    if not path.is_file():
        raise Failure("model", f"no such model: {path}")
    try:
        runtime.load(path)
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

    def __init__(self, emit: Events, arguments: argparse.Namespace) -> None:
        self._emit, self.bundle = emit, arguments.bundle
        self.manifest = read_manifest(arguments.bundle)
        self.artifact = self.manifest["artifact"]
        self.phase("importing the runtime")
        self.runtime = self._imported(arguments)
        self.phase("loading the model")
        self.load_ns = elapsed_ns(lambda: load(self.runtime, self.bundle / self.artifact["path"]))

    def _imported(self, arguments: argparse.Namespace) -> Any:
        kind = self.artifact["format"]
        if kind not in ADAPTERS:
            raise Failure("runtime-missing", f"the runner cannot run artifacts of format {kind!r}")
        modules = [arguments.module] if arguments.module else list(self.manifest["runtimes"])
        threads = arguments.threads or self.manifest["recipe"]["threads"]
        delegate = None if arguments.cpu else self.manifest["delegate"]
        return ADAPTERS[kind](modules, threads, delegate)

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
    """Compare this device's outputs with the bundle's."""
    visit = Visit(emit, arguments)
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
    emit({**verdict, "sample_count": vectors["sample_count"], "runtime": visit.runtime.identity})


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
    step = visit.first_step()
    visit.phase("running for the first time")
    first_inference_ns = elapsed_ns(step)
    gc.collect()
    gc.disable()
    visit.phase("warming up")
    timed(step, arguments.warmup_runs, arguments.warmup_seconds)
    visit.phase("measuring")
    samples = timed(step, arguments.runs, arguments.seconds)
    emit(
        {
            "event": "process",
            "first_load_ns": visit.load_ns,
            "first_inference_ns": first_inference_ns,
            "samples_ns": samples.tolist(),
        }
    )


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
    with locked(arguments.lock, arguments.lock_wait):
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
    """What counting takes at its best; not its one luckiest moment: one in ten was faster."""
    taken = sorted(w.counting_ns for seen in windows.values() for w in seen)
    return taken[len(taken) // 10] if taken else 0


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


PARTS = {"golden": golden, "measure": measure, "memory": memory}


def child(emit: Events, arguments: argparse.Namespace) -> None:
    end_when_stdin_closes(lambda: None)
    PARTS[arguments.part](emit, arguments)


# ------------------------------------------------------------------------- supervisor


def bench(emit: Events, arguments: argparse.Namespace) -> None:
    """Compare the golden vectors, then measure; every part in a process of its own."""
    supervise(emit, arguments, Parts(arguments))


def supervise(emit: Events, arguments: argparse.Namespace, parts: Parts) -> None:
    """A whole bench, whatever runs its parts."""
    end_when_stdin_closes(parts.kill)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with locked(arguments.lock, arguments.lock_wait):
        check_what_counts(arguments.bundle)
        for said in parts.prepare():
            emit(said)
        compared = parts.run("golden")
        emit(compared)
        check_golden(compared)
        before, usage = state(), Usage()
        for _ in range(arguments.processes):
            emit(parts.run("measure"))
        after, others = {**state(), **parts.state()}, usage.by_others()
        for part in parts.last:
            emit(parts.run(part))
    seen = {"before": before, "after": after, "background_cores": others, **clocks()}
    emit({"event": "environment", **seen})
    emit({"event": "done"})


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
def locked(path: Path | None, wait_s: float) -> Iterator[None]:
    """Hold the device's lock; it falls with the process, however that ends."""
    if path is None:
        yield
        return
    try:
        file = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Failure("device", f"cannot open the lock {path}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + wait_s
        while not try_lock(file):
            if time.monotonic() >= deadline:
                hint = "wait for it to end: two at once would both measure wrong"
                raise Failure("busy", f"another benchmark holds {path}", hint)
            time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(file)


def try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Parts:
    """Runs the parts one after another and outlives whatever happens to them."""

    last: Sequence[str] = ("memory",)  # after the measuring processes

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._options = [str(arguments.bundle)] + (["--cpu"] if arguments.cpu else [])
        for name in ("runs", "seconds", "warmup_runs", "warmup_seconds", "threads", "module"):
            if getattr(arguments, name) is not None:
                self._options += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
        self._deadline = time.monotonic() + arguments.deadline
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> Iterator[Event]:
        """What has to be done before the first part; yields what there is to say of it."""
        return iter(())

    def state(self) -> Event:
        """What the parts told of the device's state, once they are done."""
        return {}

    def argv(self, part: str) -> list[str]:
        """The command that does one part."""
        return [sys.executable, str(Path(__file__).resolve()), "_child", part, *self._options]

    def report(self, part: str) -> Report:
        return Report(part)

    def run(self, part: str) -> Event:
        """Run one part to its end; returns the event it reported.

        Raises:
            Failure: the part's own, or ``crashed``, ``hung``, ``flooded`` or ``garbled``.
        """
        argv, pipe = self.argv(part), subprocess.PIPE
        # The child's standard input is never written to: it closes when this process is gone.
        with subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        ) as self._process:
            report = self.report(part)
            try:
                status = report.follow(self._process, self._deadline)
            finally:
                self.kill()
        self._process = None
        return report.conclude(status)

    def kill(self) -> None:
        """End the running part and all it started; harmless when it has ended."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


class Report:
    """What a child says: its events, and the end of its standard error; bounded."""

    def __init__(self, part: str) -> None:
        self._doing = f"starting ({part})"
        self._last: Event = {}
        self._said_bytes, self._line, self.stderr = 0, bytearray(), b""

    def follow(self, process: subprocess.Popen[bytes], deadline: float) -> int:
        """Read until the child has closed its outputs and ended; returns its status."""
        with selectors.DefaultSelector() as selector:
            for pipe, add in (
                (process.stdout, self._add_stdout),
                (process.stderr, self._add_stderr),
            ):
                selector.register(pipe, selectors.EVENT_READ, add)  # type: ignore[arg-type]
            while selector.get_map():
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
            raise Failure("flooded", f"{MAX_CHILD_BYTES} bytes of output while {self._doing}")
        self._line += chunk
        if b"\n" in chunk:
            *lines, self._line = self._line.split(b"\n")
            for line in lines:
                self.hear(line)

    def hear(self, line: bytearray) -> None:
        try:
            self._last = json.loads(line)
            if self._last["event"] == "phase":
                self._doing = self._last["name"]
        except (ValueError, TypeError, KeyError) as error:
            raise Failure("garbled", f"an answer without sense while {self._doing}") from error

    def _add_stderr(self, chunk: bytes) -> None:
        self.stderr = (self.stderr + chunk)[-STDERR_TAIL_BYTES:]

    def conclude(self, status: int) -> Event:
        """The child's own event; a signal, or no event at the end, is a failure."""
        if status < 0:
            name = signal.Signals(-status).name
            why = ": probably out of memory" if -status == signal.SIGKILL else ""
            raise self._failure("crashed", f"a process ended by {name} while {self._doing}{why}")
        if self._last.get("event") == "error":
            raise Failure(self._last["kind"], self._last["message"], self._last["hint"])
        if status != 0 or self._last.get("event", "phase") == "phase":
            raise self._failure("crashed", f"a process ended ({status}) while {self._doing}")
        return self._last

    def _hung(self) -> Failure:
        return self._failure("hung", f"no answer in time while {self._doing}; it was killed")

    def _failure(self, kind: str, message: str) -> Failure:
        tail = self.stderr.decode("utf-8", "replace").strip()
        return Failure(kind, message, f"the end of its standard error: {tail}" if tail else "")


# ------------------------------------------------------------------------ environment


def state() -> Event:
    """What decides how fast this device is right now; None where it does not tell."""
    cpus = "sys/devices/system/cpu"
    celsius = [value / 1000 for value in numbers("sys/class/thermal/thermal_zone*/temp")]
    return {
        "load_average": os.getloadavg()[0],
        "governor": read_text(f"/{cpus}/cpu0/cpufreq/scaling_governor").strip() or None,
        "frequency_khz": highest(numbers(f"{cpus}/cpu*/cpufreq/scaling_cur_freq")),
        "frequency_cap_khz": highest(numbers(f"{cpus}/cpu*/cpufreq/scaling_max_freq")),
        "temperature_celsius": highest(celsius),
        "throttle_count": sum(numbers(f"{cpus}/cpu*/thermal_throttle/*_count")),
        "throttle_bits": output_of("vcgencmd", "get_throttled").partition("=")[2] or None,
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
    benching = command(commands, bench)
    benching.add_argument("--processes", type=int, default=5)
    for one in (benching, sweeping):
        add_visit_arguments(one)
    part = command(commands, child, "_child")
    part.add_argument("part", choices=sorted(PARTS))
    for one in (benching, part):
        add_bench_arguments(one)
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


def add_bench_arguments(to: Parser) -> None:
    to.add_argument("bundle", type=Path)
    to.add_argument("--runs", type=int, default=50, help="at least, per process")
    to.add_argument("--seconds", type=float, default=1.0, help="at least, per process")
    to.add_argument("--warmup-runs", type=int, default=3)
    to.add_argument("--warmup-seconds", type=float, default=0.5)
    to.add_argument("--threads", type=int, help="the recipe's when not given")
    to.add_argument("--module", help="the Python module to take the runtime from")
    to.add_argument("--cpu", action="store_true", help="leave the accelerator alone")


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
