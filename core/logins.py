"""Who may log in. Passwords are compared in constant time; a file keeps them as salted scrypt hashes."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from core.errors import StartError

MAX_NAME = 60  # characters
_MARK = "scrypt"
_COST = {"n": 2**14, "r": 8, "p": 1}  # RFC 7914's for interactive logins: about 0.05 s and 16 MiB a try
_NOBODY = f"{_MARK}$00$00"  # an unknown name takes as long as a known one


class Logins:
    """Called with a name and a password: whether they may come in. known: name -> what `hashed` made of a password."""

    def __init__(self, known: Mapping[str, str]):
        self._known = dict(known)

    @property
    def names(self) -> list[str]:
        return list(self._known)

    def __call__(self, name: str, password: str) -> bool:
        return matches(password, self._known.get(name, _NOBODY)) and name in self._known

    @classmethod
    def of(cls, given: Iterable[str], file: Path | None = None) -> Logins:
        """given: USER:PASS each. file: a line USER:HASH each. Raises StartError."""
        known: dict[str, str] = {}
        for pair in given:
            name, _, password = pair.partition(":")
            if not name or not password:
                raise StartError("--auth wants USER:PASS, both not empty.")
            _add(known, _checked(name), hashed(password))
        for number, line in enumerate(_lines(file) if file else (), 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, held = line.strip().partition(":")
            if not name or not held.startswith(_MARK + "$"):
                raise StartError(f"Line {number} of {file} is no login: add people with python app.py --auth-file "
                                 f"{file} --add-login USER.")
            _add(known, _checked(name), held)
        if not known:
            raise StartError(f"There is no login in {file}: add one with python app.py --auth-file {file} --add-login "
                             "USER.")
        return cls(known)


def hashed(password: str) -> str:
    """As a file keeps it: "scrypt$salt$hash", both in hexadecimal digits."""
    salt = secrets.token_bytes(16)
    return f"{_MARK}${salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_COST).hex()}"


def matches(password: str, held: str) -> bool:
    """Whether a password is the one that `hashed` was given."""
    try:
        _, salt, digest = held.split("$")
        made = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), dklen=32, **_COST)
        return hmac.compare_digest(made, bytes.fromhex(digest))
    except ValueError:
        return False


def add_login(name: str, file: Path | None, ask: Callable[[str], str] = getpass.getpass) -> None:
    """Write a login into a file that only its owner can read; one of the same name is replaced. Raises StartError."""
    if file is None:
        raise StartError("--add-login wants a file to write to: add --auth-file FILE.")
    password = ask(f"Password of {_checked(name)}: ")
    if not password or password != ask("Once more: "):
        raise StartError("The two passwords are not the same, or empty: nothing was changed.")
    kept = [line for line in (_lines(file) if file.exists() else []) if line.partition(":")[0] != name]
    try:
        draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write("\n".join([*kept, f"{name}:{hashed(password)}"]) + "\n")
        draft.replace(file)
    except OSError as error:
        raise StartError(f"{file} cannot be written ({error.strerror}): choose another place.") from None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The logins in {file} cannot be read ({getattr(error, 'strerror', None) or 'no text'}): name "
                         "a file that --add-login has written.") from None


def _checked(name: str) -> str:
    if ":" in name or not name.isprintable() or name != name.strip() or len(name) > MAX_NAME:
        raise StartError(f"{name[:40]!r} cannot be a login's name: take up to {MAX_NAME} letters without a colon.")
    return name


def _add(known: dict[str, str], name: str, held: str) -> None:
    twin = next((other for other in known if other.casefold() == name.casefold()), None)
    if twin is not None:  # folders of some disks do not tell them apart
        raise StartError(f"There are two logins named {twin!r} and {name!r}, whose folders could be the same: rename "
                         "one.")
    known[name] = held
