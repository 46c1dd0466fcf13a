#!/usr/bin/env bash
# Run the steps of infra/Dockerfile in order, without Docker, in a throw-away folder and a bare virtual environment.
# What only an image can do (system packages, users) is named and left out.
#
#   infra/try-dockerfile-steps.sh               everything is downloaded and installed: minutes, gigabytes
#   infra/try-dockerfile-steps.sh --here        the environment of $PYTHON stands for the finished one: pip only checks,
#                                               and asks no index
# ACCELERATOR and TORCH_INDEX are the build arguments of the Dockerfile; an empty TORCH_INDEX takes pip's own index.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3.11}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ "${1:-}" = --here ]; then
  venv=$("$python" -c 'import sys; print(sys.prefix)')
  export PIP_DRY_RUN=1 PIP_NO_INDEX=1
else
  venv=$folder/venv
fi
PIP_NO_CACHE_DIR=1 PIP_QUIET=1 exec_python=$python venv=$venv folder=$folder "$python" - infra/Dockerfile <<'PYTHON'
"""One instruction after the other; `shell` runs what RUN would, with the places of the image put where they are here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

folder, venv = Path(os.environ["folder"]), Path(os.environ["venv"])
work = folder / "vsat"
work.mkdir()
text = re.sub(r"^\s*#.*\n", "", Path(sys.argv[1]).read_text(), flags=re.M)
arguments: dict[str, str] = {}
only_image = re.compile(r"apt-get|useradd")


def placed(value: str) -> str:
    for there, here in (("/opt/venv", str(venv)), ("/opt/vsat", str(work)), ("/data", str(folder / "data"))):
        value = value.replace(there, here)
    return value


for line in text.replace("\\\n", " ").splitlines():
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word == "ARG":
        name, _, value = rest.partition("=")
        given = os.environ.get(name, value)
        arguments[name] = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], given)
    elif word == "COPY":
        *sources, target = rest.split()
        for source in sources:
            place = work / target / Path(source).name if target.endswith("/") else work / target
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if Path(source).is_dir() else shutil.copy
            copy(source, place)
    elif word == "RUN":
        if only_image.search(rest):
            print(f"left out  {rest[:100]}", flush=True)
            continue
        command = placed(rest)
        if os.environ.get("PIP_DRY_RUN"):
            command = re.sub(r"python -m venv \S+ && ", "", command)
        command = command.replace("python -m venv", f"{os.environ['exec_python']} -m venv")
        print(f"run       {rest[:100]}", flush=True)
        done = subprocess.run(["sh", "-euc", command], cwd=work, env=os.environ | arguments)
        if done.returncode:
            sys.exit(f"this step ended with {done.returncode}: {rest}")
print("every step is done")
PYTHON
