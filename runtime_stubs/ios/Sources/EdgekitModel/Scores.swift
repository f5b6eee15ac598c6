// What a classifier's scores say: the likeliest classes, and how sure they are.

import Foundation

public struct Scored {
    public let label: String
    public let score: Float
}

/// The best classes, the likeliest first.
public func best(_ count: Int, of scores: [Float], labels: [String]) -> [Scored] {
    precondition(scores.count == labels.count, "\(scores.count) scores, \(labels.count) labels")
    let pairs = zip(labels, scores).map { Scored(label: $0, score: $1) }
    return Array(pairs.sorted { $0.score > $1.score }.prefix(count))
}

/// Probabilities of scores that are logits.
public func softmax(_ scores: [Float]) -> [Float] {
    let largest = scores.max() ?? 0
    let powers = scores.map { exp(Double($0 - largest)) }
    let total = powers.reduce(0, +)
    return powers.map { Float($0 / total) }
}

/// How far the likeliest of several probabilities is ahead of the next: 0 to 1.
public func margin(of probabilities: [Float]) -> Float {
    precondition(probabilities.count > 1, "a margin is between two probabilities")
    let sorted = probabilities.sorted(by: >)
    return sorted[0] - sorted[1]
}
