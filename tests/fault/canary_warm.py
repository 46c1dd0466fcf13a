"""A process that has imported what the verbs need, and forks itself for each: a verb then costs its work alone.

Each line on standard input is a run as JSON: words, environment, folder, out (a file for what it says). Each line of the
answer is its exit code. There is no thread here, so that a fork is a whole process.
"""

import json
import os
import sys
import tempfile
import traceback

import vsat.doctor
import vsat.operating
import vsat.stages.backfill
import vsat.stages.export
import vsat.stages.nightly
import vsat.stages.status  # noqa: F401 - all these for the children
from vsat.cli import main


def child(given: dict) -> int:
    """The verb, with an environment of its own; its exit code."""
    out = os.open(given["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(given["environment"])
    os.chdir(given["folder"])
    tempfile.tempdir = None  # the one of this environment
    sys.argv = ["vsat", *given["words"]]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would end
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os._exit(child(json.loads(line)))
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
