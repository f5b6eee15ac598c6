// One thread that runs a model for all callers, and a queue before it that has an end.

package dev.edgekit

import java.util.concurrent.ArrayBlockingQueue
import java.util.concurrent.CancellationException
import java.util.concurrent.CompletableFuture

/** The queue of a worker is full: the model is asked more often than it can answer. */
class QueueFull(capacity: Int) : RuntimeException("$capacity calls wait already: try again later")

/**
 * Runs a model on a thread of its own.
 *
 * @param capacity how many calls may wait; one more is refused with [QueueFull].
 * @param batch how many waiting calls are run together at most.
 * @param run what answers that many inputs, in their order.
 */
class Worker<A, B>(
    private val capacity: Int,
    private val batch: Int = 1,
    private val run: (List<A>) -> List<B>,
) : AutoCloseable {
    private class Call<A, B>(val input: A, val answer: CompletableFuture<B>)

    private val waiting = ArrayBlockingQueue<Call<A, B>>(capacity)
    @Volatile private var isOpen = true
    private val thread = Thread(::work, "edgekit")

    init {
        require(batch in 1..capacity) { "a batch of $batch never fills with a queue of $capacity" }
        thread.isDaemon = true
        thread.start()
    }

    /**
     * Has an input answered, in its turn.
     *
     * @throws QueueFull too many wait already.
     * @throws IllegalStateException the worker is closed.
     */
    fun submit(input: A): CompletableFuture<B> {
        val answer = CompletableFuture<B>()
        synchronized(this) {
            check(isOpen) { "the worker is closed" }
            if (!waiting.offer(Call(input, answer))) throw QueueFull(capacity)
        }
        return answer
    }

    /** Ends the thread after the call that it is at; whoever waits is told that nothing comes. */
    override fun close() {
        synchronized(this) { isOpen = false }
        thread.interrupt()
        if (Thread.currentThread() !== thread) thread.join()
        generateSequence { waiting.poll() }.forEach {
            it.answer.completeExceptionally(CancellationException("the worker was closed"))
        }
    }

    private fun work() {
        try {
            while (isOpen) {
                val calls = arrayListOf(waiting.take())
                waiting.drainTo(calls, batch - 1)
                answer(calls.filter { !it.answer.isCancelled })
            }
        } catch (closed: InterruptedException) {
            // By close, which tells whoever waits.
        }
    }

    private fun answer(calls: List<Call<A, B>>) {
        if (calls.isEmpty()) return
        try {
            val answers = run(calls.map { it.input })
            check(answers.size == calls.size) { "${answers.size} answers to ${calls.size} inputs" }
            calls.zip(answers) { call, answer -> call.answer.complete(answer) }
        } catch (failed: Throwable) {
            // One that fails must not take the others with it.
            if (calls.size > 1) calls.forEach { answer(listOf(it)) }
            else calls.single().answer.completeExceptionally(failed)
        }
    }
}
