// One input or output: how the app's values become what Core ML takes, and back.

import CoreGraphics
import CoreML
import CoreVideo
import Foundation

/// What an app gives for an input that is a picture.
public enum Picture {
    /// Scaled to the model's size, and converted to its colours.
    case image(CGImage)
    /// Of the model's own size, as a camera or Vision gives it.
    case pixels(CVPixelBuffer)
}

/// What an app gives for an input.
enum Value {
    case floats([Float])
    case integers([Int32])
    case picture(Picture)
}

/// An input or an output.
struct Tensor {
    /// The package's name for it.
    let name: String
    /// What the app gives or gets; the last axis is the fastest.
    let shape: [Int]
    let element: Element

    private var count: Int { shape.reduce(1, *) }

    /// The app's value as Core ML takes it.
    func feature(_ value: Value, for description: MLFeatureDescription?) throws -> MLFeatureValue {
        switch value {
        case .floats(let numbers):
            guard element != .int32 else { throw ModelError.input("\(name) takes integers") }
            return MLFeatureValue(multiArray: try array(numbers, .float32))
        case .integers(let numbers):
            guard element == .int32 else { throw ModelError.input("\(name) takes real numbers") }
            return MLFeatureValue(multiArray: try array(numbers, .int32))
        case .picture(.image(let image)):
            guard let constraint = description?.imageConstraint else {
                throw ModelError.input("\(name) is no picture")
            }
            return try MLFeatureValue(cgImage: image, constraint: constraint, options: nil)
        case .picture(.pixels(let buffer)):
            return MLFeatureValue(pixelBuffer: buffer)
        }
    }

    /// The numbers that Core ML gave; of a classifier, in the order of its classes.
    func given(in outputs: MLFeatureProvider, classes: [Any]?) throws -> [Double] {
        guard let value = outputs.featureValue(for: name) else {
            throw ModelError.output("the model gives no \(name)")
        }
        var found: [Double]?
        if let array = value.multiArrayValue {
            found = numbers(of: array)
        } else if value.type == .dictionary, let classes = classes {
            let scores = value.dictionaryValue
            found = classes.map { label in
                (label as? AnyHashable).flatMap { scores[$0]?.doubleValue } ?? .nan
            }
        }
        guard let all = found, all.count == count else {
            throw ModelError.output("\(name) should be \(shape), got \(found?.count ?? 0) numbers")
        }
        return all
    }

    /// In memory of its own, whose strides are known.
    private func array<T>(_ numbers: [T], _ type: MLMultiArrayDataType) throws -> MLMultiArray {
        guard numbers.count == count else {
            throw ModelError.input("\(name) takes \(shape) = \(count) values, got \(numbers.count)")
        }
        let memory = UnsafeMutablePointer<T>.allocate(capacity: max(count, 1))
        memory.initialize(from: numbers, count: count)
        return try MLMultiArray(
            dataPointer: memory, shape: shape.map { NSNumber(value: $0) }, dataType: type,
            strides: contiguous(shape).map { NSNumber(value: $0) },
            deallocator: { _ in memory.deallocate() })
    }
}
