"""Own components: gr.HTML subclasses, each with its script (and its part of the style sheet) beside it."""
