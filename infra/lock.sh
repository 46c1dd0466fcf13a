#!/usr/bin/env bash
# Print the exact versions that pyproject.toml resolves to today, torch's platform packages left out:
# which of them a machine needs follows from the torch build that it offers.
set -euo pipefail
python=${1:-python3.11}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
pip="$folder/venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install --requirement infra/pip.lock >&2
$pip install "$(grep -oE 'torch==[0-9.]+' pyproject.toml)" >&2
$pip install ".[model,test,docs,bench,dev,audit]" >&2
echo "# Made by 'make lock' from pyproject.toml. Do not edit."
$pip freeze --exclude vsat --exclude pip --exclude setuptools --exclude wheel |
  sed -E 's/^(torch==[0-9.]+)\+.*/\1/' | grep -vE '^(nvidia-|triton==|cuda-)'
