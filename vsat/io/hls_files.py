"""The files of one HLS granule: COGs with NASA's names, blocks and tags, and the STAC item beside them.

Axes: b bands (order of hls.BANDS), y, x pixels. Tags and items follow real v2.0 granules of LP DAAC; what helps to see
revisions (`updated`, `file:size`, `file:checksum`) and the projection is added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import antimeridian
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.io import MemoryFile

from vsat.core.grid import TileGrid
from vsat.hls import FILES, FILL, FMASK_FILL, SCALE, Fmask, GranuleId
from vsat.io.servers import FILES_ROOT

COLLECTIONS = {"L30": "HLSL30_2.0", "S30": "HLSS30_2.0"}
FMASK = "Fmask"
MEDIA_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
EXTENSIONS = (
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
    "https://stac-extensions.github.io/view/v1.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
_COMMON = {
    "L30": ("blue", "green", "red", "nir", "swir16", "swir22"),
    "S30": ("blue", "green", "red", "nir08", "swir16", "swir22"),
}
_LONG_NAMES = {
    "L30": ("Blue", "Green", "Red", "NIR", "SWIR1", "SWIR2"),
    "S30": ("Blue", "Green", "Red", "NIR_Narrow", "SWIR1", "SWIR2"),
}
_BITS = (
    "Bits are listed from the MSB (bit 7) to the LSB (bit 0): \n7-6    aerosol:\n       00 - climatology\n"
    "       01 - low\n       10 - average\n       11 - high\n5      water\n"
    "4      snow/ice\n3      cloud shadow\n2      adjacent to cloud\n"
    "1      cloud\n0      cirrus cloud\n"
)
_DATATAKE_LEAD = timedelta(minutes=7)  # the time in an S30 name is the datatake's start, before the scene's own


@dataclass(frozen=True)
class GranuleFacts:
    """What a granule's tags and item say beside its pixels.

    `sun_deg` is zenith and azimuth, `view_deg` the view zenith; None where the source does not know. `source` says what
    the granule was made from, so that a second run can tell whether it is the same.
    """

    id: GranuleId
    grid: TileGrid
    platform: str
    updated: datetime
    source: str
    sun_deg: tuple[float, float] | None = None
    view_deg: float | None = None

    @property
    def sensing(self) -> datetime:
        """When the scene was taken (UTC); for S30 minutes after the time in its name."""
        return self.id.acquired + (_DATATAKE_LEAD if self.id.sensor == "S30" else timedelta(0))

    @property
    def folder(self) -> str:
        """Where the granule lies below the archive's root."""
        return f"{COLLECTIONS[self.id.sensor]}/{self.id}"


def granule_files(facts: GranuleFacts, refl_byx: NDArray[np.int16], fmask_yx: NDArray[np.uint8]) -> dict[str, bytes]:
    """The granule's seven COGs in memory, by NASA's file key ("B02" .. "Fmask"); the same bytes for the same input.

    Args:
        facts: names, place and angles.
        refl_byx: int16 (6, y, x), units of 1e-4, FILL where none.
        fmask_yx: uint8 (y, x), v2 bits, 255 where none.
    """
    shared = _tags(facts, fmask_yx)
    bands = zip(FILES[facts.id.sensor].values(), _LONG_NAMES[facts.id.sensor], refl_byx, strict=True)
    files = {key: _reflectance(facts.grid, band_yx, shared, name) for key, name, band_yx in bands}
    tags = {**shared, "_FillValue": str(FMASK_FILL), "Fmask bit description": _BITS}
    # nearest: a legal code stays a legal code, which an average of bits would not
    files[FMASK] = _cog(facts.grid, fmask_yx, tags, nodata=FMASK_FILL, resampling="nearest")
    return files


def granule_item(
    facts: GranuleFacts, fmask_yx: NDArray[np.uint8], checks: Mapping[str, tuple[int, str]]
) -> dict[str, Any]:
    """The STAC item (JSON object) as LP DAAC writes it; addresses start with `archive:/`.

    Args:
        facts: as for the files.
        fmask_yx: uint8 (y, x), for the cloud cover.
        checks: by file key, size in bytes and sha256 in hexadecimal.
    """
    grid, name = facts.grid, str(facts.id)
    geometry, bbox = _footprint(grid)
    moment = _iso(facts.sensing)
    properties: dict[str, Any] = {
        "datetime": moment,
        "start_datetime": moment,
        "end_datetime": moment,
        "updated": _iso(facts.updated),
        "platform": facts.platform,
        "instruments": ["oli" if facts.id.sensor == "L30" else "msi"],
        "eo:cloud_cover": _cloud_cover(fmask_yx),
        "proj:epsg": grid.epsg,
        "proj:shape": list(grid.shape),
        "proj:transform": [*grid.transform][:9],
        "vsat:source": facts.source,
    }
    if facts.sun_deg is not None:
        properties |= {
            "view:sun_elevation": round(90 - facts.sun_deg[0], 3),
            "view:sun_azimuth": round(facts.sun_deg[1], 3),
        }
    if facts.view_deg is not None:
        properties["view:off_nadir"] = round(facts.view_deg, 3)
    keys = dict(zip(FILES[facts.id.sensor].values(), _COMMON[facts.id.sensor], strict=True))
    assets = {key: _asset(facts, key, check, keys.get(key)) for key, check in checks.items()}
    collection = COLLECTIONS[facts.id.sensor]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(EXTENSIONS),
        "id": name,
        "collection": collection,
        "geometry": geometry,
        "bbox": bbox,
        "properties": properties,
        "assets": assets,
        "links": [
            {"rel": "collection", "href": f"{FILES_ROOT}/{collection}/collection.json", "type": "application/json"}
        ],
    }


def collection(sensor: str, bboxes: Sequence[Sequence[float]], moments: Sequence[str]) -> dict[str, Any]:
    """The STAC collection of one sensor (JSON object), with the extent of its items' boxes and times (ISO)."""
    space = (
        [round(float(v), 6) for v in antimeridian.bbox(shapely.union_all([_box(b) for b in bboxes]))]
        if bboxes
        else [-180.0, -90.0, 180.0, 90.0]
    )
    times = [min(moments), max(moments)] if moments else [None, None]
    title = "HLS Landsat" if sensor == "L30" else "HLS Sentinel-2"
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTIONS[sensor],
        "title": f"{title} surface reflectance, 30 m, v2.0, in an archive of vsat",
        "description": "Granules named, tiled and scaled like HLS v2.0. They are not NASA's product.",
        "license": "proprietary",
        "extent": {"spatial": {"bbox": [space]}, "temporal": {"interval": [times]}},
        "links": [],
    }


def facts_of(item: Mapping[str, Any]) -> GranuleFacts:
    """The facts a granule was written with, from its item."""
    p = item["properties"]
    name = GranuleId.from_string(item["id"])
    height, width = p["proj:shape"]
    _, _, x0, _, _, y0 = p["proj:transform"][:6]
    sun = (90 - p["view:sun_elevation"], p["view:sun_azimuth"]) if "view:sun_azimuth" in p else None
    grid = TileGrid(name.tile, p["proj:epsg"], x0, y0, height, width)
    updated, view = datetime.fromisoformat(p["updated"]), p.get("view:off_nadir")
    return GranuleFacts(name, grid, p["platform"], updated, p["vsat:source"], sun, view)


def day_of(item: Mapping[str, Any]) -> date:
    """The UTC day in the name of an item of an archive."""
    return GranuleId.from_string(str(item["id"])).acquired.date()


def _asset(facts: GranuleFacts, key: str, check: tuple[int, str], common_name: str | None) -> dict[str, Any]:
    band = {"name": key} if common_name is None else {"name": key, "common_name": common_name}
    return {
        "href": f"{FILES_ROOT}/{facts.folder}/{facts.id}.{key}.tif",
        "type": MEDIA_TYPE,
        "roles": ["data"],
        "eo:bands": [band],
        "file:size": check[0],
        "file:checksum": f"1220{check[1]}",  # multihash: 0x12 sha2-256, 0x20 its 32 bytes
    }


def _reflectance(grid: TileGrid, band_yx: NDArray[np.int16], shared: Mapping[str, str], long_name: str) -> bytes:
    tags = {**shared, "add_offset": "0.0", "scale_factor": str(SCALE), "_FillValue": str(FILL), "long_name": long_name}
    return _cog(grid, band_yx, tags, nodata=FILL, resampling="average", long_name=long_name)


def _cog(
    grid: TileGrid,
    band_yx: NDArray[np.int16] | NDArray[np.uint8],
    tags: Mapping[str, str],
    *,
    nodata: int,
    resampling: str,
    long_name: str = "",
) -> bytes:
    options = {"compress": "DEFLATE", "predictor": "STANDARD", "blocksize": 256, "overview_resampling": resampling}
    shape = {"height": grid.height, "width": grid.width, "count": 1, "dtype": band_yx.dtype.name}
    with rasterio.Env(GDAL_NUM_THREADS="1"), MemoryFile() as memory:
        with memory.open(
            driver="COG", crs=f"EPSG:{grid.epsg}", transform=grid.transform, nodata=nodata, **shape, **options
        ) as cog:
            cog.write(band_yx, 1)
            cog.update_tags(OVR_RESAMPLING_ALG=resampling.upper(), **tags)
            if long_name:
                cog.scales, cog.offsets, cog.descriptions = (SCALE,), (0.0,), (long_name,)
        data: bytes = memory.read()
    return data


def _tags(facts: GranuleFacts, fmask_yx: NDArray[np.uint8]) -> dict[str, str]:
    """Tags that all of a granule's files share, named as in real ones."""
    grid, seen = facts.grid, fmask_yx != FMASK_FILL
    tags = {
        "ACCODE": "none",
        "cloud_coverage": str(_cloud_cover(fmask_yx)),
        "HLS_PROCESSING_TIME": _iso(facts.updated),
        "HORIZONTAL_CS_NAME": f"UTM, WGS84, UTM ZONE {grid.epsg - 32600}",
        "NCOLS": str(grid.width),
        "NROWS": str(grid.height),
        "SENSING_TIME": facts.sensing.strftime("%Y-%m-%dT%H:%M:%S.0000000Z"),
        "spatial_coverage": str(round(100 * float(seen.mean()))),
        "SPATIAL_RESOLUTION": "30",
        "ULX": f"{grid.x0:.0f}",
        "ULY": f"{grid.y0:.0f}",
    }
    if facts.id.sensor == "L30":
        tags |= {"SENSOR": "OLI_TIRS", "SENTINEL2_TILEID": grid.tile}
    else:
        tags |= {
            "SPACECRAFT_NAME": facts.platform.title(),
            "TILE_ID": f"T{grid.tile}",
            "HORIZONTAL_CS_CODE": f"EPSG:{grid.epsg}",
        }
    if facts.sun_deg is not None:
        tags |= {
            "MEAN_SUN_ZENITH_ANGLE": f"{facts.sun_deg[0]:.6f}",
            "MEAN_SUN_AZIMUTH_ANGLE": f"{facts.sun_deg[1]:.6f}",
        }
    if facts.view_deg is not None:
        tags["MEAN_VIEW_ZENITH_ANGLE"] = f"{facts.view_deg:.6f}"
    return tags


def _cloud_cover(fmask_yx: NDArray[np.uint8]) -> int:
    """Cloud in whole per cent of the seen pixels, 0 where none was seen."""
    seen = fmask_yx != FMASK_FILL
    cloudy = np.count_nonzero(seen & ((fmask_yx & int(Fmask.CLOUD)) > 0))
    return round(100 * cloudy / max(int(np.count_nonzero(seen)), 1))


@lru_cache(maxsize=64)
def _to_degrees(epsg: int) -> Transformer:
    return Transformer.from_crs(epsg, 4326, always_xy=True)


def _footprint(grid: TileGrid) -> tuple[dict[str, Any], list[float]]:
    """The grid's outline as GeoJSON in degrees and its box; split at 180 degrees where it crosses."""
    west, south, east, north = grid.bounds
    x, y = [west, east, east, west, west], [south, south, north, north, south]
    lon, lat = _to_degrees(grid.epsg).transform(x, y)
    ring = [(round(a, 6), round(b, 6)) for a, b in zip(lon, lat, strict=True)]
    outline = antimeridian.fix_polygon(shapely.Polygon(ring))
    geometry: dict[str, Any] = shapely.geometry.mapping(outline)
    return geometry, [round(float(v), 6) for v in antimeridian.bbox(outline)]


def _box(bbox: Sequence[float]) -> shapely.Geometry:
    west, south, east, north = bbox
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
