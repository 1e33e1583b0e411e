"""The look: calm neutrals, one accent, the system's own fonts (nothing is fetched)."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors

ASSETS = Path(__file__).parent / "assets"
STYLE_SHEETS = [ASSETS / "page.css", ASSETS / "form.css", ASSETS / "stage.css", ASSETS / "regions.css",
                ASSETS / "inspector.css", ASSETS / "compare.css", ASSETS / "queue.css",
                ASSETS / "models.css", ASSETS / "history.css"]

_TEAL = colors.Color(name="loom", c50="#eef6f5", c100="#d7eae8", c200="#b0d5d1", c300="#82bab5", c400="#559c97",
                     c500="#35807c", c600="#276763", c700="#215351", c800="#1d4341", c900="#193836", c950="#0b201f")
_GREY = colors.Color(name="paper", c50="#fafaf9", c100="#f4f4f2", c200="#e6e6e3", c300="#d3d3cf", c400="#a1a19b",
                     c500="#74746e", c600="#56564f", c700="#403f3a", c800="#282825", c900="#1b1b19", c950="#121211")


def theme() -> gr.themes.Base:
    """gradio's plainest theme in the project's colours."""
    made = gr.themes.Base(
        primary_hue=_TEAL, secondary_hue=_GREY, neutral_hue=_GREY,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Cascadia Mono", "Consolas", "monospace"],
        spacing_size=gr.themes.sizes.spacing_md, radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
    )
    return made.set(
        body_background_fill="#f3f3f0", body_background_fill_dark="#141413",
        background_fill_primary="#ffffff", background_fill_primary_dark="#1c1c1a",
        background_fill_secondary="#f7f7f5", background_fill_secondary_dark="#222220",
        body_text_color="#23231f", body_text_color_dark="#eceae4",
        body_text_color_subdued="#66665f", body_text_color_subdued_dark="#a3a198",
        border_color_primary="#dfdfda", border_color_primary_dark="#34342f",
        border_color_accent="*primary_400", border_color_accent_dark="*primary_500",
        color_accent="*primary_500", color_accent_soft="*primary_50", color_accent_soft_dark="#17302e",
        block_background_fill="transparent", block_background_fill_dark="transparent",
        block_border_width="0px", block_border_width_dark="0px", block_shadow="none", block_padding="0px",
        block_label_background_fill="transparent", block_label_background_fill_dark="transparent",
        block_title_background_fill="transparent", block_title_text_color="*body_text_color_subdued",
        block_title_text_color_dark="*body_text_color_subdued", block_title_text_weight="500",
        block_title_text_size="13px", block_title_padding="0px", block_title_border_width="0px",
        block_info_text_size="13px",
        input_background_fill="#ffffff", input_background_fill_dark="#191917",
        input_border_color="#d5d5cf", input_border_color_dark="#3a3a35",
        input_border_color_focus="*primary_500", input_border_color_focus_dark="*primary_400",
        input_shadow="none", input_shadow_focus="0 0 0 3px rgba(53,128,124,.22)",
        input_shadow_focus_dark="0 0 0 3px rgba(130,186,181,.25)",
        input_placeholder_color="#8d8d86", input_placeholder_color_dark="#7b7a72",
        input_border_width="1px", input_radius="8px", input_padding="9px 11px",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_500", button_primary_background_fill_hover_dark="*primary_400",
        button_primary_text_color="#ffffff", button_primary_text_color_dark="#ffffff",
        button_primary_border_color="transparent", button_primary_shadow="none",
        button_large_radius="9px", button_large_text_weight="600", button_large_padding="11px 16px",
        panel_border_width="0px", layout_gap="14px", section_header_text_weight="600",
    )
