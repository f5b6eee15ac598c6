// The model, as the app calls it: cells in, a word out.

import CoreGraphics
import EdgekitDigits
import Foundation

/// Reads drawings in the background, a few at a time.
final class Reader {
    static let side = 8

    private let worker: Worker<CGImage, String>

    init() async throws {
        let model = try await DigitsModel()
        worker = Worker(capacity: 2) { drawings in
            try drawings.map { drawing in
                let output = try model.predict(.init(image: .image(drawing)))
                return output.best(1)[0].label
            }
        }
    }

    /// The digit in `side` rows of as many cells, 0 black to 255 white.
    func read(_ cells: [UInt8]) async -> String {
        guard let drawing = Self.image(cells) else { return "no picture" }
        do {
            return try await worker.answer(to: drawing)
        } catch {
            return error.localizedDescription
        }
    }

    private static func image(_ cells: [UInt8]) -> CGImage? {
        guard let data = CGDataProvider(data: Data(cells) as CFData) else { return nil }
        return CGImage(
            width: side, height: side, bitsPerComponent: 8, bitsPerPixel: 8, bytesPerRow: side,
            space: CGColorSpaceCreateDeviceGray(), bitmapInfo: CGBitmapInfo(rawValue: 0),
            provider: data, decode: nil, shouldInterpolate: false, intent: .defaultIntent)
    }
}
