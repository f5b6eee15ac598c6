package android.view;

import android.content.Context;
import android.graphics.Canvas;

/** As much of Android's class as the example uses; it does nothing. */
public class View {
    public View(Context context) {}

    protected void onDraw(Canvas canvas) {}

    public boolean onTouchEvent(MotionEvent event) {
        return false;
    }

    public void invalidate() {}

    public final int getWidth() {
        return 0;
    }

    public final int getHeight() {
        return 0;
    }
}
