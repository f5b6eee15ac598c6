"""The main job, end to end: fit one model to three devices, and measure one of them here.

    make demo

Everything below is the command line's own work, called from Python.
"""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

import edgekit as ek

HERE = Path(__file__).parent
THIS_MACHINE = "generic-x86-64" if platform.machine() in ("x86_64", "AMD64") else "generic-arm64"
DEVICES = ("raspberry-pi-5", "pixel-8", THIS_MACHINE)


def main() -> None:
    """Build for three devices, measure one, and print what came of it."""
    console = Console(highlight=False)
    model = ek.load(HERE / "digits.onnx")
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("device", "chosen", "runs on", "size", "top-1", "expected"):
        table.add_column(column, no_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        for device in DEVICES:
            with console.status(f"building for {device}"):
                plan = ek.plan(model, device=device, goal=ek.Goal(max_accuracy_drop=0.01))
                built = ek.build(
                    model,
                    plan,
                    Path(folder) / f"{device}.edgekit",
                    calibration=HERE / "calibration.npz",
                    evaluate=HERE / "evaluation.npz",
                )
            table.add_row(*row(device, plan, built))
        table.title = title(model, built)
        with console.status(f"measuring {THIS_MACHINE}'s bundle on this machine"):
            result = ek.benchmark(built, on="local")
    console.print(table)
    console.print(measured(result))


def title(model: ek.Model, built: ek.Built) -> str:
    """What the rows are to be compared with."""
    size, proof = model.path.stat().st_size, built.manifest.validation
    return (
        f"{model.path.name}: {size / 1024:.1f} KiB, top-1 {proof.baseline:.4f} "
        f"on {proof.sample_count} samples"
    )


def row(device: str, plan: ek.Plan, built: ek.Built) -> tuple[str, ...]:
    """One device's line."""
    manifest = built.manifest
    chosen, proof = manifest.recipe, manifest.validation
    latency = next(c.prediction.latency_ms for c in plan.candidates if c.recipe == chosen)
    return (
        device,
        chosen.precision,
        chosen.runtime,
        f"{manifest.artifact.size_bytes / 1024:.1f} KiB",
        f"{proof.value:.4f}",
        f"{latency.low * 1e3:.2g} to {latency.high * 1e3:.2g} us",
    )


def measured(result: ek.BenchmarkResult) -> str:
    """What the benchmark found, in words."""
    latency = ek.figures(result)
    low, high = latency.interval_p50
    runtime = result.runtime
    sure = "" if result.valid else f"\nNot to be believed: {result.why_invalid}."
    return (
        f"{THIS_MACHINE}'s bundle, measured on this machine:\n"
        f"  {result.device.cpu_model}, {runtime.name} {runtime.version}, "
        f"threads {result.threads}\n"
        f"  golden vectors: {result.golden.sample_count} of {result.golden.sample_count} agree\n"
        f"  median {latency.p50 * 1e3:.1f} us (95 % interval {low * 1e3:.1f} to {high * 1e3:.1f}), "
        f"{latency.n} runs in {len(result.processes)} processes{sure}"
    )


if __name__ == "__main__":
    main()
