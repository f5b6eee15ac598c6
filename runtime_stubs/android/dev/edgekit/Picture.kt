// Pixels made into what a model takes: `value = scale * pixel + bias`, channel by channel.

package dev.edgekit

/** The order of a model's channels, as shifts into 0xAARRGGBB. */
enum class Colours(internal vararg val shifts: Int) {
    RGB(16, 8, 0),
    BGR(0, 8, 16),
    GRAY,
}

/**
 * An input that is a picture.
 *
 * @param scale for each channel, or one for all.
 * @param bias for each channel, or one for all.
 * @param channelsLast whether the source's input is row, column, channel; else channel, row, column.
 */
class Picture(
    val width: Int,
    val height: Int,
    private val colours: Colours,
    private val scale: FloatArray,
    private val bias: FloatArray,
    private val channelsLast: Boolean,
) {
    private val channels = if (colours == Colours.GRAY) 1 else 3

    /**
     * The input's values.
     *
     * @param pixels 0xAARRGGBB in rows, as `Bitmap.getPixels` gives them, already of the model's
     *     size. Grey is 0.299 red + 0.587 green + 0.114 blue.
     */
    fun values(pixels: IntArray): FloatArray {
        require(pixels.size == width * height) {
            "the model takes $width x $height pixels, got ${pixels.size}: scale the picture first"
        }
        val values = FloatArray(pixels.size * channels)
        for (index in pixels.indices) {
            for (channel in 0 until channels) {
                val place =
                    if (channelsLast) index * channels + channel else channel * pixels.size + index
                values[place] =
                    scale[channel % scale.size] * level(pixels[index], channel) +
                    bias[channel % bias.size]
            }
        }
        return values
    }

    private fun level(pixel: Int, channel: Int): Float {
        fun byte(shift: Int) = ((pixel shr shift) and 0xFF).toFloat()
        if (colours != Colours.GRAY) return byte(colours.shifts[channel])
        return Math.rint(0.299 * byte(16) + 0.587 * byte(8) + 0.114 * byte(0)).toFloat()
    }
}
