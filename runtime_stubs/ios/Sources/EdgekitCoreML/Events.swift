// What the runner says: JSON lines on standard output.

import Foundation

typealias Event = [String: Any]

/// Something to report: `kind` for programs, `message` and `hint` for people.
struct Failure: Error {
    let event: Event

    init(_ kind: String, _ message: String, hint: String = "") {
        event = ["event": "error", "kind": kind, "message": String(message.prefix(500)), "hint": hint]
    }
}

/// The real standard output; from here on file descriptor 1 is standard error, so that what a
/// framework prints is no answer.
final class Events {
    private let output: FileHandle

    init() {
        output = FileHandle(fileDescriptor: dup(1), closeOnDealloc: true)
        dup2(2, 1)
    }

    func callAsFunction(_ event: Event) {
        // Only texts, numbers, lists and null go in; a number that is none is null.
        guard var line = try? JSONSerialization.data(withJSONObject: event, options: [.sortedKeys]) else {
            return
        }
        line.append(0x0A)
        output.write(line)
    }

    /// Tell the supervisor what comes next, in case it is the last thing done.
    func phase(_ name: String) {
        self(["event": "phase", "name": name])
    }
}

/// A number as JSON knows it: infinity and NaN are null.
func finite(_ value: Double) -> Any {
    value.isFinite ? value : NSNull()
}
