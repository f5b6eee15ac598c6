// Numbers as Core ML holds them. An app's wrapper has this file, too.

import CoreML
import Foundation

/// The types of numbers in models and in files.
enum Element: String {
    case float16, float32, float64, int32, int64, uint8

    var bytes: Int {
        switch self {
        case .uint8: return 1
        case .float16: return 2
        case .float32, .int32: return 4
        case .float64, .int64: return 8
        }
    }

    /// One number; integers beyond 2^53 are rounded.
    func number(at index: Int, in buffer: UnsafeRawBufferPointer) -> Double {
        let offset = index * bytes
        switch self {
        case .uint8: return Double(buffer[offset])
        case .float16: return half(buffer.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
        case .float32: return Double(buffer.loadUnaligned(fromByteOffset: offset, as: Float.self))
        case .float64: return buffer.loadUnaligned(fromByteOffset: offset, as: Double.self)
        case .int32: return Double(buffer.loadUnaligned(fromByteOffset: offset, as: Int32.self))
        case .int64: return Double(buffer.loadUnaligned(fromByteOffset: offset, as: Int64.self))
        }
    }
}

/// IEEE 754 binary16; `Float16` does not exist on every Mac.
func half(_ bits: UInt16) -> Double {
    let sign = bits >> 15 == 0 ? 1.0 : -1.0
    let exponent = Int((bits >> 10) & 0x1F)
    let fraction = Double(bits & 0x3FF)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * Double.infinity : Double.nan
    default: return sign * (1024 + fraction) * pow(2, Double(exponent - 25))
    }
}

func element(of type: MLMultiArrayDataType) -> Element? {
    switch type {
    case .float16: return .float16
    case .float32: return .float32
    case .double: return .float64
    case .int32: return .int32
    default: return nil
    }
}

/// The strides of numbers that lie one after another, the last axis fastest.
func contiguous(_ shape: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in shape.indices.dropLast().reversed() {
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    }
    return strides
}

/// An array's numbers in the order of their indices; its rows may be padded. Nil where their type
/// is not known here.
func numbers(of array: MLMultiArray) -> [Double]? {
    guard let type = element(of: array.dataType) else { return nil }
    let shape = array.shape.map(\.intValue)
    let strides = array.strides.map(\.intValue)
    var places = [0]
    for (length, stride) in zip(shape, strides) {
        places = places.flatMap { place in (0..<length).map { place + $0 * stride } }
    }
    return array.withUnsafeBytes { buffer in places.map { type.number(at: $0, in: buffer) } }
}
