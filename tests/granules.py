"""Tiny granules for tests: GeoTIFF bytes as HLS writes them, and STAC items as CMR-STAC writes them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from faulty import Server
from rasterio.io import MemoryFile
from rasterio.shutil import copy

from vsat.core.grid import TileGrid
from vsat.hls import FILES, GranuleId
from vsat.io.catalog import Granule

GRID = TileGrid("33UVP", 32633, 399960.0, 5800020.0, 48, 40)
NAME = "HLS.L30.T33UVP.2024123T100601.v2.0"
# NASA's v2.0 files name no EPSG code; this is what they hold instead.
NASA_UTM_33 = (
    'PROJCS["UTM Zone 33, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",'
    'DATUM["Not specified (based on WGS 84 spheroid)",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
    'PARAMETER["central_meridian",15],PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],'
    'PARAMETER["false_northing",0],UNIT["metre",1]]'
)


def geotiff(array_yx: npt.NDArray[Any], grid: TileGrid = GRID, **changes: Any) -> bytes:
    """A deflated, tiled GeoTIFF on the grid; `changes` replace what rasterio is told."""
    height, width = array_yx.shape[-2:]
    options: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": array_yx.dtype,
        "crs": f"EPSG:{grid.epsg}", "transform": grid.transform, "nodata": -9999 if array_yx.dtype == np.int16 else 255,
        "compress": "deflate", "predictor": 2, "tiled": True, "blockxsize": 16, "blockysize": 16,
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**{**options, **changes}) as dst:
            dst.write(array_yx, 1)
            if np.dtype({**options, **changes}["dtype"]) == np.int16:
                dst.scales = (1e-4,)
        return bytes(memory.getbuffer())


def cog(array_yx: npt.NDArray[Any], grid: TileGrid, block: int = 128) -> bytes:
    """The same by GDAL's COG driver: header first, then overviews, then full resolution, as HLS has it."""
    with MemoryFile(geotiff(array_yx, grid)) as plain, MemoryFile() as memory:
        with plain.open() as src:
            copy(src, memory.name, driver="COG", blocksize=block, compress="deflate", predictor="YES")
        return bytes(memory.getbuffer())


def pixels(shape: tuple[int, int], seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Random reflectance of six bands with some fill, and Fmask, by band name."""
    rng = np.random.default_rng(seed)
    bands = {band: rng.integers(1, 6000, shape).astype(np.int16) for band in FILES["L30"]}
    for band in bands.values():
        band[0, :3] = -9999
    fmask = rng.choice(np.array([0, 64, 2, 8, 32, 255], np.uint8), shape)
    return {**bands, "fmask": fmask}


def path_of(name: str, band: str) -> str:
    file = {**FILES[GranuleId.from_string(name).sensor], "fmask": "Fmask"}[band]
    return f"/data/{name}/{name}.{file}.tif"


def files_of(
    arrays: Mapping[str, npt.NDArray[Any]], grid: TileGrid = GRID, name: str = NAME, **changes: Any
) -> dict[str, bytes]:
    """The files of a granule by their path on a server."""
    return {path_of(name, band): geotiff(array, grid, **changes) for band, array in arrays.items()}


def granule_on(server: Server, name: str = NAME, checks: tuple[tuple[str, str], ...] = ()) -> Granule:
    parsed = GranuleId.from_string(name)
    hrefs = tuple((band, server.href(path_of(name, band))) for band in (*FILES[parsed.sensor], "fmask"))
    return Granule(name, parsed.sensor, parsed.tile, parsed.acquired.isoformat(), "", hrefs, checks)


def cmr_item(
    name: str,
    *,
    base: str = "https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected",
    moment: str | None = None,
    cloud_cover: object = 10,
    files: tuple[str, ...] | None = None,
    **properties: Any,
) -> dict[str, Any]:
    """An item as CMR-STAC writes it: no proj, no bands; assets `B04`, `s3_B04`, `Fmask`, `browse`, `metadata`.

    Args:
        name: granule name.
        base: where its files lie.
        moment: datetime; from the name if not given.
        cloud_cover: as told.
        files: file names without `.tif`; all that the sensor has if not given.
        properties: more of them, such as `updated`.
    """
    parsed = GranuleId.from_string(name)
    collection = f"HLS{parsed.sensor}_2.0"
    every = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
    names = files or (
        *(every if parsed.sensor == "S30" else every[:7] + every[9:12]),
        "Fmask",
        "SAA",
        "SZA",
        "VAA",
        "VZA",
    )
    moment = moment or parsed.acquired.strftime("%Y-%m-%dT%H:%M:%S.336Z")
    assets: dict[str, Any] = {}
    for file in names:
        tail = f"HLS{parsed.sensor}.020/{name}/{name}.{file}.tif"
        assets[f"s3_{file}"] = {"href": f"s3://lp-prod-protected/{tail}", "title": f"s3 {file}", "roles": ["data"]}
        assets[file] = {"href": f"{base}/{tail}", "title": f"Download {name}.{file}.tif", "roles": ["data"]}
    assets["browse"] = {"href": f"{base}/{name}.jpg", "type": "image/jpeg", "roles": ["thumbnail"]}
    assets["metadata"] = {"href": f"https://cmr.earthdata.nasa.gov/search/concepts/{name}.xml", "roles": ["metadata"]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.0.0/schema.json"],
        "id": name,
        "collection": collection,
        "geometry": None,
        "bbox": [13.5, 51.4, 15.1, 52.4],
        "properties": {
            "datetime": moment,
            "start_datetime": moment,
            "end_datetime": moment,
            "eo:cloud_cover": cloud_cover,
            **properties,
        },
        "links": [{"rel": "self", "href": f"https://cmr.earthdata.nasa.gov/stac/LPCLOUD/{collection}/items/{name}"}],
        "assets": assets,
    }
