// What a classifier's scores say: the likeliest classes, and how sure they are.

package dev.edgekit

import kotlin.math.exp

data class Scored(val label: String, val score: Float)

/** The best `count` classes, the likeliest first. */
fun best(scores: FloatArray, labels: List<String>, count: Int): List<Scored> {
    require(scores.size == labels.size) { "${scores.size} scores for ${labels.size} labels" }
    return scores.indices.sortedByDescending { scores[it] }.take(count)
        .map { Scored(labels[it], scores[it]) }
}

/** Probabilities of scores that are logits. */
fun softmax(scores: FloatArray): FloatArray {
    var largest = Float.NEGATIVE_INFINITY
    for (score in scores) largest = maxOf(largest, score)
    val powers = DoubleArray(scores.size) { exp((scores[it] - largest).toDouble()) }
    val total = powers.sum()
    return FloatArray(scores.size) { (powers[it] / total).toFloat() }
}

/** How far the likeliest of several probabilities is ahead of the next: 0 to 1. */
fun margin(probabilities: FloatArray): Float {
    require(probabilities.size > 1) { "a margin is between two probabilities" }
    val (first, second) = probabilities.sortedDescending()
    return first - second
}
