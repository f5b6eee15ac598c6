// One queue that runs a model for all callers, and that has an end.

import Foundation

/// Runs a model in the background, one call or one batch of calls at a time.
public final class Worker<Input, Output>: @unchecked Sendable {
    private struct Call {
        let input: Input
        let answer: CheckedContinuation<Output, Error>
    }

    private let capacity: Int
    private let batch: Int
    private let run: ([Input]) throws -> [Output]
    private let queue = DispatchQueue(label: "dev.edgekit.worker", qos: .userInitiated)
    private let lock = NSLock()
    private var waiting: [Call] = []
    private var isRunning = false
    private var isOpen = true

    /// - Parameters:
    ///   - capacity: how many calls may wait; one more is refused with `ModelError.queueFull`.
    ///   - batch: how many waiting calls are run together at most.
    ///   - run: answers that many inputs, in their order.
    public init(capacity: Int, batch: Int = 1, run: @escaping ([Input]) throws -> [Output]) {
        precondition(batch >= 1 && batch <= capacity, "a batch never fills with a shorter queue")
        self.capacity = capacity
        self.batch = batch
        self.run = run
    }

    /// The model's answer to an input, in its turn.
    public func answer(to input: Input) async throws -> Output {
        try await withCheckedThrowingContinuation { continuation in
            if let refused = admit(Call(input: input, answer: continuation)) {
                continuation.resume(throwing: refused)
            }
        }
    }

    /// Ends after the calls that are being run; those that wait are told that nothing comes.
    public func close() {
        lock.lock()
        isOpen = false
        let left = waiting
        waiting = []
        lock.unlock()
        left.forEach { $0.answer.resume(throwing: ModelError.closed) }
    }

    private func admit(_ call: Call) -> ModelError? {
        lock.lock()
        defer { lock.unlock() }
        guard isOpen else { return .closed }
        guard waiting.count < capacity else { return .queueFull(capacity: capacity) }
        waiting.append(call)
        if !isRunning {
            isRunning = true
            queue.async { self.work() }
        }
        return nil
    }

    private func work() {
        while let calls = next() { serve(calls) }
    }

    private func next() -> [Call]? {
        lock.lock()
        defer { lock.unlock() }
        let calls = Array(waiting.prefix(batch))
        waiting.removeFirst(calls.count)
        isRunning = !calls.isEmpty
        return calls.isEmpty ? nil : calls
    }

    private func serve(_ calls: [Call]) {
        do {
            let answers = try run(calls.map(\.input))
            guard answers.count == calls.count else {
                throw ModelError.output("\(answers.count) answers to \(calls.count) inputs")
            }
            zip(calls, answers).forEach { $0.answer.resume(returning: $1) }
        } catch {
            // One that fails must not take the others with it.
            if calls.count > 1 {
                calls.forEach { serve([$0]) }
            } else {
                calls[0].answer.resume(throwing: error)
            }
        }
    }
}
