"""The page. Knows gradio, never torch; reaches the engine through core.jobs only."""
