"""Several people on one studio: each has presets of their own, beside the project's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from gradio_client import Client

import app
from core.errors import BadRequest
from core.logins import Logins
from core.owners import home
from core.ownpresets import Presets
from core.presets import PRESETS, load_layouts
from tests.fakes import FakeRunner
from tests.lines import assert_one_line
from tests.serving import THIRD_PARTY, Served, served
from tests.test_owners import PASSWORDS, asked, client, visitor
from ui.languages import ENGLISH, PREFIX, table

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Served]:
    logins = Logins.of([f"{name}:{password}" for name, password in PASSWORDS.items()])
    with served(tmp_path, lambda: FakeRunner(0), logins=logins) as studio:
        yield studio


def press(person: Client, handler: str, **fields: Any) -> Any:
    """What a handler of the page answers; fields by their labels, the rest as they stand when the page opens."""
    props = {part["id"]: part["props"] for part in person.config["components"]}
    event = next(event for event in person.config["dependencies"] if event["api_name"] == handler)
    person.endpoints[event["id"]].is_valid = True  # the page's own, which the client keeps from calling
    values = [fields.get(label(props[part]), props[part].get("value")) for part in event["inputs"]]
    return person.predict(*values, fn_index=event["id"])


def label(props: dict[str, Any]) -> str:
    """A component's label, in English."""
    said = re.search(f'"{PREFIX}(.+)"', str(props.get("label")))
    return table(ENGLISH)[said[1]] if said else str(props.get("label"))


def save(person: Client, name: str, prompt: str) -> str:
    """The line that saving a style gives."""
    return press(person, "save_preset", Prompt=prompt, Name=name)[2]["presets"][1]


def offered(person: Client) -> tuple[list[str], list[str]]:
    """The styles in the form, and the presets in the box."""
    styles, presets, _ = press(person, "offer_presets")
    return [value for _, value in styles["choices"]], [value for _, value in presets["choices"]]


def words(shared: Served, owner: str, name: str) -> str:
    return str(shared.studio.presets_of(owner).get("style", name).values["prompt"])


def test_what_one_saves_no_other_is_offered_may_use_or_delete(shared: Served) -> None:
    ann, bob = client(shared, "ann"), client(shared, "bob")
    shipped = offered(bob)
    assert save(ann, "Hers", "secret ink") == "Saved 'Hers'."
    assert [set(more) - set(usual) for more, usual in zip(offered(ann), shipped, strict=True)] == [{"Hers"},
                                                                                                {"style:Hers"}]
    assert offered(bob) == shipped and "style:Flat" in shipped[1]
    for handler in ("apply_preset", "delete_chosen"):
        with pytest.raises(Exception, match="does not know"):
            press(bob, handler, Preset="style:Hers")
    for handler, line in (("rename_chosen", "not one of your own"), ("delete_chosen", "not one of your own"),
                          ("apply_preset", "no preset 'Hers' any more")):
        assert save(bob, "Hers", "his own") == "Saved 'Hers'."  # nothing of hers is in the way, or overwritten
        other_tab = client(shared, "bob")
        offered(other_tab)
        assert press(bob, "delete_chosen", Preset="style:Hers")[2]["presets"][1] == "Deleted 'Hers'."
        *_, said = press(other_tab, handler, Preset="style:Hers", Name="Taken")  # which lists it still
        assert line in said["presets"][1]
    assert words(shared, "ann", "Hers") == "secret ink"
    assert press(ann, "delete_chosen", Preset="style:Hers")[2]["presets"][1] == "Deleted 'Hers'."


def test_each_has_a_folder_of_their_own_and_nobodys_presets_are_nobodys(shared: Served) -> None:
    presets = shared.studio.presets
    shipped = offered(client(shared, "bob"))
    presets.save("style", "Loose", {"prompt": "from before"})
    ann, bob = client(shared, "ann"), client(shared, "bob")
    save(ann, "Hers", "ink")
    assert presets.folder and (home(presets.folder, "ann") / "styles.toml").is_file()
    assert not home(presets.folder, "bob").exists()
    assert offered(bob) == shipped and "Loose" not in str(bob.config) + str(ann.config) + str(offered(ann))
    for owner in ("bob", ""):
        with pytest.raises(BadRequest, match="no preset 'Hers' any more"):
            words(shared, owner, "Hers")
    with pytest.raises(BadRequest, match="no folder for own presets"):
        shared.studio.presets_of("").save("style", "A", {"prompt": "b"})


@pytest.mark.parametrize("name", ["..", ".", "../bob", "a/b", "people", "a\\b", "%2E%2E"])
def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    presets = Presets(tmp_path / "presets")
    presets.of(name).save("style", "A", {"prompt": "b"})
    (file,) = tmp_path.rglob("styles.toml")
    assert file.parent.parent == tmp_path / "presets" / "people"
    assert "A" not in presets.all("style") and "A" not in presets.of("bob").all("style")


def test_layouts_are_ones_own_too(shared: Served) -> None:
    folder = home(shared.studio.presets.folder or Path(), "ann") / "layouts"
    folder.mkdir(parents=True)
    shutil.copy(PRESETS / "layouts" / "1-living-room.json", folder / "her-attic.json")
    names = {name: asked(shared, name, "alone", "layouts", {})["names"] for name in PASSWORDS}
    assert names["bob"] == list(load_layouts()) and names["ann"] == [*names["bob"], "Her attic"]


def test_a_file_that_is_left_out_is_told_to_its_owner_only(shared: Served) -> None:
    folder = home(shared.studio.presets.folder or Path(), "ann")
    folder.mkdir(parents=True)
    (folder / "styles.toml").write_text('["A"\n')
    told = {name: press(client(shared, name), "offer_presets")[2] for name in PASSWORDS}
    assert told["bob"] == {} and told["ann"]["presets"][0] == "note" and "left out" in told["ann"]["presets"][1]


def test_nobody_is_given_a_file_of_presets_by_its_address(shared: Served) -> None:
    file = home(shared.studio.jobs.outputs / "presets", "ann") / "styles.toml"  # where they lie unless it is told
    file.parent.mkdir(parents=True)
    file.write_text("secret")
    for name in (*PASSWORDS, ""):
        with visitor(shared, name) as person:
            assert person.get("/gradio_api/file=" + quote(str(file))).status_code in (401, 403, 404)


def test_without_logins_presets_lie_where_they_did(tmp_path: Path) -> None:
    with served(tmp_path, lambda: FakeRunner(0)) as studio:
        save(Client(studio.address, verbose=False), "Mine", "ink")
        assert (tmp_path / "presets" / "styles.toml").is_file() and not (tmp_path / "presets" / "people").exists()
        assert "style:Mine" in offered(Client(studio.address, verbose=False))[1]


def test_the_start_says_what_to_do_with_presets_from_before_there_were_logins(tmp_path: Path) -> None:
    chosen = app.options(["--outputs", str(tmp_path), "--auth", "ann:x"])
    assert list(app.from_before(chosen, "ann")) == []
    Presets(tmp_path / "presets").save("style", "A", {"prompt": "b"})
    (line,) = app.from_before(chosen, "ann")
    assert str(home(tmp_path / "presets", "ann")) in line
    assert_one_line(line)
