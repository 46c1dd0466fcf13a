"""What the environment says."""

from pathlib import Path

import pytest

from vsat.errors import InputError
from vsat.settings import Settings, find_region


def test_an_empty_environment_has_defaults() -> None:
    found = Settings.from_environment({"VSAT_WORKERS": " ", "VSAT_REGIONS": ""})
    assert found.workers >= 1
    assert (found.dask_scheduler, found.regions) == ("", Path("regions"))


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAT_WORKERS", "3")
    monkeypatch.setenv("VSAT_DASK_SCHEDULER", "tcp://127.0.0.1:8786")
    monkeypatch.setenv("VSAT_REGIONS", "elsewhere")
    assert Settings.from_environment() == Settings(3, "tcp://127.0.0.1:8786", Path("elsewhere"))


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1025", "\u0663"])
def test_workers_are_a_number_of_threads(value: str) -> None:
    with pytest.raises(InputError, match="VSAT_WORKERS"):
        Settings.from_environment({"VSAT_WORKERS": value})


@pytest.mark.parametrize("value", ["127.0.0.1:8786", "tcp://me@host:1", "tcp://a b"])
def test_a_scheduler_has_an_address(value: str) -> None:
    with pytest.raises(InputError, match="VSAT_DASK_SCHEDULER"):
        Settings.from_environment({"VSAT_DASK_SCHEDULER": value})


def test_no_credentials_are_kept() -> None:
    assert "secret" not in repr(Settings.from_environment({"EARTHDATA_TOKEN": "secret"}))


def test_a_region_is_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "alps.yaml").write_text("name: alps\n")
    assert find_region("alps", tmp_path) == tmp_path / "alps.yaml"
    assert find_region("some/where.yaml", tmp_path) == Path("some/where.yaml")
    with pytest.raises(InputError, match="the regions there are: alps"):
        find_region("andes", tmp_path)
    with pytest.raises(InputError, match="the regions there are: none"):
        find_region("andes", tmp_path / "absent")
