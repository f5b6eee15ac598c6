// A Core ML model in this process: samples in, numbers out.

import CoreML
import CoreVideo
import Foundation

/// The version of the system, which is that of Core ML.
func systemVersion() -> String {
    let version = ProcessInfo.processInfo.operatingSystemVersion
    return "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
}

let runtime: Event = ["name": "coreml", "module": "coreml", "version": systemVersion()]

/// What a model gave for one output.
struct Given {
    let shape: [Int]
    let numbers: [Double]
}

final class Model {
    let loadNanoseconds: UInt64
    /// Where the compiled model lies.
    let compiled: URL
    let configuration: MLModelConfiguration
    private let model: MLModel

    init(_ job: Job) async throws {
        try check(job.modelFolder, against: job.sha256)
        configuration = MLModelConfiguration()
        configuration.computeUnits = try job.units()
        do {
            let isPackage = job.modelFolder.pathExtension == "mlpackage"
            compiled = isPackage ? try await MLModel.compileModel(at: job.modelFolder) : job.modelFolder
            let start = DispatchTime.now()
            model = try MLModel(contentsOf: compiled, configuration: configuration)
            loadNanoseconds = nanoseconds(since: start)
        } catch {
            let name = job.modelFolder.lastPathComponent
            throw Failure("model", "\(name) does not load in Core ML \(systemVersion()): \(error)")
        }
    }

    /// One sample of every input, made into what the model takes.
    func inputs(_ samples: [(Manifest.Binding, Sample)]) throws -> MLFeatureProvider {
        var values: [String: MLFeatureValue] = [:]
        for (binding, sample) in samples {
            let name = binding.artifact.name
            guard let description = model.modelDescription.inputDescriptionsByName[name] else {
                throw Failure("bundle", "the model takes no \(name), which the manifest lists")
            }
            if let image = description.imageConstraint {
                values[name] = MLFeatureValue(pixelBuffer: try picture(sample, image))
            } else {
                values[name] = MLFeatureValue(multiArray: try multiArray(sample))
            }
        }
        return try MLDictionaryFeatureProvider(dictionary: values)
    }

    func predict(_ inputs: MLFeatureProvider) throws -> MLFeatureProvider {
        do {
            return try model.prediction(from: inputs)
        } catch {
            throw Failure("run", "the inference failed: \(error)")
        }
    }

    /// An output's numbers; a classifier's dictionary in the order of its classes.
    func given(_ name: String, in outputs: MLFeatureProvider) throws -> Given {
        guard let value = outputs.featureValue(for: name) else {
            throw Failure("bundle", "the model gives no output \(name), which the manifest lists")
        }
        if let array = value.multiArrayValue {
            guard let found = numbers(of: array) else {
                throw Failure("run", "the model gives numbers of a type that is not known here")
            }
            return Given(shape: array.shape.map(\.intValue), numbers: found)
        }
        if value.type == .dictionary, let classes = model.modelDescription.classLabels {
            let scores = value.dictionaryValue
            let found = classes.map { label in (label as? AnyHashable).flatMap { scores[$0]?.doubleValue } }
            return Given(shape: [1, classes.count], numbers: found.map { $0 ?? .nan })
        }
        throw Failure("run", "the output \(name) is not a tensor of numbers")
    }

    /// What the model takes and gives.
    func details() -> Event {
        let description = model.modelDescription
        func side(_ features: [String: MLFeatureDescription]) -> [Event] {
            features.keys.sorted().map { name in
                let array = features[name]?.multiArrayConstraint
                return [
                    "name": name,
                    "shape": array?.shape.map(\.intValue) ?? [],
                    "dtype": array.map { element(of: $0.dataType)?.rawValue ?? "unknown" } ?? "uint8",
                    "scale": NSNull(),
                    "zero_point": NSNull(),
                ]
            }
        }
        return [
            "input_details": side(description.inputDescriptionsByName),
            "output_details": side(description.outputDescriptionsByName),
        ]
    }
}

private func check(_ folder: URL, against expected: String) throws {
    let got: String
    do {
        got = try digest(ofFolder: folder)
    } catch {
        throw Failure("bundle", "\(folder.lastPathComponent) cannot be checked: \(error)")
    }
    guard got == expected else {
        throw Failure(
            "bundle",
            "\(folder.lastPathComponent) is not what was sent: expected sha256 \(expected), got \(got)",
            hint: "it changed on the device: measure again")
    }
}

func nanoseconds(since start: DispatchTime) -> UInt64 {
    DispatchTime.now().uptimeNanoseconds - start.uptimeNanoseconds
}

private func multiArray(_ sample: Sample) throws -> MLMultiArray {
    let types: [Element: MLMultiArrayDataType] = [
        .float16: .float16, .float32: .float32, .float64: .double, .int32: .int32,
    ]
    guard let type = types[sample.element] else {
        throw Failure("bundle", "Core ML takes no arrays of \(sample.element.rawValue)")
    }
    // In memory of our own, whose strides are known.
    let memory = UnsafeMutableRawPointer.allocate(byteCount: max(sample.data.count, 1), alignment: 64)
    sample.data.copyBytes(to: memory.assumingMemoryBound(to: UInt8.self), count: sample.data.count)
    return try MLMultiArray(
        dataPointer: memory, shape: sample.shape.map { NSNumber(value: $0) }, dataType: type,
        strides: contiguous(sample.shape).map { NSNumber(value: $0) }, deallocator: { $0.deallocate() })
}

/// A picture from bytes in the order row, column, and red, green, blue; or row, column of grey.
private func picture(_ sample: Sample, _ image: MLImageConstraint) throws -> CVPixelBuffer {
    let (width, height) = (image.pixelsWide, image.pixelsHigh)
    // Where a pixel of the buffer has what the sample has first, second and third.
    let places = sample.shape.count == 2 ? [0] : [2, 1, 0]
    guard sample.element == .uint8, sample.data.count == places.count * width * height else {
        throw Failure("bundle", "a golden picture is not \(width) by \(height) pixels of bytes")
    }
    let isGray = places.count == 1
    let format = isGray ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA
    var made: CVPixelBuffer?
    let status = CVPixelBufferCreate(kCFAllocatorDefault, width, height, format, nil, &made)
    guard status == kCVReturnSuccess, let buffer = made else {
        throw Failure("run", "no memory for a picture of \(width) by \(height) pixels")
    }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    guard let base = CVPixelBufferGetBaseAddress(buffer) else {
        throw Failure("run", "a picture's memory cannot be reached")
    }
    let pixels = base.assumingMemoryBound(to: UInt8.self)
    let (rowBytes, pixelBytes) = (CVPixelBufferGetBytesPerRow(buffer), isGray ? 1 : 4)
    let bytes = [UInt8](sample.data)
    for row in 0..<height {
        for column in 0..<width {
            let pixel = pixels + row * rowBytes + column * pixelBytes
            if !isGray { pixel[3] = 255 }
            for (channel, place) in places.enumerated() {
                pixel[place] = bytes[(row * width + column) * places.count + channel]
            }
        }
    }
    return buffer
}
