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

LONGEST = 400  # characters of a line that gradio says by itself: it quotes what it was sent


class Page(gr.Blocks):
    """gradio has no word for an event that raises anything but gr.Error. What its addresses and components' questions
    raise does not pass by here: `ui.guard` sees to that."""

    async def process_api(self, block_fn: BlockFunction | int, *given: Any, **named: Any) -> dict[str, Any]:
        try:
            return await super().process_api(block_fn, *given, **named)
        except gr.Error as error:
            line = " ".join(str(error.message).split())
        except LoomError as error:
            line = str(error)
        except Exception:
            log.exception("an event of the page failed")
            line = ODD
        line = line if len(line) <= LONGEST else line[:LONGEST - 1] + "…"
        if getattr(block_fn, "api_visibility", "") == "private":  # the page shows it, and gradio's page as HTML
            line = html.escape(line)
        raise gr.Error(line, print_exception=False) from None
