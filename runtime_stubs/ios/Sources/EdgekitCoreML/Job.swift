// What is to be done, and what a bundle's manifest says that matters here.

import CoreML
import Foundation

/// One part of a benchmark.
struct Job: Decodable {
    let part: String
    /// The folder of the bundle: its manifest and its golden vectors.
    let bundle: String
    /// A compiled model (`.mlmodelc`), or a package (`.mlpackage`) to be compiled here.
    let model: String
    /// Of the model's folder, as `digest(ofFolder:)` gives it.
    let sha256: String
    let computeUnits: String
    let runs: Int
    let seconds: Double
    let warmupRuns: Int
    let warmupSeconds: Double

    init(json: String) throws {
        do {
            self = try JSONDecoder().decode(Job.self, from: Data(json.utf8))
        } catch {
            throw Failure("usage", "not a job: \(error)")
        }
    }

    var bundleFolder: URL { located(bundle) }
    var modelFolder: URL { located(model) }

    func units() throws -> MLComputeUnits {
        let known: [String: MLComputeUnits] = [
            "cpuOnly": .cpuOnly,
            "cpuAndGPU": .cpuAndGPU,
            "cpuAndNeuralEngine": .cpuAndNeuralEngine,
            "all": .all,
        ]
        guard let units = known[computeUnits] else {
            let names = known.keys.sorted().joined(separator: ", ")
            throw Failure("usage", "compute units \(computeUnits) are not known, expected one of \(names)")
        }
        return units
    }
}

/// A path as given; on an iPhone it is relative to the application's documents.
private func located(_ path: String) -> URL {
    let documents = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask).first
    return URL(fileURLWithPath: path, relativeTo: path.hasPrefix("/") ? nil : documents)
}

/// The part of `manifest.json` that a measurement rests on.
struct Manifest: Decodable {
    let artifact: Artifact
    let golden: Golden

    struct Artifact: Decodable {
        let inputs: [Binding]
        let outputs: [Binding]
    }

    struct Binding: Decodable {
        let artifact: Tensor
    }

    struct Tensor: Decodable {
        let name: String
        let shape: [Int]
        let dtype: String
    }

    struct Golden: Decodable {
        let sampleCount: Int
        let inputs: [String]
        let outputs: [String]
        let tolerances: [Double]
    }

    init(bundle: URL) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            let data = try Data(contentsOf: bundle.appendingPathComponent("manifest.json"))
            self = try decoder.decode(Manifest.self, from: data)
        } catch {
            throw Failure("bundle", "the bundle has no manifest that can be read: \(error)")
        }
        let counts = [artifact.outputs.count, golden.outputs.count, golden.tolerances.count]
        guard Set(counts).count == 1, artifact.inputs.count == golden.inputs.count else {
            throw Failure("bundle", "the manifest contradicts itself over its golden vectors")
        }
    }
}
