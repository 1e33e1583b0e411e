"""One file per tab. Each has a `build(studio, bar)` that is called inside its gr.Tab."""
