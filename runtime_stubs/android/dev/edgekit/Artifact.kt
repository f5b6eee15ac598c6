// Where an artifact lies: among the app's assets, or in a file of its own.

package dev.edgekit

import android.content.res.AssetManager
import java.io.File
import java.io.InputStream

/** The artifact of a model. */
sealed class Artifact(val name: String) {
    abstract fun open(): InputStream

    /** Among the app's assets; install-time asset packs are among them, too. */
    class Asset(val assets: AssetManager, name: String) : Artifact(name) {
        override fun open(): InputStream = assets.open(name)
    }

    /** A file: where an asset pack of another kind, or the app itself, has put it. */
    class Stored(val file: File) : Artifact(file.name) {
        override fun open(): InputStream = file.inputStream()
    }

    /** @throws ArtifactChanged it is not the one that was exported. */
    fun check(expected: String) {
        val got = open().use(::sha256)
        if (got != expected) throw ArtifactChanged(name, expected, got)
    }
}
