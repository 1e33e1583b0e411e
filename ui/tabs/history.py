"""The History tab: every picture that was made here, to be found, kept, thrown away and opened again."""

from __future__ import annotations

from ui.components.gallery import Gallery
from ui.shelf import Shelf
from ui.studio import Studio
from ui.tabs.regions import Regions
from ui.tabs.text_to_image import TextToImage


class HistoryTab:
    """Builds the tab inside the current gr.Tab and wires it. text, regions: the tabs in which pictures are opened."""

    def __init__(self, studio: Studio, text: TextToImage, regions: Regions):
        self.shelf = Shelf(studio.jobs.outputs, studio.jobs.frames)
        self.gallery = Gallery({}, server_functions=self.shelf.functions())
        text.taking(self.gallery.text, self.shelf.file)
        regions.taking(self.gallery.regions, self.shelf.file)
