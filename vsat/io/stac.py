"""STAC for virtual images: an item beside each, and a static catalogue over them. No clock: times come from the images."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import antimeridian
import numpy as np
from pyproj import Transformer
from shapely.geometry import Polygon, mapping

from vsat.core.grid import TileGrid
from vsat.core.quality import NONE
from vsat.errors import StoreError
from vsat.hls import COMMON_NAMES, FILL, RESOLUTION_M, SCALE, WAVELENGTH_UM
from vsat.io.durable import PARTIAL, unwritable, write_file
from vsat.io.items_table import ITEMS_TABLE, PARQUET_TYPE, items_table
from vsat.io.styles import ORIGIN_COLOURS, ORIGIN_WORDS
from vsat.objects import AT_ONCE, ObjectPath, StorePath

if TYPE_CHECKING:
    from vsat.io.publish import VirtualImage

STAC_VERSION = "1.1.0"
SCHEMAS = "https://stac-extensions.github.io"
EXTENSIONS = tuple(
    f"{SCHEMAS}/{name}/schema.json"
    for name in (
        "classification/v1.1.0",
        "eo/v2.0.0",
        "file/v2.1.0",
        "processing/v1.2.0",
        "projection/v2.0.0",
        "raster/v2.0.0",
        "version/v1.2.0",
    )
)
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
TYPES = {".tif": COG_TYPE, ".png": "image/png", ".vrt": "application/xml", ".qml": "application/xml"}
LPCLOUD = "https://cmr.earthdata.nasa.gov/stac/LPCLOUD/collections"
SHA256_MULTIHASH = "1220"  # multihash code of SHA-256 and its length
EDGE_POINTS = 5  # along each side of the footprint: a tile's edge bends by some metres in longitude and latitude

QA_FIELDS = (
    (0, 2, "origin", ("observed", "filled_near", "filled_far", "prior_only")),
    (2, 1, "extrapolated", ("no", "yes")),
    (3, 1, "snow", ("no", "yes")),
    (4, 1, "water", ("no", "yes")),
    (5, 1, "change_suspected", ("no", "yes")),
    (6, 1, "low_confidence", ("no", "yes")),
    (7, 1, "no_value", ("no", "yes")),
)


def item_json(image: "VirtualImage", files: Sequence[Path], *, below: str = "") -> bytes:
    """The STAC item of an image over its other files, as UTF-8 JSON; equal images and files give equal bytes.

    Args:
        image: the image.
        files: its other files, on a disk.
        below: where they lie beside the item, such as `revision/`.
    """
    return _dumped(_item(image, files, below))


def read_item(path: StorePath) -> dict[str, Any]:
    """An item as published.

    Raises:
        StoreError: it is missing or no JSON.
    """
    try:
        item: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            "there is no readable item", place=str(path), next_step="vsat verify, then generate again"
        ) from error
    return item


def write_catalogue(home: StorePath, region: str, folders: Sequence[StorePath]) -> None:
    """`images/catalog.json` leads to a collection per tile, and each to the items of its images; relative links only.

    Args:
        home: the region's folder.
        region: its name.
        folders: one per published image.

    Only one may write at a time.

    Raises:
        StoreError: an image's item cannot be read, or the disk is full.
    """
    try:
        _write_catalogue(home / "images", region, folders)
    except OSError as error:
        raise unwritable(error, "the catalogue of the images", home / "images") from error


def _write_catalogue(root: StorePath, region: str, folders: Sequence[StorePath]) -> None:
    if isinstance(root, Path):
        root.mkdir(parents=True, exist_ok=True)
        for pattern in (f"*{PARTIAL}", f"*/*.json.*{PARTIAL}", f"*/{ITEMS_TABLE}.*{PARTIAL}"):  # of a killed writer
            for left in root.glob(pattern):
                left.unlink(missing_ok=True)
    for path, content in catalogue_files(root, region, folders):
        write_file(path, [content])


def catalogue_files(root: StorePath, region: str, folders: Sequence[StorePath]) -> Iterator[tuple[StorePath, bytes]]:
    """Place and content of every file of the catalogue below `root`, `images/catalog.json` last. Arguments as above.

    Raises:
        StoreError: an image's item cannot be read.
    """
    tiles = []
    for tile, members in groupby(sorted(folders), key=lambda folder: folder.parent.name):
        items = _read_items([folder / f"{folder.name}.json" for folder in members])
        yield root / tile / ITEMS_TABLE, items_table(items)
        yield root / tile / "collection.json", _dumped(_collection(region, tile, items))
        tiles.append(tile)
    catalogue = {
        "type": "Catalog", "stac_version": STAC_VERSION, "id": f"vsat-{region}", "title": f"Virtual images of {region}",
        "description": f"Cloud-free reflectance with its uncertainty for region {region}.",
        "links": [_link("root", "catalog.json"), *(_link("child", f"{tile}/collection.json") for tile in tiles)],
    }  # fmt: skip
    yield root / "catalog.json", _dumped(catalogue)


def _read_items(paths: Sequence[StorePath]) -> list[dict[str, Any]]:
    if not any(isinstance(path, ObjectPath) for path in paths):
        return [read_item(path) for path in paths]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(read_item, paths))


def _item(image: "VirtualImage", files: Sequence[Path], below: str) -> dict[str, Any]:
    footprint, bbox = _footprint(image.grid)
    day, asof = image.day.isoformat(), f"{image.asof.isoformat()}T00:00:00Z"
    return {
        "type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": list(EXTENSIONS), "id": image.name,
        "geometry": footprint, "bbox": bbox, "collection": f"vsat-T{image.grid.tile}",
        "properties": {
            "datetime": f"{day}T00:00:00Z", "start_datetime": f"{day}T00:00:00Z", "end_datetime": f"{day}T23:59:59Z",
            "created": asof, "updated": asof, "gsd": RESOLUTION_M,
            # provisional: it will be rewritten under the same name, once, when it can be final
            "version": image.name.rpartition(".")[2], "deprecated": False, "experimental": image.status == "provisional",
            "proj:code": f"EPSG:{image.grid.epsg}", "proj:shape": list(image.grid.shape),
            "proj:transform": list(image.grid.transform)[:6],
            "processing:level": "L4", "processing:lineage": f"vsat, {image.method}, from HLS L30 and S30",
            "vsat:status": image.status, "vsat:method": image.method,
            "vsat:sources": list(image.sources), "vsat:facts": image.facts,
        },
        "links": [
            _link("root", "../../catalog.json"), _link("parent", "../collection.json"), _link("collection", "../collection.json"),
            *({"rel": "derived_from", "href": _source_href(name), "type": "application/geo+json"} for name in image.sources),
            *_predecessor(image),
        ],
        "assets": {_key(path, image.name): _asset(path, image.name, below) for path in files},
    }  # fmt: skip


def _predecessor(image: "VirtualImage") -> list[dict[str, str]]:
    """The image that a later version stands beside; the collection lists the newest version of a date only."""
    if image.version == 1:
        return []
    before = f"{image.name.rpartition('.')[0]}.v{image.version - 1}"
    return [_link("predecessor-version", f"../{before}/{before}.json", "application/geo+json")]


def _key(path: Path, name: str) -> str:
    """Asset key of a file: `red`, `qa`, `sr`; the preview's is `thumbnail`, a style's `qa_style`."""
    layer = path.name.removeprefix(f"{name}.").removesuffix(path.suffix)
    return {".png": "thumbnail", ".qml": f"{layer}_style"}.get(path.suffix, layer)


def _asset(path: Path, name: str, below: str) -> dict[str, Any]:
    content = path.read_bytes()
    asset: dict[str, Any] = {
        "href": f"./{below}{path.name}",
        "type": TYPES[path.suffix],
        "file:size": len(content),
        "file:checksum": SHA256_MULTIHASH + hashlib.sha256(content).hexdigest(),
    }
    key = _key(path, name)
    if path.suffix == ".png":
        return asset | {"roles": ["thumbnail"], "title": "true colour; hatched where prior only"}
    if path.suffix == ".qml":
        return asset | {"roles": ["style"], "title": f"how QGIS shows {key.removesuffix('_style')}"}
    if key == "origin":
        classes = [*_classes(QA_FIELDS[0][3]), {"value": NONE, "name": "no_value", "nodata": True}]
        band = {"name": key, "data_type": "uint8", "nodata": NONE, "classification:classes": classes}
        return asset | {"roles": ["data-mask"], "title": "where a value comes from", "bands": [band]}
    if path.suffix == ".vrt":
        return asset | {"roles": ["data" if key == "sr" else "uncertainty"], "title": "all bands as one layer"}
    return asset | _raster(key)


def _raster(key: str) -> dict[str, Any]:
    """What an asset's TIFF holds."""
    band = next((name for name, common in COMMON_NAMES.items() if common == key.removesuffix("_sd")), None)
    if band is not None:
        is_sd = key.endswith("_sd")
        told = {
            "name": key,
            "data_type": "int16",
            "nodata": FILL,
            "raster:scale": SCALE,
            "raster:offset": 0.0,
            "raster:sampling": "area",
            "raster:spatial_resolution": RESOLUTION_M,
            "unit": "1",
        }
        seen = {} if is_sd else {"eo:common_name": key, "eo:center_wavelength": WAVELENGTH_UM[band]}
        title = f"{band} standard deviation" if is_sd else f"{band} surface reflectance"
        return {"title": title, "roles": ["uncertainty"] if is_sd else ["data", "reflectance"], "bands": [told | seen]}
    if key == "qa":
        return {
            "title": "quality bits",
            "roles": ["data", "data-mask"],
            "bands": [{"name": "qa", "data_type": "uint8"}],
            "classification:bitfields": _bitfields(),
        }
    if key == "age":
        names = (("last", "day"), ("next", "day"), ("count", "1"))
        return {
            "title": "days since and until a clear look, and their number",
            "roles": ["metadata"],
            "bands": [{"name": name, "data_type": "int16", "nodata": FILL, "unit": unit} for name, unit in names],
        }
    return {
        "title": "one-based index into vsat:sources",
        "roles": ["metadata"],
        "bands": [{"name": "src", "data_type": "uint16", "nodata": 0}],
    }


def _bitfields() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "offset": offset,
            "length": length,
            "classes": _classes(words),
        }
        for offset, length, name, words in QA_FIELDS
    ]


def _classes(words: Sequence[str]) -> list[dict[str, Any]]:
    """The classes of a field of bits, those of origin with the colours of its style."""
    told: list[dict[str, Any]] = [{"value": value, "name": word} for value, word in enumerate(words)]
    if words == QA_FIELDS[0][3]:
        for one in told:
            one |= {"description": ORIGIN_WORDS[one["value"]], "color_hint": ORIGIN_COLOURS[one["value"]][1:].upper()}
    return told


def _footprint(grid: TileGrid) -> tuple[dict[str, Any], list[float]]:
    """The grid's outline in degrees as GeoJSON, split at 180, and its bounding box."""
    west, south, east, north = grid.bounds
    share = np.linspace(0, 1, EDGE_POINTS)[:-1]
    x = np.concatenate([west + (east - west) * share, np.full(4, east), east - (east - west) * share, np.full(4, west)])
    y = np.concatenate(
        [np.full(4, south), south + (north - south) * share, np.full(4, north), north - (north - south) * share]
    )
    lon, lat = Transformer.from_crs(grid.epsg, 4326, always_xy=True).transform(x, y)
    outline = antimeridian.fix_polygon(Polygon(np.column_stack([lon, lat]).round(6)))
    return json.loads(json.dumps(mapping(outline))), [round(value, 6) for value in antimeridian.bbox(outline)]


def _collection(region: str, tile: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    times = sorted(item["properties"]["datetime"] for item in items)
    links = [_link("root", "../catalog.json"), _link("parent", "../catalog.json")]
    links.append(_link("items", ITEMS_TABLE, PARQUET_TYPE))
    links += [_link("item", f"./{item['id']}/{item['id']}.json", "application/geo+json") for item in items]
    return {
        "type": "Collection", "stac_version": STAC_VERSION, "id": f"vsat-T{tile}", "title": f"{region}, tile {tile}",
        "description": f"Virtual images of region {region} on HLS tile {tile}.", "license": "other",
        "keywords": ["HLS", "gap filling", "surface reflectance", "uncertainty"],
        "extent": {"spatial": {"bbox": [items[0]["bbox"]]}, "temporal": {"interval": [[times[0], times[-1]]]}},
        "links": links,
        "assets": {
            "items": {
                "href": f"./{ITEMS_TABLE}", "type": PARQUET_TYPE, "roles": ["collection-mirror"],
                "title": "all items as GeoParquet",
            },
        },
    }  # fmt: skip


def _link(rel: str, href: str, kind: str = "application/json") -> dict[str, str]:
    return {"rel": rel, "href": href if href.startswith(".") else f"./{href}", "type": kind}


def _source_href(granule: str) -> str:
    return f"{LPCLOUD}/HLS{granule.split('.')[1]}_2.0/items/{granule}"


def _dumped(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
