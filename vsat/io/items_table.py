"""The items of a collection as one GeoParquet file (stac-geoparquet): all of a catalogue in one read, by column."""

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vsat.errors import StoreError

ITEMS_TABLE = "items.parquet"
PARQUET_TYPE = "application/vnd.apache.parquet"


def items_table(items: Sequence[Mapping[str, Any]]) -> bytes:
    """The file's content; equal items give equal bytes.

    A year of a tile takes less than a second, so that a night can make it anew.

    Args:
        items: of one collection, at least one, each from a folder of its own name beside the file; what they name by
            relative paths is named from the file's place instead.

    Raises:
        StoreError: one of them is no item.
    """
    import rustac

    moved = [_moved(item, str(item["id"])) for item in items]
    with TemporaryDirectory(prefix="vsat-") as folder:
        path = Path(folder) / ITEMS_TABLE
        try:
            rustac.write_sync(str(path), moved, format="geoparquet", parquet_compression="zstd(3)")
        except rustac.RustacError as error:
            step = "vsat verify names the damaged item, vsat repair makes its image again"
            raise StoreError(f"an item is no STAC item: {error}", place=ITEMS_TABLE, next_step=step) from error
        return path.read_bytes()


def _moved(item: Mapping[str, Any], folder: str) -> dict[str, Any]:
    links = [link | {"href": _from_above(link["href"], folder)} for link in item["links"]]
    assets = {key: asset | {"href": _from_above(asset["href"], folder)} for key, asset in item["assets"].items()}
    return {**item, "links": links, "assets": assets}


def _from_above(href: str, folder: str) -> str:
    """A relative link of an item as the folder above the item's says it."""
    if not href.startswith("."):
        return href
    path = posixpath.normpath(posixpath.join(folder, href))
    return path if path.startswith("..") else f"./{path}"
