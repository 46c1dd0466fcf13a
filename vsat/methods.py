"""The names of the methods that fill gaps."""

import re

from vsat.errors import InputError

CLASSICAL = (
    "nearest", "linear", "whittaker", "harmonic", "blend",
    "nearest+scene", "linear+scene", "whittaker+scene", "harmonic+scene", "blend+scene",
)  # fmt: skip
ANYDATE = "anydate"  # the model that comes with the package; "anydate:" and a folder or hub id for another checkpoint
METHODS = (*CLASSICAL, ANYDATE)
BEST_CLASSICAL = "blend+scene"
DEFAULT_METHOD = ANYDATE
METHOD_PATTERN = rf"^({'|'.join(name.replace('+', '[+]') for name in CLASSICAL)}|{ANYDATE}(:.+)?)$"


def is_trained(method: str) -> bool:
    """True for a method that is a model, False for a classical one.

    Raises:
        InputError: there is no such method.
    """
    if not re.match(METHOD_PATTERN, method):
        step = f"choose among {', '.join(METHODS)}, or anydate:FOLDER for a checkpoint of your own"
        raise InputError(f"unknown method {method!r}", place="method", next_step=step)
    return method.startswith(ANYDATE)
