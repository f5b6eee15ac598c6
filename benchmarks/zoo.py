"""Keras's own networks, with seeded random weights, to every format.

Goals: every network in every format agrees with Keras to a relative error of 0.001, and the
way that edgekit takes to LiteRT is within 5 % of the fastest single way's latency.

    python benchmarks/zoo.py [NETWORK ...] [--format litert] [--keep FOLDER] [--agreement]

The latencies are medians of processor time, one thread, all ways to LiteRT measured in turn.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _common import Goal, finish
from _latency import latencies

from edgekit import sources
from edgekit.domain import Artifact, Format, Recipe
from edgekit.errors import EdgekitError, ModelError
from edgekit.formats import FORMATS, Job, binding, litert, litert_routes
from edgekit.sources import SourceModel, random_feeds
from edgekit.sources.difference import relative_error
from edgekit.toolchain import environments, isolation, process
from edgekit.toolchain.environments import TENSORFLOW
from edgekit.toolchain.process import Limits

NETWORKS = (
    "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ResNet50",
    "DenseNet121", "NASNetMobile", "ConvNeXtTiny", "Xception", "InceptionV3",
)  # fmt: skip
AGREES, WITHIN = 1e-3, 1.05
LIMITS = Limits(seconds=1800)
Row = dict[str, Any]


def main() -> int:
    """Print the matrix on standard error, and the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="*", default=NETWORKS)
    parser.add_argument("--format", action="append", choices=[f.value for f in FORMATS])
    parser.add_argument("--keep", type=Path, help="where the networks are kept between runs")
    parser.add_argument("--agreement", action="store_true", help="without latencies")
    given = parser.parse_args()
    formats = [f for f in FORMATS if given.format is None or f.value in given.format]
    # Functions of the scripts here are called in processes of their own, too.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    rows: list[Row] = []
    for name in given.network:
        with tempfile.TemporaryDirectory(prefix="edgekit-zoo-") as folder:
            kept, work = given.keep or Path(folder), Path(folder)
            for row in measured(name, formats, kept, work, latency=not given.agreement):
                print(shown(row), file=sys.stderr, flush=True)
                rows.append(row)
    agree = sum(
        row["relative_error"] is not None and row["relative_error"] < AGREES for row in rows
    )
    slower = [row["against_best"] for row in rows if row.get("against_best")]
    goals = [Goal("cells that do not agree", len(rows) - agree, 0)]
    if slower:
        goals.append(Goal("LiteRT latency against the best single way", max(slower), WITHIN))
    return finish("zoo", {"agree": agree, "cells": len(rows), "rows": rows}, goals)


def measured(
    name: str, formats: list[Format], kept: Path, folder: Path, *, latency: bool = True
) -> Iterator[Row]:
    """One row per format."""
    started = time.monotonic()
    try:
        source = _loaded(network(name, kept), folder)
    except EdgekitError as error:
        failed: Row = {"network": name, "relative_error": None, "why": error.message}
        yield from (failed | {"format": format_.value} for format_ in formats)
        return
    read_s = round(time.monotonic() - started, 1)
    for format_ in formats:
        row: Row = {"network": name, "format": format_.value, "read_s": read_s}
        made = folder / format_.value
        made.mkdir()
        started = time.monotonic()
        try:
            recipe = Recipe(format=format_, runtime="any")
            artifact = FORMATS[format_].make(Job(source=source, recipe=recipe, folder=made))
        except EdgekitError as error:
            yield row | {"relative_error": None, "why": error.message}
            continue
        row |= {"make_s": round(time.monotonic() - started, 1), "size_bytes": artifact.size_bytes}
        row |= {"route": list(artifact.notes)}
        row["relative_error"] = error_of(source, artifact, made)
        if format_ is Format.LITERT and latency:
            row |= single_routes(source, artifact, made)
        yield row


def _loaded(path: Path, folder: Path) -> SourceModel:
    try:
        return sources.load(path, folder)
    except ModelError as error:
        if "dynamic axes" not in error.message:
            raise
        return sources.load(path, folder, {"input_layer": (1, 224, 224, 3)})


def network(name: str, kept: Path) -> Path:
    """The network's ``.keras`` file."""
    path = kept / f"{name}.keras"
    if not path.exists():
        kept.mkdir(parents=True, exist_ok=True)
        script = Path(__file__).with_name("_keras_zoo.py")
        argv = [str(environments.install(TENSORFLOW)), str(script), name, str(path)]
        process.run(argv, what=f"making {name}", env=TENSORFLOW.environment)
    return path


def error_of(source: SourceModel, artifact: Artifact, folder: Path) -> float:
    """How far the artifact lies from what Keras itself gave."""
    spec, path = FORMATS[artifact.format], folder / artifact.path
    feeds, expected = random_feeds(source.inputs), binding.probed(source)
    with tempfile.TemporaryDirectory() as scratch:
        got = binding.run(
            path, spec.host_runtime, artifact.inputs, feeds, Path(scratch), spec.infer
        )
    return max(
        relative_error(binding.to_source(got[b.artifact.name], b), expected[b.source.name])
        for b in artifact.outputs
    )


def single_routes(source: SourceModel, artifact: Artifact, folder: Path) -> Row:
    """The latency of every single way, in milliseconds, and of the one that edgekit took."""
    taken = artifact.notes[0].removeprefix("by ")
    made, failed = {taken: folder / artifact.path}, {}
    for route in litert_routes.of(source):
        if route.name == taken:
            continue
        scratch = folder / route.name.replace(" ", "-")
        scratch.mkdir()
        try:
            path = route.convert(source, scratch)
            isolation.call(binding.proven, LIMITS, source, path, litert.RUNTIME)
            made[route.name] = path
        except EdgekitError as error:
            failed[route.name] = f"{error.message} {error.hint}"[:300]
    medians = isolation.call(latencies, LIMITS, list(made.values()))
    by_route = dict(zip(made, medians, strict=True))
    return {
        "latency_ms": by_route[taken],
        "latency_ms_by_route": by_route,
        "against_best": round(by_route[taken] / min(by_route.values()), 3),
        "routes_failed": failed,
    }


def shown(row: Row) -> str:
    """A line of the matrix."""
    if row["relative_error"] is None:
        return f"{row['network']:18} {row['format']:12} failed: {row['why'][:200]}"
    head = f"{row['network']:18} {row['format']:12} {row['relative_error']:8.1e}"
    line = f"{head} {row['size_bytes'] / 1e6:7.1f} MB {row['make_s']:6.1f} s"
    if "latency_ms" in row:
        ways = ", ".join(f"{name} {ms:.1f}" for name, ms in row["latency_ms_by_route"].items())
        line += f" {row['latency_ms']:7.1f} ms ({ways}; {row['against_best']:.2f} of the best)"
        line += "".join(f"\n    {name}: {why}" for name, why in row["routes_failed"].items())
    return line + f"  {'; '.join(row['route'])}"[:300]


if __name__ == "__main__":
    sys.exit(main())
