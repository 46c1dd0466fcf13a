"""Python imports this at its start where the folder is on PYTHONPATH: nothing that was written is gone before it is searched.

With WITNESS naming a folder, every command that this process starts is written there, and every file below WITNESS_OF
that is removed or replaced is kept there by another name.
"""

import itertools
import os
import sys
from typing import Any

_FOLDER, _ROOT = os.environ.get("WITNESS", ""), os.environ.get("WITNESS_OF", "")
_count = itertools.count()


def _hear(event: str, told: tuple[Any, ...]) -> None:
    try:
        if event == "os.remove":
            _keep(told[0], told[1])
        elif event == "os.rename":
            _keep(told[1], told[3])
        elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
            with open(f"{_FOLDER}/started-{os.getpid()}", "a", encoding="utf-8", errors="replace") as out:  # noqa: PTH123
                out.write(f"{told[:2]}\n")  # without the environment, where secrets belong
    except Exception:  # noqa: BLE001 - a witness takes no part: what it cannot keep must happen all the same
        return


def _keep(path: Any, folder: int) -> None:
    """A file that is about to go gets a second name; there may be none."""
    text = os.fsdecode(path)
    if not text.startswith("/"):
        text = f"{os.readlink(f'/proc/self/fd/{folder}') if folder >= 0 else os.getcwd()}/{text}"  # noqa: PTH109, PTH115
    if text.startswith(_ROOT) and not text.startswith(_FOLDER):
        os.link(text, f"{_FOLDER}/kept-{os.getpid()}-{next(_count)}", follow_symlinks=False)


if _FOLDER:
    sys.addaudithook(_hear)
