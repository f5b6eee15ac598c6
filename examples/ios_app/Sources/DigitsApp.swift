// A screen to draw on, and what the model reads there.

import SwiftUI

@main
struct DigitsApp: App {
    var body: some Scene {
        WindowGroup { DrawingView() }
    }
}

/// A square of 8 by 8 cells that a finger fills.
struct DrawingView: View {
    @State private var cells = [UInt8](repeating: 0, count: Reader.side * Reader.side)
    @State private var answer = " "
    @State private var reader: Reader?

    var body: some View {
        VStack {
            Text(answer).font(.largeTitle)
            GeometryReader { space in
                let side = min(space.size.width, space.size.height) / CGFloat(Reader.side)
                Canvas { context, _ in paint(context, side) }
                    .gesture(stroke(side))
            }
        }
        .task { await load() }
    }

    private func load() async {
        do {
            reader = try await Reader()
        } catch {
            answer = error.localizedDescription
        }
    }

    private func paint(_ context: GraphicsContext, _ side: CGFloat) {
        for (index, level) in cells.enumerated() {
            let (row, column) = (CGFloat(index / Reader.side), CGFloat(index % Reader.side))
            let cell = CGRect(x: column * side, y: row * side, width: side, height: side)
            context.fill(Path(cell), with: .color(Color(white: Double(level) / 255)))
        }
    }

    private func stroke(_ side: CGFloat) -> some Gesture {
        DragGesture(minimumDistance: 0)
            .onChanged { touch in
                let (column, row) = (Int(touch.location.x / side), Int(touch.location.y / side))
                let inside = 0..<Reader.side
                if touch.translation == .zero { cells = cells.map { _ in 0 } }
                if inside ~= column && inside ~= row { cells[row * Reader.side + column] = 255 }
            }
            .onEnded { _ in
                let drawn = cells
                Task { answer = await reader?.read(drawn) ?? "no model" }
            }
    }
}
