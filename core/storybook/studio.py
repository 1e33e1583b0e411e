"""Pictures as people get them: by the engine, one on every core, of a weights folder given by its path."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from core.engine import Engine
from core.models.catalogue import Catalogue
from core.request import Done, Preview, Request
from core.storybook import networks as n


class Studio:
    """An engine per core, each with the same model; requests name it by `Studio.model`."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        self.model = str(weights.resolve())
        self._device = device
        self._idle: queue.SimpleQueue[Engine] = queue.SimpleQueue()

    def _fill(self) -> None:
        """Loads the engines, one after the other: while a network loads, torch's default precision is another."""
        for _ in range(n.workers(self._device)):
            engine = Engine(Catalogue(extra=self.model), self._device.type)
            engine.load(self.model)
            self._idle.put(engine)

    def _paint(self, request: Request) -> np.ndarray:
        engine = self._idle.get()
        try:
            for event in engine.generate(request, Preview("none")):
                if isinstance(event, Done):
                    return event.pictures[0]
        finally:
            self._idle.put(engine)
        raise AssertionError("a run ends with Done")

    def paint(self, requests: Sequence[Request]) -> Iterator[np.ndarray]:
        """One picture (H, W, 3) uint8 per request, in order."""
        if self._idle.empty():
            self._fill()
        with ThreadPoolExecutor(n.workers(self._device)) as pool:
            yield from pool.map(self._paint, requests)
