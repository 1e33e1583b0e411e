"""The Presets of a form: apply one, save the form as one, rename, delete, and bring in a styles.csv.

What a form has no field for is not offered there: styles in Regions, layouts in Text to image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from core import layoutfile
from core.errors import BadRequest, LoomError
from core.ownpresets import LAYOUT, SETTINGS, style_values
from ui import composition, form
from ui.components.notes import Notes, lines
from ui.languages import say, word
from ui.owners import owner_of
from ui.studio import Studio

_SHOWN_LINES = 5  # of an import: more would push the form out of sight


class PresetBox:
    """Builds the folded box where it is made. What its buttons do to the form is for the form to wire.

    scope: the form's, for the box's own line. kinds: what is offered; the first is what the form is saved as at first.
    """

    def __init__(self, studio: Studio, scope: str, kinds: Sequence[str]):
        self.studio, self.kinds = studio, kinds
        self.notes = Notes(f"{scope}-presets")
        with gr.Accordion(word("presets.title"), open=False, elem_classes=["more", "presets"]) as self.fold:
            self.chosen = gr.Dropdown(self.choices(studio.model, ""), value=None, label=word("presets.chosen"))
            with gr.Row(elem_classes=["pair three"]):
                self.use = gr.Button(word("presets.apply"), size="sm", min_width=60)
                self.rename = gr.Button(word("presets.rename"), size="sm", min_width=60)
                self.delete = gr.Button(word("presets.delete"), size="sm", min_width=60)
            self.name = gr.Textbox("", label=word("presets.name"), max_lines=1, placeholder=word("presets.name-hint"))
            self.kind = gr.Dropdown([(word(f"presets.save-as.{kind}"), kind) for kind in kinds], value=kinds[0],
                                    label=word("presets.kind"))
            with gr.Row(elem_classes=["pair"]):
                self.save = gr.Button(word("presets.save"), size="sm", min_width=60)
                self.upload = gr.UploadButton(word("presets.import"), file_types=[".csv"], size="sm", min_width=60,
                                              visible="style" in kinds)
            self.notes.place("presets")

    def choices(self, model: str, owner: str) -> list[tuple[str, str]]:
        """(label, kind:name) of what a person can apply with a model."""
        styles = {style.name for style in self.studio.styles_for(model, owner)}
        presets = self.studio.presets_of(owner)
        return [(word(f"presets.named.{kind}", name=name), f"{kind}:{name}") for kind in self.kinds
                for name in presets.all(kind) if kind != "style" or name in styles]

    def offered(self, model: str, owner: str, chosen: str | None = None) -> Any:
        """The list anew, with this one chosen, if it is there."""
        choices = self.choices(model, owner)
        return gr.Dropdown(choices=choices, value=chosen if chosen in [value for _, value in choices] else None)

    def offer(self, model: str, chosen: str | None, request: gr.Request) -> Any:
        """The list for another model, or as it is by now."""
        return self.offered(model, owner_of(request), chosen)

    def begin(self, model: str, request: gr.Request) -> tuple[Any, dict[str, list[str]]]:
        """For a page that opens: the list, and the line on a person's files that cannot be used."""
        owner = owner_of(request)
        problems = self.studio.presets_of(owner).problems()
        return self.offered(model, owner), {"presets": ["note", " ".join(problems)]} if problems else {}

    def applied(self, values: Mapping[str, Any], chosen: str | None, owner: str) -> dict[str, Any]:
        """The form's values with those of a preset that is no layout; what was typed stays. Raises BadRequest."""
        preset = self.studio.presets_of(owner).get(*_parts(chosen))
        if preset.kind == "style":
            if preset.name not in [style.name for style in self.studio.styles_for(values["model"], owner)]:
                raise BadRequest(say("presets.unknown-words", name=preset.name), "presets")
            return {**values, "style": preset.name}
        if preset.kind == "settings":
            return {**values, **form.written(preset.values)}
        typed, added = (values["negative_prompt"] or "").strip(" ,"), preset.values["negative_prompt"]
        return {**values, "negative_prompt": typed if added in typed else ", ".join(filter(None, (typed, added)))}

    def save_form(self, values: Mapping[str, Any], kind: str, name: str, chosen: str | None,
                  owner: str) -> tuple[Any, Any, Any]:
        """Save what the form holds of a kind: the list, the name's field and the line."""
        try:
            if kind == "style":
                held: dict[str, Any] = style_values(values["prompt"] or "", values["negative_prompt"] or "")
            elif kind == "settings":
                held = {field: form.number(values[field]) for field in SETTINGS}
            elif kind == LAYOUT:
                held = layoutfile.to_dict(*composition.to_sketch(values))
            else:
                held = {"negative_prompt": values["negative_prompt"] or ""}
            saved = self.studio.presets_of(owner).save(kind, name, held)
        except LoomError as error:
            return self.offered(values["model"], owner, chosen), name, refused(error)
        told = said(say("presets.saved", name=saved.name))
        return self.offered(values["model"], owner, f"{kind}:{saved.name}"), "", told

    def rename_chosen(self, model: str, chosen: str | None, name: str,
                      request: gr.Request) -> tuple[Any, Any, Any]:
        """The same, after the chosen preset got another name."""
        owner = owner_of(request)
        try:
            kind, old = _parts(chosen)
            new = self.studio.presets_of(owner).rename(kind, old, name).name
        except LoomError as error:
            return self.offered(model, owner, chosen), name, refused(error)
        return self.offered(model, owner, f"{kind}:{new}"), "", said(say("presets.renamed", old=old, new=new))

    def delete_chosen(self, model: str, chosen: str | None, name: str,
                      request: gr.Request) -> tuple[Any, Any, Any]:
        """The same, after the chosen preset was deleted."""
        owner = owner_of(request)
        try:
            kind, old = _parts(chosen)
            self.studio.presets_of(owner).delete(kind, old)
        except LoomError as error:
            return self.offered(model, owner, chosen), name, refused(error)
        return self.offered(model, owner), name, said(say("presets.deleted", name=old))

    def import_csv(self, model: str, chosen: str | None, file: str | None,
                   request: gr.Request) -> tuple[Any, Any]:
        """Take over the styles of a file that was dropped: the list, and how many came."""
        owner = owner_of(request)
        try:
            if not file:
                raise BadRequest(say("presets.no-file"), "presets")
            count, left = self.studio.presets_of(owner).import_styles(Path(file))
        except LoomError as error:
            return self.offered(model, owner, chosen), refused(error)
        more = [say("presets.left", n=len(left) - _SHOWN_LINES)] if len(left) > _SHOWN_LINES else []
        report = " ".join([say("presets.came", n=count), *left[:_SHOWN_LINES], *more])
        return self.offered(model, owner, chosen), {"presets": ["note" if left else "hint", report]}


def said(text: str) -> dict[str, list[str]]:
    """A line below the box."""
    return lines(hints={"presets": text})


def refused(error: LoomError) -> dict[str, list[str]]:
    """The line below the box on what could not be."""
    return {"presets": ["error", str(error)]}


def _parts(chosen: str | None) -> tuple[str, str]:
    if not chosen:
        raise BadRequest(say("presets.none-chosen"), "presets")
    kind, _, name = chosen.partition(":")
    return kind, name
