// A small model first; a large one only where the small one is not sure.

/// Answers with the small model where its confidence reaches a threshold.
public struct Cascade<Input, Output> {
    private let small: (Input) async throws -> Output
    private let large: (Input) async throws -> Output
    private let confidence: (Output) -> Float
    private let threshold: Float

    /// - Parameters:
    ///   - confidence: of an answer of the small model, for example
    ///     `{ margin(of: softmax($0.logits)) }`.
    ///   - threshold: from which confidence on the small model's answer stands.
    public init(
        small: @escaping (Input) async throws -> Output,
        large: @escaping (Input) async throws -> Output,
        confidence: @escaping (Output) -> Float, threshold: Float
    ) {
        self.small = small
        self.large = large
        self.confidence = confidence
        self.threshold = threshold
    }

    public func predict(_ input: Input) async throws -> Output {
        let first = try await small(input)
        // A confidence that is NaN is none.
        return confidence(first) >= threshold ? first : try await large(input)
    }
}
