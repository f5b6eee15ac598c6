// Where it starts: a command-line tool on a Mac, an application on an iPhone.
//
// Both take one argument, a job as JSON, and do one part of a benchmark in a process of its
// own. Standard output carries JSON lines and nothing else. A failure is one line
// {"event": "error", "kind", "message", "hint"} and exit status 1.

import Foundation

func runner(_ arguments: [String]) async -> Int32 {
    let emit = Events()
    do {
        guard arguments.count == 2 else {
            throw Failure("usage", "expected one argument, a job as JSON; got \(arguments.count - 1)")
        }
        try await perform(Job(json: arguments[1]), emit)
        return 0
    } catch let failure as Failure {
        emit(failure.event)
    } catch {
        emit(Failure("internal", "\(error)").event)
    }
    return 1
}

#if os(iOS)
import SwiftUI
import UIKit

@main
struct RunnerApplication: App {
    var body: some Scene {
        WindowGroup {
            Text("edgekit is measuring. Keep this in the foreground.").task {
                UIApplication.shared.isIdleTimerDisabled = true
                // Whoever waits at the console waits for the process to end.
                let work = Task.detached(priority: .userInitiated) { await runner(CommandLine.arguments) }
                exit(await work.value)
            }
        }
    }
}
#else
@main
struct RunnerTool {
    static func main() async {
        endWhenInputCloses()
        exit(await runner(CommandLine.arguments))
    }
}

/// Leave at once when whoever started this has gone: a measurement must not outlive it.
private func endWhenInputCloses() {
    let thread = Thread {
        while let data = try? FileHandle.standardInput.read(upToCount: 4096), !data.isEmpty {}
        _exit(1)
    }
    thread.start()
}
#endif
