// swift-tools-version:5.9
// The runner that measures a Core ML model: a command-line tool on a Mac, an application on an iPhone.
import PackageDescription

let package = Package(
    name: "EdgekitCoreML",
    platforms: [.macOS(.v13), .iOS(.v16)],
    targets: [.executableTarget(name: "EdgekitCoreML")]
)
