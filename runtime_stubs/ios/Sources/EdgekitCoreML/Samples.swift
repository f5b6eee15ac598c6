// Samples on disk: NumPy's .npy (versions 1 and 2), read without trusting its header.

import Foundation

extension Element {
    /// By NumPy's name.
    init?(descr: String) {
        let known: [String: Element] = [
            "<f2": .float16, "<f4": .float32, "<f8": .float64,
            "<i4": .int32, "<i8": .int64, "|u1": .uint8,
        ]
        guard let element = known[descr] else { return nil }
        self = element
    }
}

/// One sample: numbers in the order of their indices, the last one fastest.
struct Sample {
    let element: Element
    let shape: [Int]
    let data: Data

    var numbers: [Double] {
        data.withUnsafeBytes { buffer in
            (0..<buffer.count / element.bytes).map { element.number(at: $0, in: buffer) }
        }
    }
}

/// A `.npy` file whose first axis counts the samples.
struct Samples {
    let count: Int
    private let element: Element
    private let shape: [Int]
    private let contents: Data
    private let offset: Int
    private let stride: Int

    init(_ url: URL) throws {
        func refused(_ why: String) -> Failure {
            Failure("bundle", "\(url.lastPathComponent) is not a .npy file of samples: \(why)")
        }
        guard let contents = try? Data(contentsOf: url, options: .mappedIfSafe) else {
            throw refused("it cannot be read")
        }
        guard let (header, offset) = Samples.header(of: contents) else {
            throw refused("its header is damaged")
        }
        guard header.contains("'fortran_order': False"), let text = quoted(after: "'descr': ", in: header),
            let element = Element(descr: text)
        else {
            throw refused("its order or its type is not known here")
        }
        guard let shape = Samples.shape(in: header), let count = shape.first else {
            throw refused("it has no shape")
        }
        guard let stride = product(Array(shape.dropFirst()) + [element.bytes]),
            let total = product([count, stride]), contents.count - offset == total
        else {
            throw refused("it is not as long as its shape says")
        }
        self.count = count
        self.element = element
        self.shape = Array(shape.dropFirst())
        self.contents = contents
        self.offset = offset
        self.stride = stride
    }

    subscript(index: Int) -> Sample {
        let start = contents.startIndex + offset + index * stride
        return Sample(element: element, shape: shape, data: contents.subdata(in: start..<start + stride))
    }

    /// The header's text, and where the numbers begin.
    private static func header(of contents: Data) -> (String, Int)? {
        let bytes = [UInt8](contents.prefix(12))
        guard bytes.count == 12, Array(bytes[0..<6]) == [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59],
            bytes[6] == 1 || bytes[6] == 2
        else { return nil }
        let start = bytes[6] == 1 ? 10 : 12
        let length = (8..<start).reversed().reduce(0) { $0 << 8 | Int(bytes[$1]) }
        guard length <= 65536, start + length <= contents.count else { return nil }
        let text = contents.subdata(in: contents.startIndex + start..<contents.startIndex + start + length)
        guard let header = String(data: text, encoding: .utf8) else { return nil }
        return (header, start + length)
    }

    private static func shape(in header: String) -> [Int]? {
        guard let start = header.range(of: "'shape': (")?.upperBound,
            let end = header[start...].firstIndex(of: ")")
        else { return nil }
        let lengths = header[start..<end].split(separator: ",").map {
            Int($0.trimmingCharacters(in: .whitespaces))
        }
        guard lengths.allSatisfy({ $0 != nil && $0! >= 0 }) else { return nil }
        return lengths.compactMap { $0 }
    }
}

private func quoted(after key: String, in text: String) -> String? {
    guard let start = text.range(of: key + "'")?.upperBound, let end = text[start...].firstIndex(of: "'")
    else { return nil }
    return String(text[start..<end])
}

/// The product; nil where it does not fit an integer.
private func product(_ factors: [Int]) -> Int? {
    var result = 1
    for factor in factors {
        let (next, overflow) = result.multipliedReportingOverflow(by: factor)
        if overflow { return nil }
        result = next
    }
    return result
}
