package android.content.res;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;

/** As much of Android's class as the wrapper uses; the assets lie in a folder. */
public final class AssetManager {
    public final File folder;

    public AssetManager(File folder) {
        this.folder = folder;
    }

    public InputStream open(String name) throws IOException {
        return new FileInputStream(new File(folder, name));
    }
}
