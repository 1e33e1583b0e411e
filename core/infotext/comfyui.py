"""ComfyUI's graphs: the text "prompt" (what was run) or "workflow" (what stood on the screen).

There is no list of settings in them, only nodes and their links. We start at the node that saves the picture, go back
to the nearest sampler, and from its inputs on to the words, the size and the model. What is typed into the other nodes
on the way is told, not lost.
Source: ComfyUI, execution.py (graphs as JSON) and nodes.py (names of inputs).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from core.infotext.settings import MAX_OTHERS, Settings, number, solver

MAX_NODES = 5_000
Graph = dict[str, dict[str, Any]]

# Widgets of the nodes that matter, in their order, for the graph of the screen, which has no names for them.
_WIDGETS = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler", "start_at_step",
                         "end_at_step", "return_with_leftover_noise"),
    "CLIPTextEncode": ("text",), "EmptyLatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",), "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"), "VAELoader": ("vae_name",),
}
_TEXTS = ("text", "text_g", "text_l", "string", "value", "prompt", "positive", "wildcard_text")
_MODELS = ("ckpt_name", "unet_name", "model_name")


def read(texts: Mapping[str, str]) -> Settings | None:
    """None when there is no graph with a sampler in it."""
    for key in ("prompt", "workflow"):
        graph = _graph(texts.get(key, ""))
        if sampler := _sampler(graph):
            return _settings(graph, sampler, texts[key])
    return None


def _graph(text: str) -> Graph:
    """Node's number -> {"class_type", "inputs"}; empty for what is no graph."""
    try:
        found = json.loads(text) if text.lstrip()[:1] == "{" else {}
    except (ValueError, RecursionError):
        return {}
    if isinstance(found.get("nodes"), list):
        return _of_screen(found)
    return {str(name): node for name, node in list(found.items())[:MAX_NODES]
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
            and isinstance(node.get("class_type"), str)}


def _of_screen(found: dict[str, Any]) -> Graph:
    links = {entry[0]: [str(entry[1]), entry[2]] for entry in found.get("links") or []
             if isinstance(entry, list) and len(entry) >= 5 and isinstance(entry[0], int)}
    graph: Graph = {}
    for node in found["nodes"][:MAX_NODES]:
        if not isinstance(node, dict) or node.get("mode") in (2, 4):  # muted, bypassed
            continue
        kind, values = str(node.get("type")), node.get("widgets_values")
        if isinstance(values, dict):
            inputs = {str(name): value for name, value in values.items()}
        else:
            names = _WIDGETS.get(kind, tuple(f"widget {k + 1}" for k in range(20)))
            inputs = {name: value for name, value in zip(names, values if isinstance(values, list) else (),
                                                         strict=False) if name}
        for slot in node.get("inputs") or []:
            if isinstance(slot, dict) and isinstance(slot.get("link"), int) and slot["link"] in links:
                inputs[str(slot.get("name"))] = links[slot["link"]]
        graph[str(node.get("id"))] = {"class_type": kind, "inputs": inputs}
    return graph


def _link(graph: Graph, value: Any) -> str | None:
    """The node that an input comes from."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)) and str(value[0]) in graph:
        return str(value[0])
    return None


def _upstream(graph: Graph, start: str | None, only: tuple[str, ...] = ()) -> Iterator[str]:
    """A node and those it hangs on, nearest first. only: the inputs that are followed; none: all."""
    queue, seen = deque([start] if start else []), {start}
    while queue:
        name = queue.popleft()
        yield name
        for key, value in graph[name]["inputs"].items():
            before = _link(graph, value)
            if before and before not in seen and (not only or key in only):
                seen.add(before)
                queue.append(before)


def _sampler(graph: Graph) -> str | None:
    """The sampler nearest to the node that saves, else any."""
    def samples(name: str) -> bool:
        return "positive" in (inputs := graph[name]["inputs"]) and "latent_image" in inputs or \
            "guider" in inputs and "sampler" in inputs
    ends = [name for name, node in graph.items() if "Save" in node["class_type"] or "Preview" in node["class_type"]]
    for end in ends:
        if found := next(filter(samples, _upstream(graph, end)), None):
            return found
    return next(filter(samples, graph), None)


def _settings(graph: Graph, sampler: str, text: str) -> Settings:
    values: dict[str, Any] = {}
    other: dict[str, str] = {}
    read: set[tuple[str, str]] = set()  # (node, input) that found its field

    def literal(start: str | None, names: tuple[str, ...], only: tuple[str, ...] = ()) -> Any:
        """The first of these inputs that is typed in, from a node on upstream."""
        for node in _upstream(graph, start, only):
            for name in names:
                value = graph[node]["inputs"].get(name)
                if value is not None and not isinstance(value, (list, dict)):
                    read.add((node, name))
                    return value
        return None

    inputs = graph[sampler]["inputs"]
    for field, names in (("seed", ("seed", "noise_seed")), ("steps", ("steps",)), ("guidance", ("cfg", "guidance"))):
        value = literal(sampler, names)
        if value is not None:
            values[field] = number(value)
    name, scheduler = literal(sampler, ("sampler_name",)), literal(sampler, ("scheduler",))
    solver(values, other, name, scheduler)
    guider = graph.get(_link(graph, inputs.get("guider")) or "", {"inputs": {}})["inputs"]
    for field, source in (("prompt", inputs.get("positive") or guider.get("positive") or guider.get("conditioning")),
                          ("negative_prompt", inputs.get("negative") or guider.get("negative"))):
        values[field] = _words(graph, _link(graph, source), field, read)
    latent = _link(graph, inputs.get("latent_image"))
    for field in ("width", "height"):
        value = literal(latent, (field,))
        if value is not None:
            values[field] = number(value)
    model = literal(_link(graph, inputs.get("model") or guider.get("model")), _MODELS)
    if isinstance(model, str):
        values["model"] = model
    for source in (inputs.get("positive") or guider.get("positive"),):
        layer = literal(_link(graph, source), ("stop_at_clip_layer",))
        if isinstance(layer, int) and layer < 0:
            values["clip_skip"] = -layer
    if (size := literal(latent, ("batch_size",))) not in (None, 1):
        other["Batch size"] = str(size)
    for node in _upstream(graph, sampler):
        for key, value in graph[node]["inputs"].items():
            if (node, key) not in read and not isinstance(value, (list, dict)) and value not in ("", None) \
                    and key not in ("control_after_generate", "filename_prefix") and len(other) < MAX_OTHERS:
                label = f"{graph[node]['class_type']}.{key}"
                other[label if label not in other else f"{label} ({node})"] = str(value)
    return Settings("ComfyUI", values, other, text)


def _words(graph: Graph, start: str | None, field: str, read: set[tuple[str, str]]) -> str:
    """The text behind a conditioning; several that are combined, each on a line."""
    found: list[str] = []
    side = "positive" if field == "prompt" else "negative"
    queue, seen = deque([start] if start else []), {start}
    while queue:
        name = queue.popleft()
        inputs = graph[name]["inputs"]
        own = [(key, inputs[key]) for key in _TEXTS if isinstance(inputs.get(key), str)]
        for key, value in own:
            read.add((name, key))
            if value not in found:
                found.append(value)
        if own:
            continue
        both = "positive" in inputs and "negative" in inputs  # ControlNet and the like pass both on
        for key, value in inputs.items():
            before = _link(graph, value)
            if before and before not in seen and key not in ("clip", "model", "vae", "image", "control_net") \
                    and (not both or key == side):
                seen.add(before)
                queue.append(before)
    return "\n".join(text for text in found if text.strip())
