"""The page as a whole: header with the model bar, tabs, endpoints, and how it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from core.models.catalogue import STORYBOOK
from ui import endpoints, theme
from ui.components.bar import ModelBar, bar_state
from ui.components.base import HERE as COMPONENTS
from ui.studio import Studio
from ui.tabs.compare import Compare
from ui.tabs.live_preview import LivePreview
from ui.tabs.regions import Regions
from ui.tabs.text_to_image import QUICK, TextToImage

MARK = """<div class="mark"><svg viewBox="0 0 28 28" aria-hidden="true">
<path d="M4 6v16M9 6v16M14 6v16M19 6v16M24 6v16"/><path d="M2 10h4m2 0h7m3 0h8M2 18h9m3 0h6m3 0h3"/></svg>
<h1>Latent Loom</h1></div>"""

# Ctrl+Enter (Command+Enter) presses the Generate button in sight, from wherever the cursor is.
HEAD = """<script>
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  const button = [...document.querySelectorAll("button.generate")].find((b) => b.offsetParent !== null);
  if (!button) return;
  event.preventDefault();
  button.click();
});
</script>"""


def build(studio: Studio) -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title="Latent Loom", analytics_enabled=False, fill_width=True,
                   delete_cache=(3600, 24 * 3600)) as page:
        # first: gradio names an event after its function, and a second "resume" would be "resume_1"
        endpoints.add(studio)
        with gr.Row(elem_classes=["header"]):
            gr.HTML(MARK, apply_default_css=False, js_on_load=None, elem_classes=["own"])
            bar = ModelBar(bar_state(studio, studio.model))
            model = gr.Dropdown(model_choices(studio), value=studio.model, label="Model", container=False,
                                elem_classes=["model"])
        gr.HTML('<p class="line" data-line="txt2img:model" role="status"></p>', apply_default_css=False,
                js_on_load=None, elem_classes=["own", "line-place", "model-line"])
        with gr.Tabs(elem_classes=["tabs"], overflow_behavior="wrap"):
            with gr.Tab("Text to image"):
                TextToImage(studio, bar, model)
            with gr.Tab("Regions"):
                Regions(studio, bar, model)
            with gr.Tab("Compare"):
                Compare(studio, bar, model)
            with gr.Tab("Live preview"):
                LivePreview(studio)
        bar.refresh(lambda name: bar_state(studio, name), [model], [bar], **QUICK)
        page.load(lambda name: (gr.Dropdown(choices=model_choices(studio)), bar_state(studio, name)),
                  [model], [model, bar], **QUICK)
    page.queue(default_concurrency_limit=None)
    return page


def model_choices(studio: Studio) -> list[tuple[str, str]]:
    """(label, value) of the models that are here now."""
    return [("Storybook" if name == "storybook" else Path(name).name, name) for name in studio.catalogue.names()]


def serving(studio: Studio) -> dict[str, Any]:
    """Arguments of `launch` that belong to the page, not to the machine it runs on."""
    card = STORYBOOK.glob("*.jpg")  # the pictures of the embedded model's card, nothing else of its folder
    open_folders = [studio.jobs.frames, studio.jobs.outputs, COMPONENTS, *card]
    return {
        "theme": theme.theme(), "css_paths": list(theme.STYLE_SHEETS), "head": HEAD,
        "favicon_path": theme.ASSETS / "icon.svg",
        "allowed_paths": [str(Path(folder).resolve()) for folder in open_folders],
        "footer_links": ["api", "settings"], "run_history": False, "show_error": False, "share": False,
        "ssr_mode": False, "pwa": False, "inbrowser": False,
    }
