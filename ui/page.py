"""The page as gradio serves it, but an event that fails says so in one line."""

from __future__ import annotations

import html
import logging
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction

from core.errors import LoomError
from ui.languages import accepted, say, speaking

log = logging.getLogger(__name__)


class Page(gr.Blocks):
    """gradio has no word for an event that raises anything but gr.Error, and many for a field with a value of an older
    page. What its addresses and components' questions raise does not pass by here: `ui.guard` sees to that."""

    async def process_api(self, block_fn: BlockFunction | int, *given: Any, **named: Any) -> dict[str, Any]:
        language = accepted(named.get("request"))
        try:
            return await super().process_api(block_fn, *given, **named)
        except gr.Error as error:
            line = _say("stale", language) if error.print_exception else str(error.message)  # ours are not printed
        except LoomError as error:
            line = str(error)
        except Exception:
            log.exception("an event of the page failed")
            line = _say("odd", language)
        if getattr(block_fn, "api_visibility", "") == "private":  # shown by gradio's page, as HTML
            line = html.escape(line, quote=False)
        raise gr.Error(line, print_exception=False) from None


def _say(key: str, language: str) -> str:
    with speaking(language):
        return say(f"answers.{key}")
