"""The SQLite index over the pictures in the outputs folder. It may be lost at any time: they are the truth.

It lies in outputs/.history/index.sqlite. One that is damaged, or of another version of this table, is thrown away and
built anew; one that cannot be written is kept in memory, and `note` says so.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from core.errors import OutputError

log = logging.getLogger(__name__)

VERSION = 3  # of the tables
PATIENCE = 10  # seconds that another process may hold the index
_TABLES = """
CREATE TABLE pictures (
  id INTEGER PRIMARY KEY AUTOINCREMENT, file TEXT NOT NULL UNIQUE, folder TEXT NOT NULL, place TEXT NOT NULL,
  stamp INTEGER NOT NULL, bytes INTEGER NOT NULL, made REAL NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
  prompt TEXT NOT NULL, negative TEXT NOT NULL, model TEXT NOT NULL, sampler TEXT NOT NULL, seed INTEGER, steps INTEGER,
  regions INTEGER NOT NULL, program TEXT NOT NULL,
  favourite INTEGER NOT NULL DEFAULT 0, deleted REAL);
CREATE INDEX newest ON pictures (made DESC, file DESC);
CREATE INDEX folders_of ON pictures (folder);
CREATE INDEX models ON pictures (model);
CREATE INDEX samplers ON pictures (sampler);
CREATE TABLE tags (picture INTEGER NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (picture, tag));
CREATE INDEX by_tag ON tags (tag);
CREATE TRIGGER untag AFTER DELETE ON pictures BEGIN DELETE FROM tags WHERE picture = old.id; END;
CREATE TABLE skipped (file TEXT PRIMARY KEY, folder TEXT NOT NULL, stamp INTEGER NOT NULL, bytes INTEGER NOT NULL,
  why TEXT NOT NULL);
CREATE TABLE folders (folder TEXT PRIMARY KEY, stamp INTEGER NOT NULL);
"""
_WORDS = """
CREATE VIRTUAL TABLE words USING fts5(prompt, negative, content='pictures', content_rowid='id', tokenize='unicode61');
CREATE TRIGGER words_in AFTER INSERT ON pictures BEGIN
  INSERT INTO words(rowid, prompt, negative) VALUES (new.id, new.prompt, new.negative); END;
CREATE TRIGGER words_out AFTER DELETE ON pictures BEGIN
  INSERT INTO words(words, rowid, prompt, negative) VALUES ('delete', old.id, old.prompt, old.negative); END;
CREATE TRIGGER words_anew AFTER UPDATE OF prompt, negative ON pictures BEGIN
  INSERT INTO words(words, rowid, prompt, negative) VALUES ('delete', old.id, old.prompt, old.negative);
  INSERT INTO words(rowid, prompt, negative) VALUES (new.id, new.prompt, new.negative); END;
"""
# sqlite's primary result codes: https://sqlite.org/rescode.html
_READONLY, _CANTOPEN = 8, 14
_DAMAGED = (11, 26)  # CORRUPT, NOTADB
_MOVED = 1032  # READONLY_DBMOVED: somebody deleted the file

T = TypeVar("T")


class Index:
    """path: of the file. rebuild: called, without the lock, when an index that was in use had to be thrown away."""

    def __init__(self, path: Path, rebuild: Callable[[], None]):
        self.path, self.note, self.fresh = path, "", False
        self._rebuild = rebuild
        self._lock = threading.RLock()
        self.has_fts = True
        self._db = self._open()

    # -- reading and writing

    def read(self, sql: str, given: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return self._do(lambda db: db.execute(sql, given).fetchall())

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In one transaction, which waits for that of another process. Raises OutputError when the disk refuses."""
        def transaction(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            try:
                done = work(db)
                db.execute("COMMIT")
                return done
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

        return self._do(transaction)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        for attempt in (1, 2):
            try:
                with self._lock:
                    return work(self._db)
            except sqlite3.DatabaseError as error:
                code = getattr(error, "sqlite_errorcode", 0)
                damaged = code & 0xFF in _DAMAGED or code == _MOVED or "no such table" in str(error)
                if attempt == 2 or not (damaged or code & 0xFF in (_READONLY, _CANTOPEN)):
                    raise OutputError(f"The index of pictures cannot be used now ({error}): free some space, or try "
                                      "again.") from error
                if damaged:
                    self._renew(f"is damaged ({error})")
                else:
                    self._to_memory(error)
            self._rebuild()
        raise AssertionError("the second attempt returns or raises")

    def clear(self) -> None:
        """Throw it away and begin anew."""
        with self._lock:
            self._db.close()
            self._db = self._make()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # -- the file

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                return self._make(instead=False)
            db = None
            try:
                db = _connect(self.path)
                version = db.execute("PRAGMA user_version").fetchone()[0]
                sound = db.execute("PRAGMA quick_check(1)").fetchone()[0]
                self.has_fts = bool(db.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchall())
                why = "" if sound == "ok" else f"is damaged ({sound})"
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in (_READONLY, _CANTOPEN):
                    raise
                version, why = VERSION, f"is damaged ({error})"
            if db and version == VERSION and not why:
                return _checked(db)
            if db:
                db.close()
            log.warning("The index of pictures %s: it is built anew from the pictures.",
                        why or f"is of version {version}, not {VERSION}")
            return self._make()
        except (OSError, sqlite3.Error) as error:
            return self._in_memory(error)

    def _make(self, instead: bool = True) -> sqlite3.Connection:
        """A new, empty index, in one piece: another process sees it whole or not at all.

        instead: of what is there, if anything; else that of a process that was quicker is taken.
        """
        if self.note:
            return self._in_memory(None)
        with tempfile.TemporaryDirectory(prefix="new-", dir=self.path.parent) as folder:
            new = Path(folder) / self.path.name
            db = _connect(new)
            self._fill(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.close()
            if instead or not self.path.exists():
                for tail in ("-wal", "-shm"):  # of one that is gone
                    self.path.with_name(self.path.name + tail).unlink(missing_ok=True)
                if instead:
                    new.replace(self.path)
                else:
                    _unless_there(new, self.path)
        return _connect(self.path)

    def _fill(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        for statement in _statements(_TABLES):
            db.execute(statement)
        db.execute("SAVEPOINT words")
        try:
            for statement in _statements(_WORDS):
                db.execute(statement)
        except sqlite3.OperationalError:  # built without FTS5: the texts themselves are searched
            db.execute("ROLLBACK TO words")
        db.execute("RELEASE words")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
        self.has_fts = bool(db.execute("SELECT 1 FROM sqlite_master WHERE name = 'words_anew'").fetchall())
        self.fresh = True

    def _renew(self, why: str) -> None:
        with self._lock:
            log.warning("The index of pictures %s: it is built anew from the pictures.", why)
            self._db.close()
            try:
                self._db = self._make()
            except (OSError, sqlite3.Error) as error:
                self._db = self._in_memory(error)

    def _to_memory(self, error: Exception) -> None:
        with self._lock:
            self._db.close()
            self._db = self._in_memory(error)

    def _in_memory(self, error: Exception | None) -> sqlite3.Connection:
        if error:
            why = getattr(error, "strerror", None) or error
            self.note = (f"The index of pictures cannot be written to {self.path.parent} ({why}): it is in memory "
                         "only, and favourites, tags and deleting wait for a folder that can be written.")
            log.warning("%s", self.note)
        db = _connect(":memory:")
        self._fill(db)
        return db


def _connect(path: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA synchronous = NORMAL")  # with WAL: a power cut may cost the last entries, never the index
    return db


def _unless_there(new: Path, path: Path) -> None:
    """`new` at a path where nothing is yet; what another process has put there meanwhile stays."""
    try:
        path.hardlink_to(new)
    except FileExistsError:
        pass
    except OSError:  # a disk without links
        new.replace(path)


def _checked(db: sqlite3.Connection) -> sqlite3.Connection:
    """One that can be written, too."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")
    return db


def _statements(script: str) -> Iterator[str]:
    """`executescript` would commit first."""
    held = ""
    for line in script.strip().splitlines():
        held += line + "\n"
        if sqlite3.complete_statement(held):
            yield held
            held = ""
