"""The page's own events and questions over HTTP, as its scripts send them: for tests without a browser."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx


class Event(NamedTuple):
    """One of the things that a component tells the server."""

    number: int  # gradio's fn_index
    target: int  # the component
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Visitor:
    """An open page. session: its name."""

    def __init__(self, person: httpx.Client, session: str = "visitor"):
        self.person, self.session = person, session
        config = person.get("config").json()
        self.components: dict[int, dict[str, Any]] = {part["id"]: part["props"] for part in config["components"]}
        self.events = [Event(one["id"], target, name, tuple(one["inputs"]), tuple(one["outputs"]))
                       for one in config["dependencies"] if one["backend_fn"] for target, name in one["targets"]]

    def named(self, name: str) -> list[Event]:
        """Those of that name, in the order of the page."""
        return [event for event in self.events if event.name == name]

    def values(self, event: Event) -> list[Any]:
        """What its inputs hold on a fresh page."""
        return [self.components[number].get("value") for number in event.inputs]

    def tell(self, event: Event, data: Any = None, values: list[Any] | None = None) -> httpx.Response:
        """Send an event on a page whose form nobody has touched, unless `values` say otherwise."""
        return self.post("run/predict", {
            "fn_index": event.number, "trigger_id": event.target, "session_hash": self.session, "event_data": data,
            "data": self.values(event) if values is None else values})

    @property
    def questions(self) -> list[tuple[int, str]]:
        """(component, function) of all that components may ask the server."""
        return [(number, name) for number, props in self.components.items() for name in props.get("server_fns") or ()]

    def ask(self, number: int, name: str, question: Any) -> httpx.Response:
        return self.post("component_server", {
            "session_hash": self.session, "component_id": number, "fn_name": name, "data": question})

    def post(self, address: str, body: Any) -> httpx.Response:
        """Any value of Python's JSON, which knows infinities and halves of characters."""
        return self.person.post(f"gradio_api/{address}", content=json.dumps(body).encode(),
                                headers={"Content-Type": "application/json"})

    def upload(self, name: str, content: bytes) -> str:
        """The path of a file that was sent."""
        (path,) = self.person.post("gradio_api/upload", files={"files": (name, content)}).json()
        return str(path)
