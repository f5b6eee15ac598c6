// What can go wrong between an app and its model.

import Foundation

public enum ModelError: Error, LocalizedError {
    /// The artifact in the app is not the one that the wrapper was made for.
    case artifactChanged(expected: String, got: String)
    /// The artifact is not in the app, or Core ML does not load it.
    case notLoaded(String)
    /// An input that the model does not take.
    case input(String)
    /// The model gave what it does not give.
    case output(String)
    /// The queue of a worker is full: the model is asked more often than it can answer.
    case queueFull(capacity: Int)
    /// The worker is closed.
    case closed

    public var errorDescription: String? {
        switch self {
        case .artifactChanged(let expected, let got):
            return "the model is not what was exported: expected sha256 \(expected), got \(got)"
        case .notLoaded(let why), .input(let why), .output(let why): return why
        case .queueFull(let capacity): return "\(capacity) calls wait already: try again later"
        case .closed: return "the worker is closed"
        }
    }
}
