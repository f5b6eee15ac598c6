// A package of Core ML, checked, compiled once, loaded, and asked.

import CoreML
import Foundation

/// A loaded model.
final class Session {
    private let inputs: [Tensor]
    private let outputs: [Tensor]
    private let model: MLModel
    private let cache: Cache?
    /// Core ML takes one call at a time.
    private let lock = NSLock()

    /// - Parameters:
    ///   - package: the `.mlpackage` in the app, as it was exported.
    ///   - sha256: its digest.
    ///   - inputs: in the order in which `run` takes them.
    ///   - outputs: in the order in which `run` gives them.
    ///   - computeUnits: the processors that Core ML may use.
    ///   - cached: how many answers are kept; 0: none.
    init(
        package: URL?, sha256: String, inputs: [Tensor], outputs: [Tensor],
        computeUnits: MLComputeUnits, cached: Int
    ) async throws {
        guard let package = package else { throw ModelError.notLoaded("the app has no such model") }
        let got = try digest(ofFolder: package)
        guard got == sha256 else { throw ModelError.artifactChanged(expected: sha256, got: got) }
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        let compiled = try await Self.compiled(package, sha256: sha256)
        model = try MLModel(contentsOf: compiled, configuration: configuration)
        self.inputs = inputs
        self.outputs = outputs
        cache = cached > 0 ? Cache(capacity: cached) : nil
    }

    /// Every output's numbers.
    func run(_ values: [Value]) throws -> [[Double]] {
        // Pictures are not compared: asking the model costs no more than reading them all.
        let key = cache == nil ? nil : Self.key(values)
        if let key = key, let known = cache?[key] { return known }
        let described = model.modelDescription.inputDescriptionsByName
        var features: [String: MLFeatureValue] = [:]
        for (tensor, value) in zip(inputs, values) {
            features[tensor.name] = try tensor.feature(value, for: described[tensor.name])
        }
        let given = try predict(MLDictionaryFeatureProvider(dictionary: features))
        let classes = model.modelDescription.classLabels
        let answer = try outputs.map { try $0.given(in: given, classes: classes) }
        if let key = key { cache?[key] = answer }
        return answer
    }

    private func predict(_ features: MLFeatureProvider) throws -> MLFeatureProvider {
        lock.lock()
        defer { lock.unlock() }
        return try model.prediction(from: features)
    }

    /// The compiled model: made once for each package and each version of the system.
    private static func compiled(_ package: URL, sha256: String) async throws -> URL {
        let files = FileManager.default
        let version = ProcessInfo.processInfo.operatingSystemVersion
        let system = "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
        let folder = try files
            .url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
            .appendingPathComponent("edgekit", isDirectory: true)
        let kept = folder.appendingPathComponent("\(sha256)-\(system).mlmodelc", isDirectory: true)
        if files.fileExists(atPath: kept.path) { return kept }
        try files.createDirectory(at: folder, withIntermediateDirectories: true)
        let made = try await MLModel.compileModel(at: package)
        do {
            try files.moveItem(at: made, to: kept)
        } catch where files.fileExists(atPath: kept.path) {
            // Another call was faster; its model is the same.
            try? files.removeItem(at: made)
        }
        return kept
    }

    private static func key(_ values: [Value]) -> [Data]? {
        var key: [Data] = []
        for value in values {
            switch value {
            case .floats(let numbers): key.append(numbers.withUnsafeBytes { Data($0) })
            case .integers(let numbers): key.append(numbers.withUnsafeBytes { Data($0) })
            case .picture: return nil
            }
        }
        return key
    }
}
