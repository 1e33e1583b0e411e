"""The tree of messages meant for people: one line that says what, why and the way out.

Everything a person can cause is a LoomError; anything else that is raised is our own mistake.
"""


class LoomError(Exception):
    """Base of all messages meant for people. `str(error)` is the one line to show."""

    field: str | None = None  # the Request field the message is about, if it is about one


class BadRequest(LoomError):
    """A Request that cannot be fulfilled as it is. `field` names the entry to mend."""

    def __init__(self, message: str, field: str | None = None):
        super().__init__(message)
        self.field = field


class ModelError(LoomError):
    """A model that is missing, broken, or not of a family we know."""

    field = "model"


class OutOfMemory(LoomError):
    """The device has less memory than this picture needs."""

    field = "width"


class OutputError(LoomError):
    """A picture or file that cannot be written."""


class TrajectoryError(LoomError):
    """The kept steps of a run cannot be read, or belong to something else."""


class StartError(LoomError):
    """The studio cannot start as asked (port in use, open host without login, ...)."""


def closest(name: str, known: list[str]) -> str:
    """`Did you mean 'X'?` for a near miss, else the list of known names (at most 12)."""
    from difflib import get_close_matches

    squash = {"".join(filter(str.isalnum, k.lower().replace("++", "pp"))): k for k in known}
    wanted = "".join(filter(str.isalnum, name.lower().replace("++", "pp")))
    near = get_close_matches(wanted, squash, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{squash[near[0]]}'?"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"Known: {shown}."
