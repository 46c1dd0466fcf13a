"""No file of the repository holds what looks like a secret, but for the made-up ones that .secrets.baseline lists.

    python infra/scan_secrets.py             ends with 1 and a list where there is another
    python infra/scan_secrets.py --accept    writes the list anew, after somebody has looked at each

detect-secrets' own hook also stumbles over a listed line that has moved; here the file and the secret's hash count.
"""

import json
import subprocess
import sys
from pathlib import Path

from detect_secrets import SecretsCollection
from detect_secrets.settings import default_settings

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / ".secrets.baseline"
# hashes of packages, sizes of files, weights and pictures: long numbers by nature
LEFT_OUT = (
    ".baseline",
    ".gz",
    ".ipynb",
    ".lock",
    ".nc",
    ".npz",
    ".pdf",
    ".png",
    ".safetensors",
    ".svg",
    "card.json",
    "item.json",
    "min.js",
)
Found = dict[tuple[str, str], str]


def scan(root: Path) -> SecretsCollection:
    """What git knows of, and what it would: nothing that is ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    found = SecretsCollection(str(root))
    with default_settings() as settings:
        settings.disable_filters("detect_secrets.filters.common.is_ignored_due_to_verification_policies")  # asks nobody
        for name in names:
            if not name.endswith(LEFT_OUT) and (root / name).is_file():
                found.scan_file(name)
    return found


def listed(found: dict[str, list[dict[str, object]]]) -> Found:
    """Where and what kind, by file and hash."""
    return {
        (name, str(one["hashed_secret"])): f"{name}:{one['line_number']}: {one['type']}"
        for name, several in found.items()
        for one in several
    }


def accepted(found: SecretsCollection) -> dict[str, list[dict[str, object]]]:
    """The list as it is kept: by file, without the whole path, which detect-secrets adds."""
    kept = ("type", "hashed_secret", "line_number")
    return {name: [{key: one[key] for key in kept} for one in several] for name, several in found.json().items()}


def main(root: Path = ROOT, *, accept: bool = False) -> int:
    """Print what is new; the exit code."""
    found = scan(root)
    known_at = root / BASELINE.name
    if accept:
        known_at.write_text(json.dumps(accepted(found), indent=1) + "\n", "utf-8")
        return 0
    known = listed(json.loads(known_at.read_text("utf-8"))) if known_at.is_file() else {}
    new = {key: place for key, place in listed(found.json()).items() if key not in known}
    for place in sorted(new.values()):
        print(place)
    if new:
        print(
            "a secret belongs into the environment; what is none: python infra/scan_secrets.py --accept",
            file=sys.stderr,
        )
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main(accept="--accept" in sys.argv[1:]))
