package android.widget;

import android.content.Context;
import android.view.View;

public class TextView extends View {
    private CharSequence text = "";
    private float size;

    public TextView(Context context) {
        super(context);
    }

    public CharSequence getText() {
        return text;
    }

    public final void setText(CharSequence text) {
        this.text = text;
    }

    public float getTextSize() {
        return size;
    }

    public void setTextSize(float size) {
        this.size = size;
    }
}
