// Answers to what was asked before, to the last bit.

import Foundation

/// Keeps a bounded number of answers; the one that was longest of no use goes first.
final class Cache {
    private let capacity: Int
    private let lock = NSLock()
    private var answers: [[Data]: [[Double]]] = [:]
    /// The keys, that which was used last at the end.
    private var order: [[Data]] = []

    init(capacity: Int) {
        self.capacity = capacity
    }

    subscript(key: [Data]) -> [[Double]]? {
        get {
            lock.lock()
            defer { lock.unlock() }
            guard let answer = answers[key] else { return nil }
            touch(key)
            return answer
        }
        set {
            lock.lock()
            defer { lock.unlock() }
            answers[key] = newValue
            touch(key)
            if order.count > capacity { answers[order.removeFirst()] = nil }
        }
    }

    private func touch(_ key: [Data]) {
        order.removeAll { $0 == key }
        order.append(key)
    }
}
