// A screen to draw on, and what the model reads there.

package dev.edgekit.example

import android.app.Activity
import android.os.Bundle
import android.widget.LinearLayout
import android.widget.TextView
import dev.edgekit.digits.DigitsModel
import dev.edgekit.digits.QueueFull
import dev.edgekit.digits.Worker

class MainActivity : Activity() {
    private lateinit var model: DigitsModel
    private lateinit var worker: Worker<IntArray, String>
    private lateinit var answer: TextView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        model = DigitsModel.load(this)
        worker = Worker(capacity = 2) { drawings -> drawings.map(::read) }
        answer = TextView(this).apply { textSize = 48f }
        val screen = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }
        screen.addView(answer)
        screen.addView(DrawingView(this, ::ask))
        setContentView(screen)
    }

    override fun onDestroy() {
        worker.close()
        model.close()
        super.onDestroy()
    }

    private fun ask(pixels: IntArray) {
        try {
            worker.submit(pixels).thenAccept { said -> runOnUiThread { answer.text = said } }
        } catch (busy: QueueFull) {
            // The finger moves on, and asks again.
        }
    }

    private fun read(pixels: IntArray): String {
        val input = DigitsModel.Input(DigitsModel.imageOfPixels(pixels))
        return model.predict(input).best(1).single().label
    }
}
