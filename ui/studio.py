"""What every part of the page needs of the rest of the house."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from core import comparing
from core.checks import Note, check
from core.contests import Contests
from core.errors import LoomError
from core.jobs import Jobs
from core.layout import predicted_cost
from core.models.catalogue import Catalogue, ModelInfo
from core.presets import Style, load_layouts
from core.registry import Registry
from core.request import Request


@dataclass(frozen=True)
class Studio:
    """model: the one chosen when the page opens. One Studio serves every page and endpoint."""

    catalogue: Catalogue
    jobs: Jobs
    styles: Registry[Style]
    model: str = "storybook"
    layouts: Mapping[str, Request] = field(default_factory=load_layouts)  # to start from, in the Regions tab

    @cached_property
    def contests(self) -> Contests:
        """The comparisons that run, or ran, here."""
        return Contests(self.jobs, lambda comparison: comparing.scorer_of(self.catalogue, comparison))

    def info(self, name: str) -> ModelInfo | None:
        """The model's description, or None when it cannot be read (its error shows when it is used)."""
        try:
            return self.catalogue.get(name)
        except LoomError:
            return None

    def check(self, request: Request) -> list[Note]:
        """Notes on a request that can be done. Raises BadRequest or ModelError for one that cannot."""
        return check(request, self.catalogue.get(request.model))

    def pace(self, request: Request) -> float | None:
        """Seconds per pass over a whole picture (or window) in the last run like this; None before there was one."""
        def worth(asked: Request) -> float:
            info = self.info(asked.model)
            cost = predicted_cost(asked, info) if info else None
            return cost.work / cost.evaluations if cost else 1.0
        return self.jobs.pace(request, worth)

    def styles_for(self, model: str) -> list[Style]:
        info = self.info(model)
        return [style for style in self.styles.values() if style.storybook or not (info and info.is_storybook)]
