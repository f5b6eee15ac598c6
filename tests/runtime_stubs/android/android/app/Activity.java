package android.app;

import android.content.Context;
import android.os.Bundle;
import android.view.View;

/** As much of Android's class as the example uses; it does nothing. */
public class Activity extends Context {
    protected void onCreate(Bundle savedInstanceState) {}

    protected void onDestroy() {}

    public void setContentView(View view) {}

    public final void runOnUiThread(Runnable action) {}
}
