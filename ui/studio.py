"""What every part of the page needs of the rest of the house."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from core import compare, comparing
from core.checks import Note, check_in
from core.contests import Contests
from core.errors import LoomError
from core.jobs import Jobs
from core.layout import predicted_cost
from core.models.catalogue import Catalogue, ModelInfo
from core.models.counters import counter_for
from core.models.extras import Extras
from core.models.hub import Downloads
from core.models.kept import Kept
from core.models.library import Library
from core.ownpresets import Presets
from core.presets import Style
from core.prompts.counting import Counter
from core.registry import Registry
from core.request import Request


@dataclass(frozen=True)
class Studio:
    """model: the one chosen when the page opens; explicit: by the command line. One Studio serves every page and
    endpoint. kept: where what is chosen is remembered. hub: ids offered for download beside the usual ones.
    """

    catalogue: Catalogue
    jobs: Jobs
    styles: Registry[Style]
    model: str = "storybook"
    presets: Presets = field(default_factory=Presets)
    explicit: bool = False
    kept: Kept | None = None
    hub: tuple[str, ...] = ()
    logins: bool = False  # people log in, and each has their own pictures, runs, comparisons and presets
    chosen: set[str] = field(default_factory=set)  # models that people chose since the start

    @cached_property
    def contests(self) -> Contests:
        """The comparisons that run, or ran, here."""
        return Contests(self.jobs, lambda comparison: comparing.scorer_of(self.catalogue, comparison),
                        lambda spec: compare.prepare(spec, self.catalogue), comparing.weights_of(self.catalogue),
                        lambda *made: comparing.sets_by(self.catalogue, *made))

    @cached_property
    def library(self) -> Library:
        """The models as the page lists them."""
        return Library(self.catalogue, self._kept)

    @cached_property
    def downloads(self) -> Downloads:
        return Downloads(self.catalogue.models_dir, self.hub)

    @cached_property
    def _kept(self) -> Kept:
        return self.kept or Kept(self.jobs.outputs)

    def choose(self, model: str) -> None:
        """Somebody chose this model: the next start begins with it."""
        self.chosen.add(model)
        self._kept.choose(model)

    def recalled(self, model: object) -> bool:
        """Whether a page that remembers this model may open with it: not where the command line has named another
        since, nor where it is gone."""
        return isinstance(model, str) and (model in self.chosen or not self.explicit) and self.info(model) is not None

    def takes_refiners(self, model: str) -> bool:
        info = self.info(model)
        return info is not None and info.family == "sdxl"

    def refiners(self) -> list[str]:
        """The refiners of SDXL that are here, as far as the list of models has been read."""
        self.library.look()
        return [row["name"] for row in self.library.state()["rows"] if row.get("family") == "refiner"]

    @property
    def extras(self) -> Extras:
        """The LoRAs and textual inversions that prompts may name."""
        return Extras.of(self.catalogue)

    def info(self, name: str) -> ModelInfo | None:
        """The model's description, or None when it cannot be read (its error shows when it is used)."""
        try:
            return self.catalogue.get(name)
        except LoomError:
            return None

    def counter(self, name: str) -> Counter | None:
        """Counts a model's tokens; None when its tokenizer cannot be read."""
        info = self.info(name)
        return counter_for(info, self.extras) if info else None

    def check(self, request: Request) -> list[Note]:
        """Notes on a request that can be done. Raises BadRequest or ModelError for one that cannot."""
        return check_in(request, self.catalogue)

    def pace(self, request: Request) -> float | None:
        """Seconds per pass over a whole picture (or window) in the last run like this; None before there was one."""
        def worth(asked: Request) -> float:
            info = self.info(asked.model)
            cost = predicted_cost(asked, info) if info else None
            return cost.work / cost.evaluations if cost else 1.0
        return self.jobs.pace(request, worth)

    def presets_of(self, owner: str) -> Presets:
        """The project's presets and a person's own. Where people log in, nobody in particular has none."""
        return self.presets.of(owner) if owner or not self.logins else Presets(project=self.presets.project)

    def style(self, name: str, owner: str) -> Style:
        """Raises BadRequest for one that is not there."""
        return self.presets_of(owner).styles().get(name) or self.styles[name]

    def styles_for(self, model: str, owner: str) -> list[Style]:
        info = self.info(model)
        every = {**self.styles, **self.presets_of(owner).styles()}
        return [style for style in every.values() if style.storybook or not (info and info.is_storybook)]
