"""STAC items and the static catalogue: valid offline, walkable, and the same bytes for the same images."""

import json
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pystac_client
import pytest
import rustac
from images import DAY, image
from pystac.validation.local_validator import LocalValidator
from pystac_client.warnings import PystacClientWarning
from stac_schemas import extension_errors, validator_errors

from vsat.errors import StoreError
from vsat.io.publish import image_folder, publish
from vsat.io.stac import EXTENSIONS, write_catalogue

DAYS = (DAY, date(2024, 5, 12))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("region")
    for seed, day in enumerate(DAYS):
        publish(home, image(seed, day=day))
    write_catalogue(home, "small", [image_folder(home, "33UVP", day) for day in DAYS])
    return home


def item_at(home: Path, day: date) -> dict[str, Any]:
    folder = image_folder(home, "33UVP", day)
    item: dict[str, Any] = json.loads((folder / f"{folder.name}.json").read_text())
    return item


def test_items_are_valid_against_core_and_every_extension_they_name(home: Path) -> None:
    for day in DAYS:
        item = item_at(home, day)
        LocalValidator().item_validator().validate(item)
        assert tuple(item["stac_extensions"]) == EXTENSIONS
        assert extension_errors(item) == []


def test_stac_validator_accepts_every_file(home: Path, tmp_path: Path) -> None:
    root = home / "images"
    files = [root / "catalog.json", root / "33UVP" / "collection.json"]
    files += [folder / f"{folder.name}.json" for folder in (image_folder(home, "33UVP", day) for day in DAYS)]
    assert [error for file in files for error in validator_errors(file)] == []
    item = item_at(home, DAY)
    item["assets"]["red"]["file:size"] = "large"
    (tmp_path / "item.json").write_text(json.dumps(item))
    assert "large" in validator_errors(tmp_path / "item.json")[0]


def test_pystac_client_walks_the_catalogue(home: Path) -> None:
    with warnings.catch_warnings():  # a static catalogue has no conformance classes, and is walked by pystac
        warnings.simplefilter("ignore", PystacClientWarning)
        client = pystac_client.Client.open(str(home / "images" / "catalog.json"))
        found = [item.id for item in client.get_items(recursive=True)]
    assert found == [image_folder(home, "33UVP", day).name for day in DAYS]


def test_the_validation_can_fail(home: Path) -> None:
    item = item_at(home, DAY)
    item["properties"]["proj:code"] = 32633
    item["assets"]["red"]["file:size"] = "large"
    assert len(extension_errors(item)) >= 2
    item["properties"]["datetime"] = 5
    with pytest.raises(jsonschema.ValidationError):
        LocalValidator().item_validator().validate(item)


def test_catalogue_is_walkable_and_valid(home: Path) -> None:
    catalogue = pystac.Catalog.from_file(str(home / "images" / "catalog.json"))
    LocalValidator().catalog_validator().validate(json.loads((home / "images" / "catalog.json").read_text()))
    (collection,) = catalogue.get_children()
    LocalValidator().collection_validator().validate(
        json.loads((home / "images" / "33UVP" / "collection.json").read_text())
    )
    items = list(collection.get_items())
    assert [item.datetime.date() for item in items if item.datetime] == list(DAYS)
    assert all(Path(asset.get_absolute_href() or "").is_file() for item in items for asset in item.assets.values())


def test_item_says_status_sources_sizes_and_never_a_null_time(home: Path) -> None:
    item, folder = item_at(home, DAY), image_folder(home, "33UVP", DAY)
    told = item["properties"]
    assert told["datetime"] == "2024-05-02T00:00:00Z" and told["updated"] == "2024-08-01T00:00:00Z"
    assert told["vsat:status"] == "final" and told["proj:code"] == "EPSG:32633"
    assert (told["version"], told["deprecated"], told["experimental"]) == ("v1", False, False)
    assert [link["href"].rsplit("/", 1)[1] for link in item["links"] if link["rel"] == "derived_from"] == list(
        image().sources
    )
    for asset in item["assets"].values():
        assert (folder / asset["href"]).stat().st_size == asset["file:size"]
    assert {"blue", "nir08", "swir22_sd", "qa", "age", "src", "sr", "sd", "thumbnail"} <= item["assets"].keys()


def test_the_items_table_has_every_item_with_links_that_lead_on(home: Path) -> None:
    table = home / "images" / "33UVP" / "items.parquet"
    collection = pystac.Collection.from_file(str(table.with_name("collection.json")))
    (link,) = [link for link in collection.links if link.rel == "items"]
    assert link.get_absolute_href() == str(table)
    assert collection.assets["items"].roles == ["collection-mirror"]
    items = rustac.read_sync(str(table))["features"]
    assert [item["id"] for item in items] == [item_at(home, day)["id"] for day in DAYS]
    for item, day in zip(items, DAYS, strict=True):
        assert all((table.parent / asset["href"]).is_file() for asset in item["assets"].values())
        assert all((table.parent / link["href"]).is_file() for link in item["links"] if link["href"].startswith("."))
        plain = item_at(home, day)
        for key, asset in plain["assets"].items():
            told = item["assets"][key]
            assert told.pop("href").endswith(asset.pop("href")[1:]) and told == asset
        assert item["geometry"] == plain["geometry"] and item["properties"].keys() == plain["properties"].keys()


def test_a_table_holds_items_with_different_bands(tmp_path: Path) -> None:
    for seed, (day, bands) in enumerate(zip(DAYS, (("red", "nir"), ("blue", "green", "red")), strict=True)):
        publish(tmp_path, image(seed, day=day, bands=bands))
    write_catalogue(tmp_path, "small", [image_folder(tmp_path, "33UVP", day) for day in DAYS])
    first, second = rustac.read_sync(str(tmp_path / "images" / "33UVP" / "items.parquet"))["features"]
    assert "nir08" in first["assets"] and "nir08" not in {key for key, one in second["assets"].items() if one}


def test_writing_again_gives_the_same_bytes_and_a_lost_item_is_named(home: Path, tmp_path: Path) -> None:
    files = [home / "images" / "catalog.json"]
    files += [home / "images" / "33UVP" / name for name in ("collection.json", "items.parquet")]
    before = [path.read_bytes() for path in files]
    write_catalogue(home, "small", [image_folder(home, "33UVP", day) for day in reversed(DAYS)])
    assert [path.read_bytes() for path in files] == before
    with pytest.raises(StoreError, match="VSAT"):
        write_catalogue(tmp_path, "small", [image_folder(tmp_path, "33UVP", DAY)])
