// The digest that shows that an artifact is the one that was exported.

package dev.edgekit

import java.io.InputStream
import java.security.MessageDigest

/** The artifact in the app is not the one that the wrapper was made for. */
class ArtifactChanged(name: String, expected: String, got: String) :
    RuntimeException("$name is not what was exported: expected sha256 $expected, got $got")

/** The SHA-256 of what is left of a stream, in hexadecimal. */
fun sha256(stream: InputStream): String {
    val digest = MessageDigest.getInstance("SHA-256")
    val chunk = ByteArray(1 shl 16)
    while (true) {
        val count = stream.read(chunk)
        if (count < 0) break
        digest.update(chunk, 0, count)
    }
    return digest.digest().joinToString("") { "%02x".format(it) }
}
