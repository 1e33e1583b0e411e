"""The history: every picture in the outputs folder, found by its words, settings, day, favourites and tags.

The PNG files are the truth. What is kept beside them lies in outputs/.history: the index, which can be built anew from
them at any time; favourites and tags; small pictures; the trash. Several processes may work on one folder.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import BadRequest, LoomError, OutputError
from core.history import companion
from core.history.index import Index
from core.history.notes import Note, Notes, cleaned
from core.history.query import Query
from core.history.scan import OWN, TRASH, Folder, changed, facts

__all__ = ["Entry", "History", "Note", "Query", "noticed", "of"]

log = logging.getLogger(__name__)

MOST = 500  # entries of one answer
KEPT_DAYS = 30  # that a deleted picture stays in the trash
_BATCH = 100  # pictures that are written at once
_COLUMNS = ("file", "folder", "place", "stamp", "bytes", "made", "width", "height", "prompt", "negative", "model",
            "sampler", "seed", "steps", "regions", "program", "deleted")
_UPSERT = (f"INSERT INTO pictures ({', '.join(_COLUMNS)}, favourite) VALUES ({', '.join('?' * (len(_COLUMNS) + 1))}) "
           f"ON CONFLICT (file) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _COLUMNS[1:])} RETURNING id")


class Entry(NamedTuple):
    """A picture in the history."""

    id: int  # until the index is built anew
    file: str  # below the outputs folder
    place: str  # the same, or where it was before it was deleted
    stamp: int  # ns: the file's time
    bytes: int
    made: float  # as time.time() counts
    width: int  # pixels
    height: int
    prompt: str
    negative: str
    model: str
    sampler: str
    seed: int | None
    steps: int | None
    regions: int  # how many
    program: str  # "" when it does not say how it was made
    favourite: bool
    deleted: float | None
    tags: tuple[str, ...] = ()


class History:
    """outputs: the folder. Raises nothing for one that cannot be written: `note` says so then."""

    def __init__(self, outputs: Path):
        self.outputs = Path(outputs).resolve()
        self.folder = self.outputs / OWN
        self.notes = Notes(self.folder / "notes.json")
        self._scanning = threading.RLock()  # a scan that finds the index damaged scans again
        self._stop = threading.Event()
        self._background: threading.Thread | None = None
        self.index = Index(self.folder / "index.sqlite", self.scan)

    @property
    def note(self) -> str:
        """One line on what does not work here, or nothing."""
        return self.index.note

    # -- finding

    def search(self, query: Query | None = None, offset: int = 0, count: int = 100) -> tuple[int, list[Entry]]:
        """(how many there are, `count` of them from the `offset`th on), newest first. Raises BadRequest."""
        for name, number in (("offset", offset), ("count", count)):
            if isinstance(number, bool) or not isinstance(number, int) or abs(number) >= 2**63:
                raise BadRequest(f"The {name} must be a whole number, not {ascii(number)[:40]}.")
        where, given = (query or Query()).sql(self.index.has_fts)
        total = self.index.read(f"SELECT count(*) FROM pictures WHERE {where}", given)[0][0]
        rows = self.index.read(f"SELECT * FROM pictures WHERE {where} ORDER BY made DESC, file DESC LIMIT ? OFFSET ?",
                               [*given, min(max(count, 0), MOST), max(offset, 0)])
        return total, self._entries(rows)

    def get(self, identity: int) -> Entry:
        """Raises BadRequest for one that is not there any more."""
        rows = self.index.read("SELECT * FROM pictures WHERE id = ?", [identity])
        if not rows:
            raise BadRequest("This picture is not in the history any more: search anew.")
        return self._entries(rows)[0]

    def path(self, entry: Entry) -> Path:
        """Its file. Raises BadRequest when that is gone."""
        path = self.outputs / entry.file
        if not path.is_file():
            raise BadRequest(f"{entry.place} is not in the outputs folder any more: search anew.")
        return path

    def choices(self) -> dict[str, list[str]]:
        """What can be searched for: models, samplers and tags, the most frequent first."""
        found = {f"{column}s": [row[0] for row in self.index.read(
            f"SELECT {column} FROM pictures WHERE deleted IS NULL AND {column} != '' GROUP BY {column} "
            f"ORDER BY count(*) DESC, {column} LIMIT 200")] for column in ("model", "sampler")}
        tags = self.index.read("SELECT tag FROM tags JOIN pictures ON id = picture WHERE deleted IS NULL GROUP BY tag "
                               "ORDER BY count(*) DESC, tag LIMIT 200")
        return {**found, "tags": [row[0] for row in tags]}

    def skipped(self) -> list[str]:
        """A line for each file that could not be read."""
        return [row["why"] for row in self.index.read("SELECT why FROM skipped ORDER BY file")]

    def _entries(self, rows: Sequence[sqlite3.Row]) -> list[Entry]:
        tags: dict[int, list[str]] = {}
        if rows:
            marks = ", ".join("?" * len(rows))
            for row in self.index.read(f"SELECT * FROM tags WHERE picture IN ({marks}) ORDER BY rowid",
                                       [row["id"] for row in rows]):
                tags.setdefault(row["picture"], []).append(row["tag"])
        return [Entry(**{**{name: row[name] for name in Entry._fields[:-1]}, "favourite": bool(row["favourite"])},
                      tags=tuple(tags.get(row["id"], ()))) for row in rows]

    # -- keeping up with the folder

    def add(self, path: Path) -> None:
        """A picture that was saved just now. Raises LoomError, OSError."""
        file = path.resolve().relative_to(self.outputs).as_posix()
        found = path.stat()
        self._write([self._facts(file, found.st_mtime_ns, found.st_size)], [])

    def refresh(self, patience: float = 0.3) -> bool:
        """Look into the folder, in the background; whether that still goes on after `patience` seconds."""
        if self._background is None or not self._background.is_alive():
            self._background = threading.Thread(target=self._scan_quietly, name="history", daemon=True)
            self._background.start()
        self._background.join(patience)
        return self._background.is_alive()

    def scan(self) -> None:
        """Take in what appeared and let go of what vanished. Raises OutputError."""
        with self._scanning:
            if self.index.fresh:
                self.index.fresh = False
                log.info("the index of pictures is being built")
            known = {row["folder"]: row["stamp"] for row in self.index.read("SELECT * FROM folders")}
            for row in self.index.read("SELECT * FROM skipped"):  # a copy may have been under way
                if _mark(self.outputs / row["file"]) != (row["stamp"], row["bytes"]):
                    known.pop(row["folder"], None)
            gone: set[str] = set()
            for folder in changed(self.outputs, known, gone):
                if self._stop.is_set():
                    return
                self._take(folder)
            for place in gone:
                self.index.write(lambda db, place=place: [  # type: ignore[misc]
                    db.execute(f"DELETE FROM {table} WHERE folder = ?", [place])
                    for table in ("pictures", "skipped", "folders")])

    def rebuild(self) -> int:
        """The index anew from the pictures; how many there are. Raises OutputError."""
        with self._scanning:
            self.index.clear()
        self.scan()
        return int(self.index.read("SELECT count(*) FROM pictures")[0][0])

    def close(self) -> None:
        """Lets go of the file."""
        self._stop.set()
        if self._background:
            self._background.join()
        self.index.close()

    def _scan_quietly(self) -> None:
        try:
            self.scan()
            self.empty_trash(KEPT_DAYS)
        except LoomError as error:
            log.warning("%s", error)
        except sqlite3.ProgrammingError:  # closed meanwhile
            pass

    def _take(self, folder: Folder) -> None:
        """What is new or changed in a folder into the index, what is gone out of it."""
        kept = self.index.read("SELECT file, stamp, bytes FROM pictures WHERE folder = ? UNION ALL "
                               "SELECT file, stamp, bytes FROM skipped WHERE folder = ?", [folder.place] * 2)
        known = {row["file"]: (row["stamp"], row["bytes"]) for row in kept}
        here = {f"{folder.place}/{name}" if folder.place else name: mark for name, mark in folder.files.items()}
        new = [(file, mark) for file, mark in here.items() if known.get(file) != mark]
        for start in range(0, len(new), _BATCH):
            if self._stop.is_set():
                return
            found = [self._facts(file, *mark) for file, mark in new[start:start + _BATCH]]
            self._write([one for one in found if "why" not in one], [one for one in found if "why" in one])

        def finish(db: sqlite3.Connection) -> None:
            for file in set(known) - set(here):
                if (self.outputs / file).exists():  # another process saved it after this one had looked
                    continue
                db.execute("DELETE FROM pictures WHERE file = ?", [file])
                db.execute("DELETE FROM skipped WHERE file = ?", [file])
            db.execute("REPLACE INTO folders VALUES (?, ?)", [folder.place, folder.stamp])

        self.index.write(finish)

    def _facts(self, file: str, stamp: int, size: int) -> dict[str, Any]:
        """The columns of a picture, or of a file that is skipped, which is said once."""
        try:
            return facts(self.outputs, file, stamp, size)
        except LoomError as error:
            log.warning("History passes over a file. %s", error)
            return {"file": file, "folder": file.rpartition("/")[0], "stamp": stamp, "bytes": size, "why": str(error)}

    def _write(self, found: list[dict[str, Any]], skipped: list[dict[str, Any]]) -> None:
        found, skipped = [one for one in found if "why" not in one], skipped + [one for one in found if "why" in one]

        def work(db: sqlite3.Connection) -> None:
            notes = self.notes.read()  # inside the transaction: another process may be writing them
            by_name = {Path(place).name: note for place, note in notes.items() if not (self.outputs / place).exists()}
            for one in found:
                note = notes.get(one["place"]) or by_name.get(Path(one["place"]).name) or Note()  # it may have moved
                row = db.execute(_UPSERT, [*(one[name] for name in _COLUMNS), note.favourite]).fetchone()
                db.execute("DELETE FROM skipped WHERE file = ?", [one["file"]])
                _set_tags(db, row["id"], note.tags)
            for one in skipped:
                db.execute("DELETE FROM pictures WHERE file = ?", [one["file"]])
                db.execute("REPLACE INTO skipped VALUES (?, ?, ?, ?, ?)",
                           [one[name] for name in ("file", "folder", "stamp", "bytes", "why")])

        self.index.write(work)

    # -- what people do with pictures

    def mark(self, identity: int, favourite: bool | None = None, tags: Iterable[object] | None = None) -> Entry:
        """Set the favourite or the tags of a picture; None leaves them. Raises BadRequest, OutputError."""
        self._writable()
        entry = self.get(identity)
        note = Note(entry.favourite if favourite is None else bool(favourite),
                    entry.tags if tags is None else cleaned(tags))

        def work(db: sqlite3.Connection) -> None:  # inside the transaction, so that processes take turns
            # by its file: an index that had to be built anew in between has given it another id
            row = db.execute("UPDATE pictures SET favourite = ? WHERE file = ? RETURNING id",
                             [note.favourite, entry.file]).fetchone()
            if row:
                _set_tags(db, row["id"], note.tags)
            self._note({entry.place: note})

        self.index.write(work)
        return entry._replace(favourite=note.favourite, tags=note.tags)

    def delete(self, identity: int) -> Entry:
        """Move a picture to the trash; `restore` brings it back. Raises BadRequest, OutputError."""
        self._writable()
        entry = self.get(identity)
        if entry.deleted is not None:
            return entry
        path, moment = self.path(entry), int(time.time() * 1000)
        file = f"{TRASH}/{moment}/{entry.place}"
        deleted = self._move(entry, path, file, moment / 1000)
        companion.leaves(self.outputs, entry.place, moment)
        return deleted

    def restore(self, identity: int) -> Entry:
        """Bring a deleted picture back to its place. Raises BadRequest, OutputError."""
        self._writable()
        entry = self.get(identity)
        if entry.deleted is None:
            return entry
        if (self.outputs / entry.place).exists():
            raise BadRequest(f"There is another picture at {entry.place} now: rename that one first.")
        back = self._move(entry, self.path(entry), entry.place, None)
        companion.comes_back(self.outputs, entry.place)
        self._tidy(self.outputs / entry.file)
        return back

    def empty_trash(self, days: float = 0) -> int:
        """Delete for good what has been in the trash for so many days; how many files. Raises OutputError."""
        if self.index.note:
            return 0
        rows = self.index.read("SELECT * FROM pictures WHERE deleted <= ?", [time.time() - days * 86400])
        for entry in self._entries(rows):
            try:
                (self.outputs / entry.file).unlink(missing_ok=True)
                self.thumb_path(entry).unlink(missing_ok=True)
                companion.goes_for_good(self.outputs, entry.file)
            except OSError as error:
                raise OutputError(f"{entry.file} cannot be deleted ({error.strerror}): delete it by hand.") from error
            self._tidy(self.outputs / entry.file)

        def work(db: sqlite3.Connection) -> None:
            for row in rows:
                db.execute("DELETE FROM pictures WHERE file = ?", [row["file"]])
            gone = {row["place"] for row in rows if not (self.outputs / row["place"]).exists()}
            if gone & set(self.notes.read()):
                self._note(dict.fromkeys(gone))

        if rows:
            self.index.write(work)
        return len(rows)

    def thumb_path(self, entry: Entry) -> Path:
        """Where its small picture is kept; see core/history/thumbs.py."""
        from core.history.thumbs import name

        return self.folder / "thumbs" / name(entry)

    def _move(self, entry: Entry, path: Path, file: str, deleted: float | None) -> Entry:
        """The file first: should the index not follow, the next look into the folder finds it."""
        target = self.outputs / file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
        except OSError as error:
            raise OutputError(f"{entry.place} cannot be moved ({error.strerror}): nothing was changed.") from error

        def work(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM pictures WHERE file = ?", [entry.file]).fetchone():
                db.execute("DELETE FROM pictures WHERE file = ?", [file])
                db.execute("UPDATE pictures SET file = ?, folder = ?, deleted = ? WHERE file = ?",
                           [file, file.rpartition("/")[0], deleted, entry.file])
            else:  # another process has seen the move already
                db.execute("UPDATE pictures SET deleted = ? WHERE file = ?", [deleted, file])

        self.index.write(work)
        return entry._replace(file=file, deleted=deleted)

    def _tidy(self, path: Path) -> None:
        """Empty folders of the trash go."""
        for folder in path.parents:
            if folder == self.outputs / TRASH or not folder.is_relative_to(self.outputs / TRASH):
                return
            try:
                folder.rmdir()
            except OSError:
                return

    def _note(self, changes: dict[str, Note | None]) -> None:
        try:
            self.notes.write(changes)
        except OSError as error:
            raise OutputError(f"Favourites and tags cannot be written to {self.notes.path} ({error.strerror}): free "
                              "some space.") from error

    def _writable(self) -> None:
        if self.index.note:
            raise OutputError(self.index.note)


def _set_tags(db: sqlite3.Connection, identity: int, tags: Sequence[str]) -> None:
    db.execute("DELETE FROM tags WHERE picture = ?", [identity])
    db.executemany("INSERT INTO tags VALUES (?, ?)", [(identity, tag) for tag in tags])


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    except OSError:
        return None


_known: dict[Path, History] = {}
_lock = threading.Lock()


def of(outputs: Path) -> History:
    """The history of a folder: one for each, in a process."""
    place = Path(outputs).resolve()
    with _lock:
        if place not in _known:
            _known[place] = History(place)
        return _known[place]


def noticed(path: Path, outputs: Path) -> None:
    """A picture was saved. A disk that refuses costs its entry for now, never the picture: the next look finds it."""
    try:
        if path.resolve().is_relative_to(Path(outputs).resolve()):
            of(outputs).add(path)
    except (LoomError, OSError, sqlite3.Error) as error:
        log.warning("%s is not in the history yet: %s", path.name, error)
