"""Name -> thing, in the order of registration, with "Did you mean" for a name nobody has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from core.errors import BadRequest, closest

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A read-only mapping once filled. kind: what the things are, for messages ("sampler")."""

    def __init__(self, kind: str, field: str | None = None):
        self.kind, self.field = kind, field
        self._things: dict[str, T] = {}

    def add(self, name: str, thing: T) -> T:
        assert name not in self._things, f"two {self.kind}s named {name!r}"
        self._things[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        """The thing of that name. Raises BadRequest with the nearest known name."""
        try:
            return self._things[name]
        except (KeyError, TypeError):
            raise BadRequest(f"No {self.kind} named {str(name)[:60]!r}. {closest(str(name)[:60], list(self))}",
                             self.field) from None

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)
