"""The page as gradio serves it, but an event that fails says so in one line."""

from __future__ import annotations

import html
import logging
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction

from core.errors import LoomError
from ui.answers import ODD

log = logging.getLogger(__name__)

STALE = "A field holds something that the studio does not know: reload the page."


class Page(gr.Blocks):
    """gradio has no word for an event that raises anything but gr.Error, and many for a field with a value of an older
    page. What its addresses and components' questions raise does not pass by here: `ui.guard` sees to that."""

    async def process_api(self, block_fn: BlockFunction | int, *given: Any, **named: Any) -> dict[str, Any]:
        try:
            return await super().process_api(block_fn, *given, **named)
        except gr.Error as error:
            line = STALE if error.print_exception else str(error.message)  # ours are not printed
        except LoomError as error:
            line = str(error)
        except Exception:
            log.exception("an event of the page failed")
            line = ODD
        if getattr(block_fn, "api_visibility", "") == "private":  # shown by gradio's page, as HTML
            line = html.escape(line, quote=False)
        raise gr.Error(line, print_exception=False) from None
