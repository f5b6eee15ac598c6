"""onnx's own node tests through the formats: passed, refused, unsupported, and never wrong unseen.

Every case goes the way of a user's model, in float: normalised, converted, proven against
its source, and then run on the data that onnx gives for it. What edgekit accepts and
what still gives something else than onnx says is silently wrong: the goal is none.

    python benchmarks/conformance.py [--only REGEX] [--operator NAME ...] [--write]

``--write`` keeps the result, operator by operator, as the tables that ``edgekit inspect
--target`` reads; with ``--operator`` the rows of all others stay as they were.
About 1400 cases are converted in few processes (each stage in two at a time); a case that ends
its process is counted as crashed, and the rest goes on.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from _common import Goal, finish
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgekit.domain import Format
from edgekit.formats import onnx2tf_batch, support
from edgekit.sources import SourceModel
from edgekit.sources.difference import relative_error
from edgekit.toolchain import environments
from edgekit.toolchain.environments import ONNX2TF

SECONDS = 60
WORKERS = 2
PARAMETERS = frozenset(
    {"BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "Gemm", "GRU"}
    | {"GroupNormalization", "InstanceNormalization", "LayerNormalization", "LSTM", "PRelu"}
    | {"QLinearConv", "QLinearMatMul", "QuantizeLinear", "DequantizeLinear", "RNN"}
    | {"RMSNormalization"}
)
"""Operators whose inputs from the second on are weights in every network."""

NEWEST = 24
"""The opset that cases of a newer one are read in: ONNX Runtime does not run later ones yet, and
most of their operators are those of before, for more types."""

PASSED, WRONG = "passed", "silently wrong"
APPROXIMATE = "approximate"
"""Beyond onnx's tolerance, and within edgekit's for a conversion: 1e-3 of the largest value."""
REFUSED, UNSUPPORTED = "refused", "unsupported"
"""Refused: converted, and caught giving something else. Unsupported: not converted at all."""
OUT_OF_REACH = "out of reach"
"""No model of edgekit's at all: text, sequences, shapes that depend on data, what draws at random
or ONNX Runtime gives otherwise than ONNX says (``sources.unreliable``), an opset that it does not
run yet. It says nothing of a format, and is left out of the tables."""
WITHIN = 1e-3
_MADE = "made.tflite"


class Case(msgspec.Struct, frozen=True):
    """A node test as a file: its operator, and the type its first input has."""

    name: str
    operator: str
    type: str


def main() -> int:
    """Run the cases, print what came of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="a pattern of the cases' names")
    parser.add_argument("--operator", nargs="+", default=[], help="only the cases of these")
    parser.add_argument("--write", action="store_true", help="keep the result as edgekit's tables")
    parser.add_argument("--stage", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        _stage(*arguments.stage)
        return 0
    if arguments.write and arguments.only:
        parser.error("--only tells of parts of operators: with --write, give --operator")
    with tempfile.TemporaryDirectory(prefix="edgekit-conformance-") as scratch:
        folder = Path(scratch)
        cases = _written(folder, re.compile(arguments.only), arguments.operator)
        verdicts = _judged(folder, cases)
    if arguments.write:
        for format_ in verdicts:
            kept = support.table(format_).operators if arguments.operator else {}
            others = {name: kept[name] for name in kept.keys() - set(arguments.operator)}
            support.write(format_, others | _table(cases, verdicts[format_]))
    return _report(cases, verdicts)


def _report(cases: list[Case], verdicts: dict[Format, dict[str, list[str]]]) -> int:
    figures: dict[str, Any] = {"cases": len(cases)}
    goals = []
    for format_, found in verdicts.items():
        totals = Counter(outcome for outcome, _ in found.values())
        wrong = {name: why for name, (outcome, why) in found.items() if outcome == WRONG}
        figures[format_.value] = {
            "totals": dict(totals),
            "silently_wrong": wrong,
            "operators": _operators(cases, found),
        }
        goals.append(Goal(f"{format_.value}: silently wrong", len(wrong), 0))
    return finish("conformance", figures, goals)


def _operators(cases: list[Case], found: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        counted[case.operator][found[case.name][0]] += 1
    return {name: dict(counted[name]) for name in sorted(counted)}


def _table(cases: list[Case], found: dict[str, list[str]]) -> dict[str, dict[str, support.Tried]]:
    """By operator and type: how many cases were tried, how many passed, why others did not."""
    outcomes: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
    for case in cases:
        if found[case.name][0] != OUT_OF_REACH:
            outcomes[case.operator, case.type].append(found[case.name])
    table: dict[str, dict[str, support.Tried]] = defaultdict(dict)
    for (operator, type_), seen in sorted(outcomes.items()):
        well = (PASSED, APPROXIMATE)
        passed = sum(outcome in well for outcome, _ in seen)
        reasons = Counter(why for outcome, why in seen if outcome not in well)
        reason = reasons.most_common(1)[0][0] if reasons else ""
        table[operator][type_] = support.Tried(tried=len(seen), passed=passed, reason=reason)
    return table


# The cases as files


def _written(folder: Path, wanted: re.Pattern[str], operators: list[str]) -> list[Case]:
    """Write the wanted node tests; those that onnx derives from a function are the same again."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    chosen = [c for c in found if "_expanded" not in c.name and wanted.search(c.name)]
    cases = [_case(one, folder) for one in chosen]
    return [case for case in cases if not operators or case.operator in operators]


def _case(one: Any, folder: Path) -> Case:
    """One case, its parameters made weights as they are in networks."""
    model, operator = ModelProto(), one.model.graph.node[-1].op_type
    model.CopyFrom(one.model)
    given, expected = ([_plain(value) for value in part] for part in one.data_sets[0])
    for opset in model.opset_import:
        opset.version = min(opset.version, NEWEST) if opset.domain == "" else opset.version
    feeds, kept = {}, []
    for index, (value, array) in enumerate(zip(model.graph.input, given, strict=True)):
        if isinstance(array, np.ndarray) and index and _is_parameter(operator, array, given[0]):
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            kept.append(value)
            feeds[value.name] = array
    del model.graph.input[:]
    model.graph.input.extend(kept)
    place = folder / one.name
    place.mkdir()
    (place / "model.onnx").write_bytes(model.SerializeToString())
    data = (feeds, expected, one.rtol, one.atol)
    (place / "data.pickle").write_bytes(pickle.dumps(data))
    first = one.model.graph.input[0].type.tensor_type.elem_type if one.model.graph.input else 0
    known = first in helper.get_all_tensor_dtypes()
    name = helper.tensor_dtype_to_np_dtype(first).name if known else "no tensor"
    return Case(name=one.name, operator=operator, type=name)


def _plain(value: Any) -> Any:
    """Scalars and encoded tensors as arrays; sequences and maps as they are."""
    if isinstance(value, np.generic):
        return np.asarray(value)
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _is_parameter(operator: str, array: Any, first: Any) -> bool:
    """Whether networks hold it: weights, shapes, axes and bounds are no activations."""
    if array.ndim == 0:
        return True
    other = not isinstance(first, np.ndarray) or array.dtype != first.dtype
    return operator in PARAMETERS or (array.dtype.kind in "iub" and other)


# The stages, each in processes of its own


def _judged(folder: Path, cases: list[Case]) -> dict[Format, dict[str, list[str]]]:
    names = [case.name for case in cases]
    prepared = _through(folder, "prepare", names)
    sound = [name for name in names if not prepared[name]]
    ort = _through(folder, "onnxruntime", sound)
    converted = _through(folder, "convert", sound)
    litert = _through(folder, "litert", [name for name in sound if not converted[name]])
    both = {name: [OUT_OF_REACH, why] for name, why in prepared.items() if why}
    refused = {name: [UNSUPPORTED, why] for name, why in converted.items() if why}
    return {
        Format.ONNXRUNTIME: both | {name: _verdict(said) for name, said in ort.items()},
        Format.LITERT: both | refused | {name: _verdict(said) for name, said in litert.items()},
    }


def _verdict(said: str) -> list[str]:
    """A stage's answer: empty, or an outcome, a colon and the reason."""
    if not said:
        return [PASSED, ""]
    outcome, _, why = said.partition(": ")
    known = (WRONG, APPROXIMATE, UNSUPPORTED)
    return [outcome, why] if outcome in known else [REFUSED, said]


def _through(folder: Path, stage: str, names: list[str]) -> dict[str, str]:
    """Put every case through a stage; what each stage said of it, empty where all is well."""
    if stage == "convert":
        environments.install(ONNX2TF)
    shares = [names[index::WORKERS] for index in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = pool.map(lambda share: _resumed(folder, stage, share), shares)
        said = {name: why for part in parts for name, why in part.items()}
    print(f"{stage}: {len(said)}, {sum(not why for why in said.values())} well", file=sys.stderr)
    return said


def _resumed(folder: Path, stage: str, names: list[str]) -> dict[str, str]:
    """Run a stage's process, and again for the rest whenever a case ends it."""
    said: dict[str, str] = {}
    while rest := [name for name in names if name not in said]:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            jobs, log = Path(scratch) / "jobs", Path(scratch) / "log"
            argv = _command(folder, stage, rest, jobs, log)
            done = subprocess.run(argv, cwd=scratch, capture_output=True, check=False)
            lines = [json.loads(line) for line in log.read_text().splitlines()]
        begun = {line["name"] for line in lines}
        said |= {line["name"]: line["error"] for line in lines if "error" in line}
        if not begun:
            raise SystemExit(f"{stage} does not start: {done.stderr.decode()[-2000:]}")
        for name in begun - set(said):
            said[name] = f"the process ended with status {done.returncode}"
    return said


def _command(folder: Path, stage: str, names: list[str], jobs: Path, log: Path) -> list[str]:
    log.touch()
    if stage == "convert":
        jobs.write_text(json.dumps([_conversion(folder / name) for name in names]))
        script = onnx2tf_batch.__file__
        return [str(ONNX2TF.python), "-P", script, str(jobs), str(log), str(SECONDS)]
    jobs.write_text(json.dumps([str(folder / name) for name in names]))
    return [sys.executable, str(Path(__file__)), "--stage", stage, str(jobs), str(log)]


def _conversion(place: Path) -> tuple[str, str, str, list[str]]:
    source = _source(place)
    keep = [spec.name for spec in source.inputs if spec.name not in source.channels_first]
    return place.name, str(source.graph), str(place / _MADE), keep


def _stage(stage: str, jobs: str, log: str) -> None:
    """Put cases through a stage in this process; a line as each begins and ends."""
    with Path(log).open("a") as file:
        for place in map(Path, json.loads(Path(jobs).read_text())):
            print(json.dumps({"name": place.name}), file=file, flush=True)
            signal.alarm(SECONDS)  # its default action ends the process
            try:
                error = STAGES[stage](place)
            except Exception as raised:
                error = str(raised).splitlines()[0][:300] or type(raised).__name__
            signal.alarm(0)
            print(json.dumps({"name": place.name, "error": error}), file=file, flush=True)


def _prepare(place: Path) -> str:
    from edgekit import inspection
    from edgekit.sources.onnx_graph import normalise

    source = normalise(place / "model.onnx", place, {})
    inspection.inspect(source)
    (place / "source.json").write_bytes(msgspec.json.encode(source, enc_hook=str))
    return ""


def _source(place: Path) -> SourceModel:
    def path(_kind: type, raw: str) -> Path:
        return Path(raw)

    return msgspec.json.decode(
        (place / "source.json").read_bytes(), type=SourceModel, dec_hook=path
    )


def _litert(place: Path) -> str:
    """Proven as ``formats.litert`` proves it, then run on onnx's data."""
    from edgekit.formats import binding, host

    source = _source(place)
    inputs, outputs = binding.proven(source, place / _MADE, "litert")
    session = host.Session(place / _MADE, "litert")
    feeds, expected, rtol, atol = pickle.loads((place / "data.pickle").read_bytes())
    got = session.run(
        {b.artifact.name: binding.to_artifact(feeds[b.source.name], b) for b in inputs}
    )
    return _compared(
        (binding.to_source(got[b.artifact.name], b) for b in outputs), expected, rtol, atol
    )


def _onnxruntime(place: Path) -> str:
    from edgekit.formats import binding, host

    source = _source(place)
    session = host.Session(source.graph, "onnxruntime")
    described = session.described
    binding.direct(source.inputs, described.input_details, "input")
    bound = binding.direct(source.outputs, described.output_details, "output")
    feeds, expected, rtol, atol = pickle.loads((place / "data.pickle").read_bytes())
    got = session.run({spec.name: feeds[spec.name] for spec in source.inputs})
    return _compared((got[b.artifact.name] for b in bound), expected, rtol, atol)


def _compared(got: Iterable[Any], expected: list[Any], rtol: float, atol: float) -> str:
    """By onnx's own measure; what is further off is silently wrong: edgekit had accepted it."""
    said = ""
    for index, (array, wanted) in enumerate(zip(got, expected, strict=True)):
        if array.shape != wanted.shape:
            return f"{WRONG}: output {index} is {array.shape}, expected {wanted.shape}"
        a, b = array.astype(np.float64), wanted.astype(np.float64)
        if not np.allclose(a, b, rtol=rtol, atol=max(atol, _rounding(b)), equal_nan=True):
            error = relative_error(a, b)
            outcome = APPROXIMATE if error <= WITHIN else WRONG
            said = max(said, f"{outcome}: output {index} is off by {error:.2g} (relative)")
    return said


def _rounding(expected: Any) -> float:
    """What float32 arithmetic may differ by, for values of this size."""
    finite = expected[np.isfinite(expected)]
    return 1e-5 * float(np.max(np.abs(finite), initial=0.0))


STAGES: dict[str, Callable[[Path], str]] = {
    "prepare": _prepare,
    "litert": _litert,
    "onnxruntime": _onnxruntime,
}

if __name__ == "__main__":
    sys.exit(main())
