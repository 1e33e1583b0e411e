"""core.ownpresets: own entries beside the project's, what is refused, and A1111's styles.csv."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from core import layoutfile
from core.__main__ import main
from core.errors import BadRequest
from core.layoutfile import State
from core.masks import Mask
from core.ownpresets import FILES, SETTINGS, Presets
from core.request import Region, Request
from tests.lines import assert_one_line

HELD = {"prompt": "{prompt}, \"quoted\" \\ 🦊\nnext\x7f", "negative_prompt": "fog"}


@pytest.fixture
def presets(tmp_path: Path) -> Presets:
    return Presets(tmp_path / "own" / "presets")


def test_the_projects_presets_can_be_used(presets: Presets) -> None:
    assert all(presets.all(kind) for kind in FILES) and presets.problems() == []
    assert set(SETTINGS) <= set(Request.fields())
    assert presets.all("layout")


def test_what_is_saved_is_there_for_the_next_start(presets: Presets, tmp_path: Path) -> None:
    presets.save("style", " [a] \"b\" ", HELD)
    presets.save("settings", "Mine", {"steps": 7, "guidance": 2.5, "sampler": "Euler"})
    presets.save("negative", "None of it", {"negative_prompt": "blur"})
    again = Presets(presets.folder)
    assert again.get("style", '[a] "b"').values == HELD
    assert again.styles()['[a] "b"'].apply("boat") == (HELD["prompt"].replace("{prompt}", "boat"), "fog")
    assert again.get("settings", "Mine").values == {"steps": 7, "guidance": 2.5, "sampler": "Euler"}
    assert again.get("negative", "None of it").own
    assert sorted(path.name for path in (tmp_path / "own" / "presets").iterdir()) == sorted(FILES.values())


def test_an_own_entry_stands_in_for_the_projects_and_leaves_it_when_deleted(presets: Presets) -> None:
    shipped = presets.get("style", "Flat")
    presets.save("style", "Flat", {"prompt": "{prompt}, mine"})
    assert presets.get("style", "Flat").values["prompt"] == "{prompt}, mine"
    assert presets.rename("style", "Flat", "Flatter").own
    assert presets.get("style", "Flat") == shipped
    presets.delete("style", "Flatter")
    with pytest.raises(BadRequest, match="no preset 'Flatter' any more"):
        presets.get("style", "Flatter")
    with pytest.raises(BadRequest, match="not one of your own"):
        presets.delete("style", "Flat")


@pytest.mark.parametrize(("name", "line"), [
    ("  ", "needs a name"), ("../x", "looks like a path"), ("a\\b", "looks like a path"), (".hidden", "a dot"),
    ("x" * 61, "at most 60"), ("a\nb", "cannot be shown"), ("\ud800", "cannot be shown"), ("None", "nothing is chosen"),
    ("taken", "already"),
])
def test_a_name_that_cannot_be_gets_one_line(presets: Presets, name: str, line: str) -> None:
    presets.save("style", "taken", {"prompt": "{prompt}, a"})
    for act in (lambda: presets.save("style", name, {"prompt": "{prompt}, b"}),
                lambda: presets.rename("style", "taken", name)):
        with pytest.raises(BadRequest) as caught:
            act()
        assert line in str(caught.value)
        assert_one_line(str(caught.value))
    assert presets.get("style", "taken").values == {"prompt": "{prompt}, a"}


@pytest.mark.parametrize("values", [{}, {"steps": 0}, {"steps": "7"}, {"seed": 3}, {"sampler": "nobody"},
                                    {"schedule": "nobody"}])
def test_settings_that_no_request_takes_are_not_saved(presets: Presets, values: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        presets.save("settings", "A", values)
    assert presets.folder and not presets.folder.exists()


def test_a_layout_is_kept_under_its_name_half_finished_too(presets: Presets) -> None:
    painted = Region(name="a", prompt="?", mask=Mask.of(np.eye(64)), guidance=3)
    request = Request(prompt="a room", width=64, height=64, bootstrap=0.4, regions=(painted, painted))
    values = layoutfile.to_dict(request, [State(hidden=True), State(wordless=True)])
    for name in ("3 cats", "Ünïcode 🦊", "x" * 60):
        assert presets.save("layout", name, values).own
        assert presets.save("layout", name.upper() + "!" if len(name) < 60 else name[:-1], values).own
        assert Presets(presets.folder).get("layout", name) == presets.get("layout", name)
    found = presets.get("layout", "3 cats").values
    assert found["states"] == [State(hidden=True), State(wordless=True)] and found["fields"]["bootstrap"] == 0.4
    assert Request(**found["fields"]).regions == request.regions
    with pytest.raises(BadRequest, match="You have a layout named '3 cats' already"):
        presets.save("layout", "3 cats", values)
    with pytest.raises(BadRequest, match="already"):
        presets.rename("layout", "3 cats", "Ünïcode 🦊")
    assert presets.rename("layout", "3 cats", "Cats").values == found
    presets.delete("layout", "Cats")
    for name in ("3 cats", "Cats"):
        with pytest.raises(BadRequest, match="any more"):
            presets.get("layout", name)
    with pytest.raises(BadRequest, match="no region to save"):
        presets.save("layout", "Empty", layoutfile.to_dict(Request()))
    with pytest.raises(BadRequest, match="looks like a path"):
        presets.save("layout", "../x", values)
    assert presets.folder and [path.parent.name for path in presets.folder.rglob("*.json")] == ["layouts"] * 5


def test_an_own_layout_stands_in_for_the_projects_and_leaves_it_when_deleted(presets: Presets) -> None:
    shipped = presets.get("layout", "Living room")
    assert "crop_after" not in shipped.values["fields"]  # when crops begin is the model's own matter
    with pytest.raises(BadRequest, match="not one of your own"):
        presets.delete("layout", "Living room")
    presets.save("layout", "Living room", layoutfile.to_dict(Request(**{**shipped.values["fields"], "prompt": "mine"})))
    assert presets.get("layout", "Living room").values["fields"]["prompt"] == "mine"
    presets.delete("layout", "Living room")
    assert presets.get("layout", "Living room") == shipped


def test_a_broken_file_is_left_out_with_one_line_and_never_overwritten(presets: Presets) -> None:
    presets.save("negative", "A", {"negative_prompt": "blur"})
    assert presets.folder
    broken = presets.folder / "styles.toml"
    broken.write_text('["A"\n', encoding="utf-8")
    (presets.folder / "layouts").mkdir()
    (presets.folder / "layouts" / "bad.json").write_text("{", encoding="utf-8")
    problems = presets.problems()
    assert [file in line for file, line in zip(("styles.toml", "bad.json"), problems, strict=True)] == [True, True]
    assert presets.all("negative")["A"].own and "Flat" in presets.all("style") and presets.all("layout")
    with pytest.raises(BadRequest, match="Mend or move it"):
        presets.save("style", "B", {"prompt": "{prompt}"})
    assert broken.read_text(encoding="utf-8") == '["A"\n'
    broken.write_text('["A"]\nprompt = "{prompt}, mended"\n', encoding="utf-8")
    assert presets.get("style", "A").own


def test_a_styles_csv_comes_in_and_says_what_did_not(presets: Presets, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "styles.csv"
    path.write_bytes('\ufeffname,prompt,negative_prompt\r\n'
                     'Film,"{prompt}, ""35 mm"", grain",drawing\r\n'
                     ',,\r\n\r\n'
                     'Ink,"ink,\nblack",\r\n'
                     'Clean,,blur\r\n'
                     'Film,again,\r\n'
                     '../x,words,\r\n'
                     'Divider,,\r\n'
                     'Twice,{prompt} {prompt},{prompt}\r\n'
                     'Short\r\n'.encode())
    assert main(["presets", "--presets", str(presets.folder), "--import", str(path)]) == 0
    first, *left = capsys.readouterr().out.splitlines()
    assert first == "Styles that came: 4."
    assert [line.partition(" did")[0] for line in left] == ["Line 8", "Line 9", "Line 10", "Line 12"]
    assert presets.folder
    assert tomllib.loads((presets.folder / "styles.toml").read_text(encoding="utf-8")) == {
        "Film": {"prompt": '{prompt}, "35 mm", grain', "negative_prompt": "drawing"},
        "Ink": {"prompt": "ink,\nblack", "negative_prompt": ""},
        "Clean": {"prompt": "", "negative_prompt": "blur"},
        "Twice": {"prompt": "{prompt} {prompt}", "negative_prompt": "{prompt}"}}
    assert main(["presets", "--presets", str(presets.folder)]) == 0
    listed = capsys.readouterr().out
    assert "yours" in next(line for line in listed.splitlines() if "Film" in line) and "layout" in listed


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe", b'name,prompt\n"' + b"x" * 200_000 + b'"'])
def test_a_file_that_is_no_styles_csv_gets_one_line(presets: Presets, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(BadRequest, match=r"s\.csv") as caught:
        presets.import_styles(tmp_path / "s.csv")
    assert_one_line(str(caught.value))
