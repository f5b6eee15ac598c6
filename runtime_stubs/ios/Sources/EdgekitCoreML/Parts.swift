// The parts of a benchmark, each in a process of its own.

import CoreML
import Foundation

private let memoryRuns = 3
private let maxSamples = 1_000_000

func perform(_ job: Job, _ emit: Events) async throws {
    let parts: [String: (Job, Events) async throws -> Void] = [
        "device": device, "describe": describe, "golden": golden,
        "measure": measure, "memory": memory, "placement": placement,
    ]
    guard let part = parts[job.part] else {
        throw Failure("usage", "no part \(job.part), expected one of \(parts.keys.sorted().joined(separator: ", "))")
    }
    try await part(job, emit)
}

/// A bundle's model in this process: what every part does before its own work.
private struct Visit {
    let model: Model
    let manifest: Manifest
    private let bundle: URL

    init(_ job: Job, _ emit: Events) async throws {
        bundle = job.bundleFolder
        manifest = try Manifest(bundle: bundle)
        emit.phase("loading the model")
        model = try await Model(job)
    }

    /// The golden samples of some files, all of the manifest's number.
    func samples(_ names: [String]) throws -> [Samples] {
        try names.map { name in
            let samples = try Samples(bundle.appendingPathComponent(name))
            guard samples.count == manifest.golden.sampleCount, samples.count > 0 else {
                throw Failure("bundle", "\(name) does not hold \(manifest.golden.sampleCount) samples")
            }
            return samples
        }
    }

    /// The model's inputs for one golden sample.
    func inputs(_ stored: [Samples], at index: Int) throws -> MLFeatureProvider {
        try model.inputs(zip(manifest.artifact.inputs, stored).map { ($0, $1[index]) })
    }

    /// A function that runs golden sample 0.
    func firstStep() throws -> () throws -> Void {
        let inputs = try self.inputs(samples(manifest.golden.inputs), at: 0)
        return { _ = try model.predict(inputs) }
    }
}

/// Say what this device is.
private func device(_ job: Job, _ emit: Events) async throws {
    let process = ProcessInfo.processInfo
    emit([
        "event": "device",
        "system": "\(systemName) \(systemVersion())",
        "machine": "arm64",
        "cpu_model": text(ofSystemControl: "hw.machine"),
        "cores": process.processorCount,
        "memory_total_bytes": Int(process.physicalMemory),
    ])
}

/// Say what the model takes and gives, without running it.
private func describe(_ job: Job, _ emit: Events) async throws {
    let model = try await Model(job)
    emit(model.details().merging(["event": "described", "runtime": runtime]) { _, new in new })
}

/// Compare this device's outputs with the bundle's.
private func golden(_ job: Job, _ emit: Events) async throws {
    let visit = try await Visit(job, emit)
    emit.phase("running the golden inputs")
    let vectors = visit.manifest.golden
    let inputs = try visit.samples(vectors.inputs)
    let wanted = try visit.samples(vectors.outputs)
    let names = visit.manifest.artifact.outputs.map(\.artifact.name)
    var errors = [Double](repeating: 0, count: names.count)
    for index in 0..<vectors.sampleCount {
        let outputs = try visit.model.predict(visit.inputs(inputs, at: index))
        for (place, name) in names.enumerated() {
            let given = try visit.model.given(name, in: outputs)
            errors[place] = max(errors[place], try largestError(given, wanted[place][index], name))
        }
    }
    emit(verdict(names, errors, vectors))
}

/// The largest absolute difference; infinite where one of the two is not a number.
private func largestError(_ given: Given, _ wanted: Sample, _ name: String) throws -> Double {
    let numbers = wanted.numbers
    // Core ML has no tensors without axes: a number comes as a list of one.
    guard given.numbers.count == numbers.count, wanted.shape.isEmpty || given.shape == wanted.shape else {
        throw Failure("golden", "the output \(name) has shape \(given.shape), its golden vector \(wanted.shape)")
    }
    let errors = zip(given.numbers, numbers).map { $0 == $1 ? 0 : abs($0 - $1) }
    return errors.contains(where: \.isNaN) ? .infinity : errors.max() ?? 0
}

private func verdict(_ names: [String], _ errors: [Double], _ vectors: Manifest.Golden) -> Event {
    let excess = zip(errors, vectors.tolerances).map { $0 - $1 }
    let worst = excess.indices.max { excess[$0] < excess[$1] } ?? 0
    return [
        "event": "golden",
        "passed": excess.allSatisfy { $0 <= 0 },
        "max_error": finite(errors.max() ?? 0),
        "worst_output": names[worst],
        "worst_error": finite(errors[worst]),
        "tolerance": vectors.tolerances[worst],
        "sample_count": vectors.sampleCount,
        "runtime": runtime,
    ]
}

/// Time a fresh process: load, first inference, then the steady state.
private func measure(_ job: Job, _ emit: Events) async throws {
    let visit = try await Visit(job, emit)
    let step = try visit.firstStep()
    emit.phase("running for the first time")
    let start = DispatchTime.now()
    try autoreleasepool { try step() }
    let firstInference = nanoseconds(since: start)
    emit.phase("warming up")
    _ = try timed(step, runs: job.warmupRuns, seconds: job.warmupSeconds)
    emit.phase("measuring")
    let samples = try timed(step, runs: job.runs, seconds: job.seconds)
    emit([
        "event": "process",
        "first_load_ns": visit.model.loadNanoseconds,
        "first_inference_ns": firstInference,
        "samples_ns": samples,
        "thermal_state": ProcessInfo.processInfo.thermalState.rawValue,
    ])
}

/// Nanoseconds of each run, until both `runs` and `seconds` are reached.
///
/// Between two readings of the clock lies one inference, and the release of what it left.
private func timed(_ step: () throws -> Void, runs: Int, seconds: Double) throws -> [UInt64] {
    var samples: [UInt64] = []
    let begin = DispatchTime.now()
    repeat {
        let start = DispatchTime.now()
        try autoreleasepool { try step() }
        samples.append(nanoseconds(since: start))
    } while samples.count < maxSamples
        && (samples.count < runs || Double(nanoseconds(since: begin)) < seconds * 1e9)
    return samples
}

/// Peak memory of a process that only loads and runs.
private func memory(_ job: Job, _ emit: Events) async throws {
    let visit = try await Visit(job, emit)
    let step = try visit.firstStep()
    emit.phase("running")
    for _ in 0..<memoryRuns {
        try autoreleasepool { try step() }
    }
    emit(["event": "memory", "peak_memory_bytes": peakMemoryBytes().map { $0 as Any } ?? NSNull()])
}

/// Where Core ML means to run each operation; systems before iOS 17.4 and macOS 14.4 do not tell.
private func placement(_ job: Job, _ emit: Events) async throws {
    let model = try await Model(job)
    var operations: Any = NSNull()
    if #available(iOS 17.4, macOS 14.4, *) {
        operations = try await placed(model.compiled, model.configuration)
    }
    emit(["event": "placement", "compute_units": job.computeUnits, "operations": operations])
}

/// How many operations run where. Constants run nowhere and are left out.
@available(iOS 17.4, macOS 14.4, *)
private func placed(_ compiled: URL, _ configuration: MLModelConfiguration) async throws -> [String: Int] {
    let plan = try await MLComputePlan.load(contentsOf: compiled, configuration: configuration)
    var counts = ["cpu": 0, "gpu": 0, "neural_engine": 0, "unknown": 0]
    func count(_ block: MLModelStructure.Program.Block) {
        for operation in block.operations {
            if !operation.operatorName.hasSuffix("const") && !operation.operatorName.contains("constexpr_") {
                counts[name(of: plan.deviceUsage(for: operation)?.preferred), default: 0] += 1
            }
            operation.blocks.forEach(count)
        }
    }
    if case .program(let program) = plan.modelStructure, let main = program.functions["main"] {
        count(main.block)
    }
    return counts
}

@available(iOS 17.4, macOS 14.4, *)
private func name(of device: MLComputeDevice?) -> String {
    switch device {
    case .cpu: return "cpu"
    case .gpu: return "gpu"
    case .neuralEngine: return "neural_engine"
    default: return "unknown"
    }
}
