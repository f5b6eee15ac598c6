// Digests as edgekit records them, so that what runs is what was bundled. An app's wrapper has
// this file, too.

import CryptoKit
import Foundation

private let chunkBytes = 1 << 20

/// The SHA-256 of a folder: over each file's name, a zero byte and the file's own SHA-256, in
/// the order of the names' bytes.
func digest(ofFolder folder: URL) throws -> String {
    var total = SHA256()
    for name in try files(under: folder) {
        total.update(data: Data(name.utf8) + [0])
        total.update(data: Data(try digest(ofFile: folder.appendingPathComponent(name))))
    }
    return total.finalize().map { String(format: "%02x", $0) }.joined()
}

/// A folder that has no digest.
struct NoDigest: Error, CustomStringConvertible {
    let description: String
}

private func files(under folder: URL) throws -> [String] {
    guard let entries = FileManager.default.enumerator(atPath: folder.path) else {
        throw NoDigest(description: "no such folder: \(folder.path)")
    }
    var names: [String] = []
    while let name = entries.nextObject() as? String {
        let kind = entries.fileAttributes?[.type] as? FileAttributeType
        if kind == .typeRegular {
            names.append(name)
        } else if kind != .typeDirectory {
            throw NoDigest(description: "\(folder.lastPathComponent) holds \(name), which is no plain file")
        }
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
}

private func digest(ofFile url: URL) throws -> SHA256.Digest {
    let file = try FileHandle(forReadingFrom: url)
    defer { try? file.close() }
    var hash = SHA256()
    while let chunk = try file.read(upToCount: chunkBytes), !chunk.isEmpty {
        hash.update(data: chunk)
    }
    return hash.finalize()
}
