// Two exported models in one program, as an app has them: prints what they give for samples.

package dev.edgekit.test

import android.content.Context
import android.content.res.AssetManager
import dev.edgekit.litert_digits.LitertDigitsModel
import dev.edgekit.onnx_digits.ArtifactChanged
import dev.edgekit.onnx_digits.Cascade
import dev.edgekit.onnx_digits.OnnxDigitsModel
import dev.edgekit.onnx_digits.Worker
import dev.edgekit.onnx_digits.margin
import dev.edgekit.onnx_digits.softmax
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

private const val VALUES = 64

fun samples(file: File): List<FloatArray> {
    val numbers = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
    return List(numbers.limit() / VALUES) { FloatArray(VALUES).also(numbers::get) }
}

fun said(name: String, answers: List<FloatArray>) =
    answers.forEach { println("$name ${it.joinToString(" ")}") }

fun main(arguments: Array<String>) {
    val (assets, data, damaged) = arguments.map(::File)
    val inputs = samples(data)
    val context = Context(AssetManager(assets))
    val litert = LitertDigitsModel.load(context, threads = 2, cached = 4)
    val onnx = OnnxDigitsModel.load(context)
    val small = { input: FloatArray -> litert.predict(LitertDigitsModel.Input(input)).logits }
    val large = { input: FloatArray -> onnx.predict(OnnxDigitsModel.Input(input)).logits }
    Worker<FloatArray, FloatArray>(inputs.size, 4) { it.map(small) }.use { worker ->
        said("litert", inputs.map(worker::submit).map { it.get() })
    }
    said("again", inputs.takeLast(2).map(small))
    said("onnx", inputs.map(large))
    // What is nearly sure is the small model's, the rest the large one's.
    val sure = { logits: FloatArray -> margin(softmax(logits)) }
    said("cascade", inputs.map(Cascade(small, large, sure, 0.9f)::predict))
    said("sure", inputs.map { floatArrayOf(sure(small(it))) })
    litert.close()
    onnx.close()
    fails(IllegalStateException::class, "closed") { small(inputs[0]) }
    fails(ArtifactChanged::class, "is not what was exported") { OnnxDigitsModel.load(damaged) }
}
