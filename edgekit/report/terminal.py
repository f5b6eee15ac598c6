"""Results as a person reads them: tables, plain sentences, units that fit the size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from edgekit.domain import (
    Attempt,
    Calibration,
    Deployment,
    DeviceProfile,
    Explanation,
    Manifest,
    Measured,
    MemorySplit,
    Outcome,
    Plan,
    Range,
    ValidationReport,
)
from edgekit.exporting import Exported
from edgekit.pipeline import Built, Inspection
from edgekit.report import documents
from edgekit.report.layout import count, milliseconds, new_table, size
from edgekit.report.text import printable

HEAVIEST = 10
_MARKS = {Outcome.CHOSEN: "chosen", Outcome.REJECTED: "rejected", Outcome.FAILED: "failed"}


def devices(profiles: Iterable[DeviceProfile]) -> RenderableType:
    """One line for each device."""
    table = new_table("device", "what", "cores", "memory", "accelerators", "formats")
    for profile in profiles:
        table.add_row(
            profile.name,
            profile.title,
            " + ".join(f"{c.cores} {c.core}" for c in profile.cpu.clusters),
            f"{profile.memory.total_mib / 1024:.3g} GiB",
            ", ".join(a.name for a in profile.accelerators) or "-",
            ", ".join(f.value for f in profile.formats),
        )
    return table


def device(profile: DeviceProfile) -> RenderableType:
    """All of one profile, with where its numbers are from."""
    table = new_table("", profile.title, header=False)
    for cluster in profile.cpu.clusters:
        names = " ".join(e.value for e in cluster.extensions)
        table.add_row(
            "cores", f"{cluster.cores} x {cluster.core} at {cluster.max_clock_mhz:g} MHz ({names})"
        )
    memory = profile.memory
    table.add_row(
        "memory",
        f"{memory.total_mib:g} MiB, {memory.model_budget_mib:g} MiB for a model, "
        f"{memory.bandwidth_gb_per_s:g} GB/s",
    )
    for accelerator in profile.accelerators:
        tops = _throughput(accelerator.tops)
        reach = ", ".join(f"{k}: {v}" for k, v in accelerator.reached_by.items()) or "not reached"
        known = tops or "TOPS not published"
        table.add_row("accelerator", f"{accelerator.name}: {known} ({reach})")
    for mode in profile.power.modes:
        table.add_row("power", f"{mode.name}: {mode.watts:g} W")
    for runtime in profile.runtimes:
        formats = ", ".join(f.value for f in runtime.formats)
        table.add_row("runtime", f"{runtime.name} {runtime.versions} ({formats})")
    for key, source in profile.sources.items():
        table.add_row(Text(key, style="dim"), Text(source, style="dim"))
    return table


def _throughput(tops: object) -> str:
    """Throughputs that are known: ``int8 20 TOPS, float16 10 TOPS``."""
    names = ("int8", "float16", "float32")
    known = [(name, getattr(tops, name)) for name in names]
    return ", ".join(f"{name} {value:g} TOPS" for name, value in known if value)


def inspection(seen: Inspection) -> RenderableType:
    """A model at a glance, its heaviest layers, and what the clean-up did to it."""
    found = seen.summary
    head = new_table("", found.name, header=False)
    for what, tensors in (("input", found.inputs), ("output", found.outputs)):
        for spec in tensors:
            head.add_row(what, f"{spec.name} {list(spec.shape)} {spec.dtype}")
    head.add_row("weights", f"{count(found.parameters)} parameters, {size(found.parameter_bytes)}")
    head.add_row("work", f"{count(found.macs)} multiply-accumulates")
    head.add_row("activations", f"{size(found.activation_peak_bytes)} live at once, at most")
    head.add_row("operators", ", ".join(f"{n} {op}" for op, n in found.operators.items()))
    head.add_row("opset", f"{found.opset}{', already quantized' if found.quantized else ''}")
    for note in seen.notes:
        head.add_row("changed", note)
    layers = new_table("layer", "operator", "output", "MACs", "share", "weights")
    for node in sorted(found.nodes, key=lambda n: -n.macs)[:HEAVIEST]:
        if node.macs:
            layers.add_row(
                node.name,
                node.op,
                str(list(node.output_shape)),
                count(node.macs),
                f"{node.macs / found.macs:.1%}",
                size(node.parameter_bytes),
            )
    return Group(head, Text("\nThe heaviest layers"), layers, *_clean_up(seen), *_obstacles(seen))


def _clean_up(seen: Inspection) -> tuple[RenderableType, ...]:
    """The graph before and after, and the passes that changed it or were dropped."""
    sizes = new_table("", "as written", "cleaned up")
    before, after = seen.written, seen.cleaned
    sizes.add_row("nodes", str(before.nodes), str(after.nodes))
    sizes.add_row("transposes", str(before.transposes), str(after.transposes))
    macs = ("not known" if n is None else count(n) for n in (before.macs, after.macs))
    sizes.add_row("MACs", *macs)
    sizes.add_row("weights", size(before.weight_bytes), size(after.weight_bytes))
    for one in seen.passes:
        if one.changed or one.reason:
            sizes.add_row(one.name, one.does, f"dropped: {one.reason}" if one.reason else "done")
    return Text("\nThe clean-up"), sizes


def _obstacles(seen: Inspection) -> Iterator[RenderableType]:
    """For each format that was asked about: what it is not known to take, and what to do."""
    for target, found in seen.obstacles.items():
        if not found:
            yield Text(f"\n{target.value}: every operator is known to be taken.")
            continue
        yield Text(f"\n{target.value}: not known to be taken")
        table = new_table("layer", "operator", "found", "what could be done")
        for one in found:
            table.add_row(
                one.node, f"{one.operator} ({one.type})", one.why, "; ".join(one.remedies)
            )
        yield table


def calibrated(found: Calibration, path: Path) -> RenderableType:
    """How well each precision of each runtime is known now."""
    table = new_table("runtime", "precision", "networks", "within 10 %", "nine in ten within")
    for format_, runtime in found.runtimes.items():
        for precision, rates in runtime.rates.items():
            low, high = rates.spread
            table.add_row(
                f"{format_} ({runtime.module} {runtime.version})",
                precision,
                str(rates.measured),
                f"{rates.within_10_percent:.0%}",
                f"{low - 1:+.0%} to {high - 1:+.0%}",
            )
    head = f"{found.device} is calibrated: {found.networks} networks in {found.seconds:.0f} s"
    return Group(Text(f"{head} on {printable(found.cpu_model)}."), table, Text(f"Kept in {path}."))


def plan(made: Plan, explanation: Explanation, profile: DeviceProfile) -> RenderableType:
    """A decision: the device, the candidates, where the time and the memory go, the rest."""
    first = made.candidates[0]
    return Group(
        Text(f"{profile.title}, {made.basis}:"),
        _listed(explanation.limits),
        Text("In the order to be tried (* no other is better in every way):"),
        _candidates(made, explanation),
        Text(f"First {first.recipe.label}:"),
        _listed(first.reasons),
        Text("Where its time goes:"),
        _layers(explanation),
        Text(_memory(explanation.memory)),
        *_ruled_out(made),
    )


def _listed(lines: Iterable[str]) -> RenderableType:
    return Padding(Text("\n".join(f"- {printable(line)}" for line in lines)), (0, 0, 1, 2))


def _candidates(made: Plan, explanation: Explanation) -> RenderableType:
    table = new_table("", "recipe", "latency", "memory", "size", "energy", "time, size")
    against = ["", *(f"{a.latency:.3g} x, {a.size:.3g} x" for a in explanation.alternatives)]
    for index, (candidate, ratio) in enumerate(zip(made.candidates, against, strict=False), 1):
        p = candidate.prediction
        table.add_row(
            f"{index}{'*' if candidate.pareto else ''}",
            candidate.recipe.label,
            f"{_span(p.latency_ms)} ms",
            size(p.peak_memory_bytes.mid),
            size(p.size_bytes.mid),
            f"{p.energy_mj.mid:.3g} mJ",
            ratio,
        )
    return table


def _layers(explanation: Explanation) -> RenderableType:
    table = new_table("layer", "operator", "time", "share", "weights", "share")
    for layer in explanation.layers:
        table.add_row(
            layer.name,
            layer.op,
            milliseconds(layer.latency_ms),
            f"{layer.latency_share:.1%}",
            size(layer.weight_bytes),
            f"{layer.weight_share:.1%}",
        )
    return table


def _memory(split: MemorySplit) -> str:
    return (
        f"Memory: {size(split.peak)} expected of {size(split.budget)}: weights "
        f"{size(split.weights)}, activations {size(split.activations)} at most, the runtime and "
        f"what it packs {size(split.rest)}.\n"
    )


def _ruled_out(made: Plan) -> tuple[RenderableType, ...]:
    if not made.rejected:
        return (Text("Nothing was ruled out."),)
    table = new_table("ruled out", "latency", "size", "why")
    for rejection in made.rejected:
        p = rejection.prediction
        figures = (milliseconds(p.latency_ms.mid), size(p.size_bytes.mid)) if p else ("-", "-")
        table.add_row(rejection.recipe.label, *figures, rejection.reason)
    return (table,)


def built(made: Built) -> RenderableType:
    """A finished build: what was made, and how it was proven."""
    manifest, artifact = made.manifest, made.manifest.artifact
    table = new_table("", "", header=False)
    table.add_row("bundle", str(made.path))
    table.add_row("recipe", manifest.recipe.label)
    table.add_row("artifact", f"{artifact.path}, {size(artifact.size_bytes)}")
    table.add_row("validated", validation(manifest.validation))
    for what, how in compressed(manifest):
        table.add_row(what, how)
    for bound in (*artifact.inputs, *artifact.outputs):
        stored = bound.quantization
        how = f", scale {stored.scale:.6g}, zero point {stored.zero_point}" if stored else ""
        spec = bound.artifact
        table.add_row(spec.name, f"{spec.dtype} {list(spec.shape)} {bound.layout or ''}{how}")
    table.add_row("golden", f"{manifest.golden.sample_count} vectors to be compared on the device")
    for note in documents.notes(manifest):
        table.add_row("note", note)
    seconds = f"{made.elapsed_s:.1f} s"
    table.add_row("took", "nothing had changed: from the cache" if made.cached else seconds)
    failed = [a for a in manifest.attempts if a.outcome is not Outcome.CHOSEN]
    return Group(
        table,
        *([attempts(failed)] if failed else []),
        *([sensitivity(manifest)] if manifest.sensitivity else []),
        *([contest(manifest.measured)] if manifest.measured else []),
    )


def compressed(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What was done to the network before it was converted."""
    if pruned := manifest.pruned:
        left = pruned.macs_after / pruned.macs_before
        yield "pruned", f"{left:.1%} of the multiply-accumulates are left"
    if (rounded := manifest.rounded) and rounded.used:
        yield (
            "rounded",
            f"{len(rounded.layers)} layers fitted to {rounded.layers[0].bits} bits: "
            f"{rounded.error:.2g} of the outputs' variance lost, {rounded.error_to_nearest:.2g} "
            "with every weight at its nearest",
        )
    if (balanced := manifest.balanced) and balanced.used:
        did = ["channels equalized"] * balanced.equalized + [
            "biases corrected"
        ] * balanced.corrected
        yield (
            "balanced",
            f"{' and '.join(did)}: {balanced.error:.2g} of the outputs' variance lost in int8, "
            f"{balanced.error_before:.2g} without",
        )
    for how, names in manifest.recipe.raised.items():
        yield how, ", ".join(names)


def sensitivity(manifest: Manifest) -> RenderableType:
    """What nodes cost that alone are quantized, the costliest first."""
    bits = manifest.recipe.quantization.weights if manifest.recipe.quantization else ""
    table = new_table("node", f"alone in {bits}: of the outputs' variance lost", "")
    raised = {name: how for how, names in manifest.recipe.raised.items() for name in names}
    for cost in manifest.sensitivity[:HEAVIEST]:
        lost = f"{cost.error:.2g}" if cost.error < 1 else "all"
        table.add_row(cost.name, lost, raised.get(cost.name, ""))
    return table


def contest(entrants: Sequence[Measured]) -> RenderableType:
    """The candidates that were measured in turn: predicted beside measured."""
    table = new_table(f"measured on {entrants[0].target}", "predicted", "measured", "size", "")
    for entrant in entrants:
        took = entrant.latency_ms
        table.add_row(
            entrant.recipe.label,
            f"{_span(entrant.prediction.latency_ms)} ms",
            f"{_span(took)} ms" if took else "-",
            size(entrant.size_bytes),
            "; ".join((f"{_MARKS[entrant.outcome]}: {entrant.reason}", *entrant.doubts)),
        )
    return table


def attempts(tried: Sequence[Attempt]) -> RenderableType:
    """What was tried before, and why it was not taken."""
    table = new_table("tried before", "", "why not")
    for attempt in tried:
        table.add_row(attempt.recipe.label, _MARKS[attempt.outcome], attempt.reason)
    return table


def validation(report: ValidationReport) -> str:
    """``top1 0.928 (original 0.928) on 500 evaluation samples``."""
    told = (
        f"{report.metric} {report.value:.4g} (original {report.baseline:.4g}) on "
        f"{report.sample_count} {report.data} samples"
    )
    undecided = report.verdict == "undecided"
    return f"{told}: undecided, they are too few to tell" if undecided else told


def verified(path: str, sha256: str, manifest: Manifest) -> RenderableType:
    """A bundle that is whole."""
    name = printable(manifest.model_name)
    return Text(
        f"{path} is whole: {len(manifest.digests) + 1} files, every digest is right.\n"
        f"{name} for {printable(manifest.device)}: {manifest.recipe.label}\nbundle {sha256}"
    )


def exported(made: Exported) -> RenderableType:
    """An export that was written."""
    table = new_table("", "", header=False)
    record = made.record
    table.add_row("export", f"{made.path}, {size(made.size_bytes)}")
    table.add_row("platform", record.platform)
    table.add_row("name", record.name)
    for index, name in enumerate(record.files):
        table.add_row("" if index else "files", name)
    return table


def pushed(deployment: Deployment) -> RenderableType:
    """What a push did."""
    if deployment.pushed_bytes == 0:
        return Text(f"{deployment.target} has this bundle already, and it is whole.")
    return Text(
        f"{deployment.target}: {size(deployment.pushed_bytes)} pushed in "
        f"{deployment.elapsed_s:.1f} s, verified there: {deployment.path}"
    )


def tools(rows: Iterable[tuple[str, str, str, str]]) -> RenderableType:
    """The tools that edgekit runs in environments of their own."""
    table = new_table("tool", "version", "what it does", "environment")
    for row in rows:
        table.add_row(*row)
    return table


def _span(value: Range) -> str:
    return f"{value.mid:.3g} ({value.low:.2g} to {value.high:.2g})"
