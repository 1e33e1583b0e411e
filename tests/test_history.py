"""The history: the pictures are the truth, the index follows them, and nothing that a disk or a hand does loses one."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core import history as histories
from core import metadata
from core.__main__ import main
from core.errors import BadRequest, OutputError
from core.history import Entry, History, Query
from core.history.index import VERSION
from core.history.thumbs import SIDE, thumb
from core.jobs import Jobs
from core.request import Region, Request
from tests.fakes import FakeRunner
from tests.lines import assert_one_line

PICTURE = np.zeros((64, 96, 3), np.uint8)
ROOT = Path(__file__).parent.parent


def save(outputs: Path, name: str, **values: object) -> Path:
    path = outputs / name
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata.save_png(PICTURE, path, Request(**values))  # type: ignore[arg-type]
    return path


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Four pictures of two days."""
    save(tmp_path, "2026-01-01/a.png", prompt="a red boat, at sea", negative_prompt="fog", seed=1, sampler="Euler")
    save(tmp_path, "2026-01-01/b.png", prompt="a blue boathouse", model="other", seed=2)
    save(tmp_path, "2026-01-02/c.png", prompt="红色的船在海上", seed=3, sampler="Euler")
    save(tmp_path, "2026-01-02/deep/d.png", prompt='100% "wool" _ red', seed=4,
         regions=(Region(name="x", prompt="y", box=(0, 0, 1, 1)),))
    for k, name in enumerate(["2026-01-01/a.png", "2026-01-01/b.png", "2026-01-02/c.png", "2026-01-02/deep/d.png"]):
        moment = time.mktime((2026, 1, 1 + k // 2, 12, k, 0, 0, 0, -1))
        os.utime(tmp_path / name, (moment, moment))
    return tmp_path


def seeds(found: History, **query: object) -> list[int | None]:
    total, entries = found.search(Query(**query))  # type: ignore[arg-type]
    assert total == len(entries)
    return [entry.seed for entry in entries]


def by_seed(found: History, seed: int) -> Entry:
    return next(entry for entry in found.search(Query())[1] if entry.seed == seed)


def opened(outputs: Path) -> History:
    found = History(outputs)
    found.scan()
    return found


# -- finding


@pytest.mark.parametrize("query, expected", [
    ({}, [4, 3, 2, 1]), ({"words": "boat"}, [2, 1]), ({"words": "BOAT red"}, [1]), ({"words": '"blue boathouse"'}, [2]),
    ({"words": '"boat"'}, [1]), ({"words": "fog"}, [1]), ({"words": "的船"}, [3]), ({"words": "%"}, [4]),
    ({"words": "nowhere"}, []), ({"words": '" * ( - NEAR AND "wool'}, []), ({"words": 'a"b" OR'}, []), ({"words": "\0"},
                                                                                              [4, 3, 2, 1]),
    ({"sampler": "Euler"}, [3, 1]), ({"model": "other"}, [2]), ({"since": "2026-01-02"}, [4, 3]),
    ({"until": "2026-01-01"}, [2, 1]), ({"since": "2026-01-01", "until": "2026-01-02", "words": "red"}, [4, 1])])
@pytest.mark.parametrize("fts", [True, False])
def test_pictures_are_found(outputs: Path, query: dict[str, object], expected: list[int], fts: bool) -> None:
    found = opened(outputs)
    assert found.index.has_fts
    found.index.has_fts = fts  # without it the texts themselves are searched
    if not fts and query.get("words") == '"boat"':
        expected = [2, 1]  # which knows no ends of words
    assert seeds(found, **query) == expected
    found.close()


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"until": "2026-13-01"}, {"words": "x" * 501}])
def test_a_search_that_means_nothing_is_refused_in_one_line(outputs: Path, query: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as told:
        opened(outputs).search(Query(**query))  # type: ignore[arg-type]
    assert_one_line(told.value)


# -- what hands do in the folder


def test_files_that_appear_move_change_and_vanish_are_noticed(outputs: Path) -> None:
    found = opened(outputs)
    found.mark(by_seed(found, 1).id, True, ["sea"])
    save(outputs, "e.png", prompt="new", seed=5)
    (outputs / "2026-01-01/b.png").unlink()
    (outputs / "2026-01-02/deep").rename(outputs / "moved")
    (outputs / "2026-01-01/a.png").rename(outputs / "moved/a.png")
    save(outputs, "2026-01-02/c.png", prompt="changed", seed=30)
    (outputs / "notes.txt").write_text("no picture")
    (outputs / "link.png").symlink_to("/etc/passwd")
    found.scan()
    assert sorted(filter(None, seeds(found))) == [1, 4, 5, 30]
    assert by_seed(found, 1).favourite and by_seed(found, 1).tags == ("sea",)  # what people added goes along
    found.close()


def test_a_truncated_picture_is_skipped_with_a_line_until_it_is_whole(
        outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = outputs / "2026-01-01/b.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    found = opened(outputs)
    found.scan()
    assert seeds(found) == [4, 3, 1]
    assert len([r for r in caplog.records if "b.png" in r.message and "truncated" in r.message]) == 1  # said once
    assert_one_line(found.skipped()[0])
    path.write_bytes(whole)
    found.scan()
    assert len(seeds(found)) == 4 and found.skipped() == []
    found.close()


def test_a_picture_is_in_the_history_the_moment_it_is_done(tmp_path: Path) -> None:
    jobs = Jobs(lambda: FakeRunner(0), tmp_path / "outputs", tmp_path / "frames", trajectories=0)
    job = jobs.wait(jobs.submit(Request(prompt="a boat", steps=2, batch=2, seed=7)), 60)
    assert job.state == "done"
    assert sorted(filter(None, seeds(histories.of(jobs.outputs)))) == [7, 8]  # without a look into the folder
    jobs.close()


# -- favourites, tags, the trash


def test_favourites_and_tags_survive_the_index(outputs: Path) -> None:
    found = opened(outputs)
    found.mark(by_seed(found, 1).id, favourite=True)
    found.mark(by_seed(found, 1).id, tags=["sea", " old  boats ", "sea"])
    found.mark(by_seed(found, 2).id, tags=["sea"])
    assert seeds(found, favourites=True) == [1] and seeds(found, tag="sea") == [2, 1]
    assert found.rebuild() == 4
    assert by_seed(found, 1).favourite and by_seed(found, 1).tags == ("sea", "old boats")
    assert found.choices() == {"models": ["storybook", "other"], "samplers": ["DPM++ 2M", "Euler"],
                               "tags": ["sea", "old boats"]}
    found.mark(by_seed(found, 1).id, favourite=False, tags=[])
    assert list(json.loads(found.notes.path.read_text())) == ["2026-01-01/b.png"]
    for wrong in (["x" * 61], ["a\x1bb"], [5], [str(k) for k in range(31)]):
        with pytest.raises(BadRequest) as told:
            found.mark(by_seed(found, 1).id, tags=wrong)
        assert_one_line(told.value)
    found.close()


def test_a_damaged_file_of_favourites_is_put_aside(outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = opened(outputs)
    found.notes.path.write_text("{")
    found.mark(by_seed(found, 1).id, True)
    assert by_seed(found, 1).favourite and (outputs / ".history/notes.json.damaged").read_text() == "{"
    assert sum("cannot be read" in record.message for record in caplog.records) == 1
    found.close()


def test_what_was_deleted_comes_back_to_its_place_also_after_a_rebuild(outputs: Path) -> None:
    found = opened(outputs)
    entry = found.mark(by_seed(found, 1).id, True)
    content = (outputs / entry.file).read_bytes()
    found.delete(entry.id)
    assert not (outputs / "2026-01-01/a.png").exists()
    assert seeds(found) == [4, 3, 2] and seeds(found, trash=True) == [1]
    found.scan()
    found.rebuild()
    assert seeds(found) == [4, 3, 2] and seeds(found, trash=True) == [1]
    back = found.restore(found.search(Query(trash=True))[1][0].id)
    assert back.favourite and (outputs / "2026-01-01/a.png").read_bytes() == content
    assert seeds(found) == [4, 3, 2, 1] and not list((outputs / ".history/trash").iterdir())
    found.delete(back.id)
    save(outputs, "2026-01-01/a.png", prompt="another", seed=9)
    with pytest.raises(BadRequest, match="another picture") as told:
        found.restore(back.id)
    assert_one_line(told.value)
    found.close()


def test_the_trash_is_emptied_after_some_days_or_when_asked(outputs: Path) -> None:
    found = opened(outputs)
    found.mark(by_seed(found, 1).id, True)
    found.delete(by_seed(found, 1).id)
    assert found.empty_trash(days=30) == 0 and seeds(found, trash=True) == [1]
    assert found.empty_trash() == 1 and seeds(found, trash=True) == [] and len(seeds(found)) == 3
    assert not list((outputs / ".history/trash").iterdir()) and json.loads(found.notes.path.read_text()) == {}
    found.close()


def test_a_disk_that_refuses_leaves_everything_as_it_was(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(outputs)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.history.notes.write_text", full)
    monkeypatch.setattr("core.history.os.replace", full)
    for change in (lambda: found.mark(by_seed(found, 1).id, True), lambda: found.delete(by_seed(found, 1).id)):
        with pytest.raises(OutputError, match="No space left") as told:
            change()
        assert_one_line(told.value)
    assert not by_seed(found, 1).favourite and len(seeds(found)) == 4
    monkeypatch.undo()
    assert found.mark(by_seed(found, 1).id, True).favourite
    found.close()


# -- an index that is damaged, old, or cannot be written


@pytest.mark.parametrize("harm", ["garbage", "empty", "half", "version", "table"])
def test_an_index_that_cannot_be_used_is_built_anew_and_said_so(
        outputs: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    found = opened(outputs)
    found.mark(by_seed(found, 1).id, True, ["sea"])
    found.close()
    path = outputs / ".history/index.sqlite"
    if harm == "garbage":
        path.write_bytes(b"no database at all" * 1000)
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version = {VERSION + 1}" if harm == "version" else "DROP TABLE pictures")
        db.close()
    caplog.clear()
    found = opened(outputs)
    assert seeds(found) == [4, 3, 2, 1] and seeds(found, words="boat") == [2, 1]
    assert by_seed(found, 1).favourite and by_seed(found, 1).tags == ("sea",)
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1 and "anew from the pictures" in said[0].message
    assert_one_line(said[0].message)
    found.close()


def test_an_index_of_an_older_studio_is_built_anew_without_what_that_had_more(outputs: Path) -> None:
    found = opened(outputs)
    found.mark(by_seed(found, 1).id, True, ["sea"])
    before = found.search()[1]
    found.close()
    with sqlite3.connect(found.index.path) as db:  # the second version's table, before each person had an index
        db.execute("ALTER TABLE pictures ADD COLUMN owner TEXT NOT NULL DEFAULT ''")
        db.execute("UPDATE pictures SET owner = 'ada', prompt = 'stale'")
        db.execute("PRAGMA user_version = 2")
    db.close()
    found = opened(outputs)
    assert [entry._replace(id=0) for entry in found.search()[1]] == [entry._replace(id=0) for entry in before]
    columns = {row["name"] for row in found.index.read("PRAGMA table_info(pictures)")}
    assert "owner" not in columns and set(Entry._fields) - {"tags"} <= columns
    assert found.index.read("PRAGMA user_version")[0][0] == VERSION > 2
    found.close()


def test_an_index_that_breaks_while_it_is_used_is_built_anew(outputs: Path) -> None:
    found = opened(outputs)
    found.index.write(lambda db: db.execute("DROP TABLE pictures"))
    assert seeds(found) == [4, 3, 2, 1]
    found.close()


def test_outputs_that_cannot_be_written_are_searched_all_the_same(outputs: Path) -> None:
    (outputs / ".history").write_text("a file stands in the way, as good as a folder without a right")
    found = opened(outputs)
    assert_one_line(found.note)
    assert "in memory" in found.note and seeds(found, words="boat") == [2, 1]
    for change in (lambda: found.mark(by_seed(found, 1).id, True), lambda: found.delete(by_seed(found, 1).id)):
        with pytest.raises(OutputError, match="in memory"):
            change()
    small = thumb(found, by_seed(found, 1), outputs / "spare")
    assert small.parent == outputs / "spare" and (outputs / ".history").is_file()
    found.close()


def test_two_processes_work_on_one_folder(outputs: Path) -> None:
    """Each takes in pictures, marks and deletes; afterwards all of it is there, once."""
    code = """
import sys, numpy as np
from pathlib import Path
from core import metadata
from core.history import History, Query
from core.request import Request
outputs, start = Path(sys.argv[1]), int(sys.argv[2])
found = History(outputs)
found.scan()
for seed in range(start, start + 12):
    path = outputs / "both" / f"{seed}.png"
    path.parent.mkdir(exist_ok=True)
    metadata.save_png(np.zeros((8, 8, 3), np.uint8), path, Request(prompt="both", seed=seed))
    found.add(path)
    entry = next(e for e in found.search(Query(words="both"))[1] if e.seed == seed)
    found.mark(entry.id, True, [str(start)])
    if seed % 3 == 0:
        found.delete(entry.id)
    found.scan()
found.close()
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, str(outputs), str(start)], cwd=ROOT, stderr=subprocess.PIPE,
                             text=True) for start in (100, 200)]
    for run in runs:
        _, told = run.communicate(timeout=100)
        assert run.returncode == 0, told
    found = opened(outputs)
    kept, gone = (found.search(Query(words="both", trash=trash))[1] for trash in (False, True))
    every = [*range(100, 112), *range(200, 212)]
    assert sorted(entry.seed for entry in kept if entry.seed) == [seed for seed in every if seed % 3]
    assert sorted(entry.seed for entry in gone if entry.seed) == [seed for seed in every if not seed % 3]
    assert all(entry.favourite and entry.tags == (str(100 if (entry.seed or 0) < 200 else 200),)
               for entry in (*kept, *gone))
    before = [entry._replace(id=0) for entry in kept]
    found.rebuild()
    assert [entry._replace(id=0) for entry in found.search(Query(words="both"))[1]] == before
    found.close()


# -- small pictures, the command line


def test_small_pictures_are_made_once_and_go_with_their_picture(outputs: Path) -> None:
    metadata.save_png(np.zeros((600, 900, 3), np.uint8), outputs / "large.png", Request(seed=50))
    found = opened(outputs)
    small = thumb(found, by_seed(found, 50), outputs)
    with metadata.Image.open(small) as image:
        assert image.size == (SIDE, round(SIDE * 600 / 900))
    made = small.stat().st_mtime_ns
    assert thumb(found, by_seed(found, 50), outputs) == small and small.stat().st_mtime_ns == made
    found.delete(by_seed(found, 50).id)
    found.empty_trash()
    assert not small.exists()
    found.close()


def test_the_command_line_searches_rebuilds_and_reads(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--outputs", str(outputs)]
    assert main(["history", *where, "--search", "boat", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == ["2026-01-01/b.png", "2026-01-01/a.png"] and rows[1]["sampler"] == "Euler"
    assert main(["history", *where, "--rebuild", "--count", "1"]) == 0
    assert capsys.readouterr().out.split("\n")[-2] == "4 pictures, the newest 1 of them"
    assert main(["history", "--outputs", str(outputs / "nowhere")]) == 2
    assert_one_line(capsys.readouterr().err.strip())
    assert main(["read", str(outputs / "2026-01-01/a.png")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Latent Loom, 96x64 pixels\n") and "prompt: a red boat, at sea\n" in told
    assert main(["read", str(outputs / "2026-01-02/deep/d.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["regions"][0]["name"] == "x"
    (outputs / "x.png").write_bytes(b"hello")
    assert main(["read", str(outputs / "x.png")]) == 2
    assert_one_line(capsys.readouterr().err.strip())
