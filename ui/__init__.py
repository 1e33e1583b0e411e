"""The page. Knows gradio, never torch; reaches the engine through core.jobs only."""

from ui import lean

lean.install()  # before any module of the page imports gradio
