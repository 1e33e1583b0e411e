"""The page as a whole: header with the model bar, tabs, endpoints, and how it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from core.journal import FOLDER as JOURNAL
from core.models.catalogue import STORYBOOK
from ui import endpoints, languages, line, operating, theme
from ui.arrival import MAX_FILE, uploaded
from ui.components.bar import ModelBar, bar_state
from ui.components.base import HERE as COMPONENTS
from ui.components.models_panel import ModelsPanel
from ui.components.queue_panel import QueuePanel
from ui.guard import Guard
from ui.languages import word
from ui.models import choices, server_functions, switching
from ui.owners import owner_of
from ui.page import Page
from ui.runform import WATCH
from ui.studio import Studio
from ui.tabs.compare import Compare
from ui.tabs.history import HistoryTab
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
// The tab in sight stands in the page's address: a reload comes back to it, and a bookmark leads there.
(() => {
  const slug = (tab) => tab.id.replace(/^tab-|-button$/g, "");
  const wanted = location.hash.slice(1);
  const look = new MutationObserver(() => {
    const tabs = [...document.querySelectorAll(".tabs [role=tab]")];
    if (!tabs.length) return;
    look.disconnect();
    tabs.find((tab) => slug(tab) === wanted)?.click();
    new MutationObserver(() => {
      const open = document.querySelector(".tabs [role=tab][aria-selected=true]");
      if (open && location.hash !== `#${slug(open)}`) history.replaceState(history.state, "", `#${slug(open)}`);
    }).observe(tabs[0].parentElement, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
  });
  look.observe(document, { subtree: true, childList: true });
})();
</script>"""

# Gradio tells of an input when a list is chosen from, again when it is left, and when somebody only passes through it
# with the Tab key. A choice is told once, when it is another model than the page has; what a program puts there, as a
# page that remembers its form, is seen after that. `told` may be older than the last answer: gradio collects early.
CHOSEN = """(name, told) => {
  const page = window.latentLoom ??= {};
  if (name === page.model) return page.told ?? told;
  return page.told = { state: "chosen", name: page.model = name, at: Date.now() };
}"""
SEEN = "(name) => { setTimeout(() => { (window.latentLoom ??= {}).model = name; }, 200); }"


def build(studio: Studio) -> gr.Blocks:
    """The whole page."""
    with Page(title="Latent Loom", analytics_enabled=False, fill_width=True, delete_cache=(3600, 24 * 3600)) as page:
        # first: gradio names an event after its function, and a second "resume" would be "resume_1"
        endpoints.add(studio)
        with gr.Row(elem_classes=["header"]):
            gr.HTML(MARK, apply_default_css=False, js_on_load=None, elem_classes=["own"])
            bar = ModelBar(bar_state(studio, studio.model))
            queue = QueuePanel()
            model = gr.Dropdown(choices(studio), value=studio.model, label=word("header.model"), container=False,
                                elem_classes=["model"])
            panel = ModelsPanel(server_functions=server_functions(studio))
        gr.HTML('<p class="line" data-line="txt2img:model" role="status"></p>', apply_default_css=False,
                js_on_load=None, elem_classes=["own", "line-place", "model-line"])
        with gr.Tabs(elem_classes=["tabs"], overflow_behavior="wrap"):
            with gr.Tab(word("tab.text-to-image"), elem_id="tab-text-to-image"):
                text = TextToImage(studio, bar, model, panel)
            with gr.Tab(word("tab.regions"), elem_id="tab-regions"):
                regions = Regions(studio, bar, model, panel)
            with gr.Tab(word("tab.compare"), elem_id="tab-compare"):
                Compare(studio, bar, model, panel)
            with gr.Tab(word("tab.live-preview"), elem_id="tab-live-preview"):
                LivePreview(studio)
            with gr.Tab(word("tab.history"), elem_id="tab-history"):
                HistoryTab(studio, text, regions)
        regions.taking(text.arrival.regions, lambda event: uploaded(event.get("path"), "regions"))
        bar.refresh(lambda name: bar_state(studio, name), [model], [bar], **QUICK)
        _wire(queue, studio)
        for event in (page.load, panel.found):
            event(lambda name: (gr.Dropdown(choices=choices(studio)), bar_state(studio, name)), [model], [model, bar],
                  **QUICK)
        page.load(text.offer_presets, [model], [text.style, text.presets.chosen, text.presets.notes],
                  **QUICK)
        page.load(regions.presets.begin, [model], [regions.presets.chosen, regions.presets.notes], **QUICK)
        for event in (page.load, model.change):
            event(None, [model], None, js=SEEN, **QUICK)
        model.input(None, [model, panel], [panel], js=CHOSEN, **QUICK)
        panel.chosen(studio.choose, [model], None, **QUICK)
        panel.switch(switching(studio), [model], [panel, model, bar], **WATCH)
    page.queue(default_concurrency_limit=None)
    return page


def _wire(queue: QueuePanel, studio: Studio) -> None:
    """The queue's panel: what is in it, and what people do there."""
    jobs = studio.jobs

    def look(request: gr.Request) -> dict[str, Any]:
        return line.state_of(jobs, owner_of(request))

    def act(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        line.act(jobs, owner_of(request), event._data)
        return look(request)

    def end_forever(request: gr.Request) -> dict[str, Any]:
        jobs.end_forever(owner_of(request))
        return look(request)

    queue.refresh(look, None, [queue], **QUICK)
    queue.act(act, None, [queue], trigger_mode="multiple", **QUICK)
    queue.end_forever(end_forever, None, [queue], **QUICK)


def login_message() -> str:
    """What gradio's own page of the login says, which has neither our style sheets nor our words: in every language, of
    which it shows the document's."""
    texts = languages.everywhere(lambda: languages.say("login.message", command="<code>python app.py --auth-file FILE "
                                                       "--add-login NAME</code>"))
    hide = "".join(f'html[lang="{name}"] .login-words:not([lang="{name}"]){{display:none}}' for name in texts)
    other = "".join(f':not([lang="{name}"])' for name in texts)
    hide += f'html{other} .login-words:not([lang="{languages.ENGLISH}"]){{display:none}}'
    return f"<style>{hide}</style>" + "".join(
        f'<span class="login-words" lang="{name}"><strong>Latent Loom</strong><br>{text}</span>'
        for name, text in texts.items())


def serving(studio: Studio) -> dict[str, Any]:
    """Arguments of `launch` that belong to the page, not to the machine it runs on."""
    card = STORYBOOK.glob("*.jpg")  # the pictures of the embedded model's card, nothing else of its folder
    open_folders = [studio.jobs.frames, studio.jobs.outputs, COMPONENTS, *card]
    return {
        "app_kwargs": {
            "routes": operating.routes(studio.jobs),  # before gradio's own, which take every address
            "middleware": [Middleware(Guard, outputs=studio.jobs.outputs, frames=studio.jobs.frames,
                                      logins=studio.logins)]},
        "max_file_size": MAX_FILE,
        "theme": theme.theme(), "css_paths": list(theme.STYLE_SHEETS), "head": languages.script() + HEAD,
        "i18n": languages.for_gradio(),
        "favicon_path": theme.ASSETS / "icon.svg",
        "allowed_paths": [str(Path(folder).resolve()) for folder in open_folders],
        "blocked_paths": [str(studio.jobs.outputs / JOURNAL)],  # everybody's prompts
        "footer_links": ["api", "settings"], "run_history": False, "show_error": False, "share": False,
        "auth_message": login_message(), "ssr_mode": False, "pwa": False, "inbrowser": False,
        "enable_monitoring": False,  # gradio's figures of who called what, for anybody: ours are at /metrics
    }
