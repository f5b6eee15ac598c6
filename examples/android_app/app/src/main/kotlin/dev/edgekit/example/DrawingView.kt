// A square of 8 by 8 cells that a finger fills.

package dev.edgekit.example

import android.content.Context
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.view.MotionEvent
import android.view.View

private const val CELLS = 8

/** @param onDrawn gets the cells after every stroke, as pixels: row by row, white on black. */
class DrawingView(context: Context, private val onDrawn: (IntArray) -> Unit) : View(context) {
    private val cells = IntArray(CELLS * CELLS) { Color.BLACK }
    private val paint = Paint()

    override fun onDraw(canvas: Canvas) {
        val side = side()
        for ((index, colour) in cells.withIndex()) {
            val (left, top) = Pair(index % CELLS * side, index / CELLS * side)
            paint.color = colour
            canvas.drawRect(left, top, left + side, top + side, paint)
        }
    }

    override fun onTouchEvent(event: MotionEvent): Boolean {
        if (event.action == MotionEvent.ACTION_DOWN) cells.fill(Color.BLACK)
        val (column, row) = Pair((event.x / side()).toInt(), (event.y / side()).toInt())
        if (column in 0 until CELLS && row in 0 until CELLS) cells[row * CELLS + column] = Color.WHITE
        invalidate()
        if (event.action == MotionEvent.ACTION_UP) onDrawn(cells.clone())
        return true
    }

    private fun side() = minOf(width, height).toFloat() / CELLS
}
