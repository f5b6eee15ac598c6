"""Core ML against onnx's own node tests: converted, saved, read back, evaluated, compared.

Every case of the onnx package whose tensors Core ML can hold is tried, in float32. Where Core ML
must know an operand when the model is built (a weight, a list of axes), the case's own
values for all operands but the first are made constants. A case that is refused says why; a
case that gives something else than onnx expects is wrong.

    python benchmarks/coreml_conformance.py [--only PREFIX] [--workers 2] [--write]

``--write`` keeps the result, operator by operator, as the table of what Core ML takes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import logging
import multiprocessing
import os
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import Goal, finish

from edgekit.domain import Format
from edgekit.formats import support

_TYPES = ("float32", "float16", "int32", "int64", "bool")
_RELEASE = 18

# onnx's newest cases are written in an opset that ONNX Runtime takes under protest only.
os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")

LACKING = frozenset(
    {"BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Col2Im"}
    | {"CumProd", "DFT", "STFT", "DeformConv", "Det", "MaxUnpool", "RandomUniformLike", "RoiAlign"}
    | {"ArrayFeatureExtractor", "Binarizer", "FlexAttention", "TfIdfVectorizer", "TreeEnsemble"}
    | {"Compress", "NonMaxSuppression", "NonZero", "Unique", "OptionalGetElement"}
)
"""What ML Programs have no operation for, or only with sizes that depend on the data."""

BEYOND = (
    *("in training mode", "holes (dilations)", "the places of the maxima", "Core ML has five"),
    "no undefined",
)
"""Reasons for which no ML Program could hold a case: pools have no dilations and give no places,
tensors have five axes."""

SILENT = frozenset(
    {"optional inputs left out of the data", "no inputs", "tensors without axes", "empty tensors"}
    | {"more than five axes", "integers beyond 32 bits"}
)
"""What keeps a case from being tried, and says nothing of its operator."""

_CHUNK = 16
_MAX_RANK = 5


@dataclass(frozen=True)
class Result:
    """How one case ended: ``passed``, ``wrong``, ``crashed``, ``refused`` or ``out of reach``."""

    case: str
    operator: str
    type: str
    outcome: str
    why: str = ""


@functools.cache
def cases() -> list[Any]:
    """onnx's node tests, data included; made once, before the workers fork."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind="node"))


def judged(names: list[str]) -> list[Result]:
    """Judge the named cases in this process."""
    logging.disable(logging.WARNING)
    known = {case.name: case for case in cases() if case.name in set(names)}
    results = []
    for name in names:
        with contextlib.redirect_stderr(io.StringIO()):
            results.append(_judged(known[name]))
    return results


def _judged(case: Any) -> Result:
    from edgekit.errors import ConversionFailed, ToolError

    what = case.name, _operator(case), _type(case)
    if reason := _out_of_reach(case):
        return Result(*what, "out of reach", reason)
    try:
        try:
            found = _difference(case, fixed=False)
        except ConversionFailed:
            found = _difference(case, fixed=True)
    except ToolError as error:
        reason = error.message.split("\n  ")[min(1, error.message.count("\n  "))]
        lacking = next((op for op in LACKING if reason.startswith(f"{op} ")), None)
        beyond = lacking or any(words in reason for words in BEYOND)
        outcome = "out of reach" if beyond else "refused"
        return Result(*what, outcome, reason)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        return Result(*what, "crashed", said[:300])
    return Result(*what, "wrong" if found else "passed", found or "")


def _operator(case: Any) -> str:
    """The operator the case is about; cases of a function's expansion count for the function."""
    ops = [node.op_type for node in case.model.graph.node]
    if len(ops) == 1:
        return str(ops[0])
    name = case.name.removeprefix("test_").split("_")[0]
    return (
        f"{name} (expanded)" if case.name.endswith("_expanded") or "expanded" in case.name else name
    )


def _type(case: Any) -> str:
    """NumPy's name of the type of the case's first input; empty where that is no tensor."""
    from onnx import helper

    first = case.model.graph.input[0].type.tensor_type.elem_type if case.model.graph.input else 0
    known = first in helper.get_all_tensor_dtypes()
    return str(helper.tensor_dtype_to_np_dtype(first).name) if known else ""


def _out_of_reach(case: Any) -> str | None:
    """Why Core ML has no form for the case's own tensors."""
    inputs, outputs = case.data_sets[0]
    if len(inputs) != len(case.model.graph.input):
        return "optional inputs left out of the data"
    for value in (*inputs, *outputs):
        if reason := _not_held(value):
            return reason
    if not inputs:
        return "no inputs"
    if np.ndim(inputs[0]) == 0 or any(np.ndim(value) == 0 for value in outputs):
        return "tensors without axes"
    return None


def _not_held(value: Any) -> str | None:
    if not isinstance(value, np.ndarray | np.generic):
        return "sequences, maps and optional values"
    wide = value.dtype == np.int64 and np.abs(value.astype(np.float64)).max(initial=0) >= 2**31
    reasons = {
        f"{value.dtype.name} tensors": value.dtype.name not in _TYPES,
        "more than five axes": value.ndim > _MAX_RANK,
        "empty tensors": value.size == 0,
        "integers beyond 32 bits": wide,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _difference(case: Any, *, fixed: bool) -> str | None:
    """What differs from the expected outputs; ``None`` when nothing does."""
    from edgekit import mil
    from edgekit.formats import coreml_converter, coreml_package

    model, feeds = _bound(case, fixed=fixed)
    _, expected = case.data_sets[0]
    with tempfile.TemporaryDirectory(prefix="edgekit-conformance-") as folder:
        package = Path(folder) / "model.mlpackage"
        graph = coreml_converter.prepared(model)
        made = coreml_converter.converted(graph, release=_RELEASE, float16=False)
        coreml_package.save(made, coreml_package.Metadata(), package)
        got = mil.evaluate(mil.load(package), feeds)
    names = coreml_package.border_names(v.name for v in (*model.graph.input, *model.graph.output))
    for value, wanted in zip(model.graph.output, expected, strict=True):
        array = got[names[value.name]]
        if array.shape != wanted.shape:
            return f"{value.name}: shape {array.shape}, expected {wanted.shape}"
        try:
            np.testing.assert_allclose(
                array.astype(np.float64),
                wanted.astype(np.float64),
                _tolerance(case, wanted),
                case.atol,
            )
        except AssertionError as error:
            return " ".join(str(error).split())[:240]
    return None


def _tolerance(case: Any, wanted: Any) -> float:
    """onnx's own, and for float16 no less than a few roundings of it."""
    half = wanted.dtype == np.float16
    return max(float(case.rtol), 4 * float(np.finfo(np.float16).eps) if half else 0.0)


def _bound(case: Any, *, fixed: bool) -> tuple[Any, dict[str, Any]]:
    """The case's model with the shapes of its data, and what it is fed.

    Tensors without axes cannot be inputs: they become constants, as all inputs but the
    first do where ``fixed`` is asked for.
    """
    import onnx
    from onnx import helper, numpy_helper

    from edgekit.formats.coreml_package import border_names

    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    graph = model.graph
    given = dict(zip((v.name for v in graph.input), inputs, strict=True))
    constant = {
        name
        for index, (name, array) in enumerate(given.items())
        if np.ndim(array) == 0 or (fixed and index)
    }
    shaped = [
        helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, given[v.name].shape)
        for v in graph.input
        if v.name not in constant
    ]
    leaving = [
        helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, array.shape)
        for v, array in zip(graph.output, outputs, strict=True)
    ]
    for field, values in ((graph.input, shaped), (graph.output, leaving)):
        del field[:]
        field.extend(values)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(given[name]), name) for name in sorted(constant)
    )
    names = border_names(v.name for v in (*graph.input, *graph.output))
    feeds = {names[v.name]: given[v.name] for v in graph.input}
    return model, {k: v.astype(np.int32) if v.dtype.kind in "ib" else v for k, v in feeds.items()}


def _all(names: list[str], workers: int) -> Iterator[Result]:
    chunks = [names[i :: workers * _CHUNK] for i in range(workers * _CHUNK)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        for chunk in pool.map(judged, [c for c in chunks if c]):
            yield from chunk


def main() -> int:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the result as edgekit's table")
    asked = parser.parse_args()
    names = [case.name for case in cases() if case.name.startswith(asked.only)]
    results = list(_all(names, asked.workers))
    by_operator: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        by_operator[result.operator][result.outcome] += 1
    counts = Counter(result.outcome for result in results)
    in_reach = len(results) - counts["out of reach"]
    bad = [r for r in results if r.outcome in ("wrong", "crashed")]
    figures = {
        "cases": dict(counts),
        "passed_share_of_cases_in_reach": counts["passed"] / max(in_reach, 1),
        "not_passed": [f"{r.case}: {r.outcome}: {r.why}" for r in bad],
        "refused": dict(
            sorted(
                Counter(f"{r.operator}: {r.why}" for r in results if r.outcome == "refused").items()
            )
        ),
        "out_of_reach": dict(Counter(r.why for r in results if r.outcome == "out of reach")),
        "by_operator": {op: dict(count) for op, count in sorted(by_operator.items())},
    }
    goals = [
        Goal(
            "share that fails of the cases in reach", 1 - counts["passed"] / max(in_reach, 1), 0.1
        ),
        Goal("cases that are silently wrong", counts["wrong"], 0),
        Goal(
            "refusals without a reason",
            sum(not r.why for r in results if r.outcome == "refused"),
            0,
        ),
    ]
    if asked.write:
        support.write(Format.COREML, _table(results))
    return finish("coreml-conformance", figures, goals)


def _table(results: list[Result]) -> support.Operators:
    """By operator and type: how many cases were tried, how many passed, why others did not."""
    seen: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        told = result.outcome != "out of reach" or result.why not in SILENT
        if told and result.type and result.operator[0].isupper():
            seen[result.operator, result.type].append(result)
    table: defaultdict[str, dict[str, support.Tried]] = defaultdict(dict)
    for (operator, type_), found in sorted(seen.items()):
        reasons = Counter(r.why for r in found if r.outcome != "passed")
        table[operator][type_] = support.Tried(
            tried=len(found),
            passed=sum(r.outcome == "passed" for r in found),
            reason=reasons.most_common(1)[0][0] if reasons else "",
        )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
