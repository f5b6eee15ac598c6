package android.content;

import android.content.res.AssetManager;

/** As much of Android's class as the wrapper uses. */
public class Context {
    private final AssetManager assets;

    public Context(AssetManager assets) {
        this.assets = assets;
    }

    protected Context() {
        this(null);
    }

    public AssetManager getAssets() {
        return assets;
    }
}
