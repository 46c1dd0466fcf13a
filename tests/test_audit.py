"""What looks at the code and its packages: secrets in files, known vulnerabilities, the list of what vsat is made of."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
ADVISORY = """
id: PYSEC-2026-1
modified: 2026-01-02T00:00:00Z
published: 2026-01-01T00:00:00Z
details: it lets everyone in
affected:
- package: {name: Odd_Package, ecosystem: PyPI}
  ranges:
  - type: ECOSYSTEM
    events: [{introduced: '1.2'}, {fixed: '1.4.1'}, {introduced: '2.0rc1'}, {last_affected: '2.1'}]
  - type: GIT
    events: [{introduced: '0'}]
  versions: ['0.9']
"""


def module(name: str) -> ModuleType:
    """A script of infra/."""
    spec = importlib.util.spec_from_file_location(f"infra_{name}", ROOT / "infra" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(("version", "is_bad"), [
    ("0.8", False), ("0.9", True), ("1.1.9", False), ("1.2", True), ("1.4", True), ("1.4.1", False), ("1.10", False),
    ("2.0rc1", True), ("2.0", True), ("2.1", True), ("2.1.1", False), ("3", False),
])  # fmt: skip
def test_an_advisory_is_about_its_versions(tmp_path: Path, version: str, is_bad: bool) -> None:
    (tmp_path / "one.yaml").write_text(ADVISORY)
    audit = module("audit")
    (advisory,) = audit.read_advisories(tmp_path)["odd-package"]
    assert audit.is_affected(advisory, "odd-package", version) == is_bad
    assert not audit.is_affected(advisory, "another", version)


def test_a_vulnerable_pin_is_named_and_a_sound_one_passes(tmp_path: Path) -> None:
    pytest.importorskip("pip_audit", reason="pip-audit is not installed (extra audit)")
    (tmp_path / "vulns").mkdir()
    (tmp_path / "vulns" / "one.yaml").write_text(ADVISORY)

    def said(pins: str, advisories: Path) -> tuple[int, str]:
        (tmp_path / "lock").write_text(pins)
        command = [
            sys.executable,
            str(ROOT / "infra" / "audit.py"),
            "--advisories",
            str(advisories),
            "--lock",
            str(tmp_path / "lock"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        return done.returncode, done.stdout + done.stderr

    code, text = said("odd-package==2.0\nanother==1.0\n", tmp_path / "vulns")
    assert code == 1 and "PYSEC-2026-1" in text and "another" not in text, text
    code, text = said("odd-package==2.2\n", tmp_path / "vulns")
    assert code == 0 and "No known vulnerabilities" in text, text
    assert said("odd-package==2.0\n", tmp_path / "none")[0] == 2  # nothing to ask is no good outcome


def test_a_new_secret_in_a_file_is_told_and_an_accepted_one_may_move(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("detect_secrets", reason="detect-secrets is not installed (extra audit)")
    scan = module("scan_secrets")
    secret = "".join(["gh", "p_", "0123456789abcdefABCDEF0123456789abcd"])
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("left.txt\n")
    (tmp_path / "left.txt").write_text(f"token = '{secret}'\n")
    (tmp_path / "clean.txt").write_text("token = os.environ['TOKEN']\n")
    assert scan.main(tmp_path) == 0
    (tmp_path / "new.txt").write_text(f"\ntoken = '{secret}'\n")
    assert scan.main(tmp_path) == 1
    said = capsys.readouterr()
    assert "new.txt:2" in said.out and secret not in said.out + said.err
    assert scan.main(tmp_path, accept=True) == 0
    kept = (tmp_path / ".secrets.baseline").read_text()
    assert "new.txt" in kept and secret not in kept and str(tmp_path) not in kept
    (tmp_path / "new.txt").write_text(f"\n\n\ntoken = '{secret}'\n")
    assert scan.main(tmp_path) == 0
    (tmp_path / "new.txt").write_text(f"token = '{secret[:-1]}z'\n")
    assert scan.main(tmp_path) == 1


def test_the_list_of_what_vsat_is_made_of_has_every_pin(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed (extra audit)")
    recipe = re.search(r"cyclonedx-py (requirements .*) --output-file", (ROOT / "Makefile").read_text())
    assert recipe is not None
    command = [sys.executable, "-m", "cyclonedx_py", *recipe[1].split(), "--output-file", str(tmp_path / "sbom.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)
    told = json.loads((tmp_path / "sbom.json").read_text())
    assert told["bomFormat"] == "CycloneDX" and told["metadata"]["component"]["name"] == "vsat"
    pins = {
        tuple(line.split("==")) for line in LOCK.read_text().splitlines() if "==" in line and not line.startswith("#")
    }
    assert {(one["name"], one["version"]) for one in told["components"]} == pins and len(pins) > 300


def test_what_audits_is_pinned_exactly() -> None:
    import tomllib

    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["audit"]
    assert len(extra) == 4 and all(re.fullmatch(r"[a-z-]+==[\d.]+", pin) for pin in extra)
    assert "audit]" in (ROOT / "infra" / "lock.sh").read_text()
