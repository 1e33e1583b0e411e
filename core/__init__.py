"""The engine room: everything between a Request and a picture. Nothing here knows gradio."""

__version__ = "0.1.0"
