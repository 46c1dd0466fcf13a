"""Headers of COGs that hypothesis writes: tags with any type, count and values, bits flipped, ends cut off."""

import struct
from typing import Any

from fault.hostile_files import KEYS, RED, Tag, rebuilt, tags_of
from fault.hostile_world import ARRAYS, DAY, ONCE, World
from granules import GRID, geotiff
from hypothesis import strategies as st

from vsat.errors import VsatError
from vsat.io import tiff
from vsat.io.catalog import search
from vsat.io.reader import read_granule

_COG = geotiff(ARRAYS["red"], blockxsize=16, blockysize=16, BIGTIFF="YES")
_RANGES = {1: 1 << 8, 2: 1 << 8, 3: 1 << 16, 4: 1 << 32, 16: 1 << 64}
_TAGS = st.one_of(st.sampled_from([*tags_of(RED), 34264, 34736, 34737, 42112, 330, 347, 513]), st.integers(0, 65535))
_EDGES = [0, 1, 2, 3, 8, 15, 16, 17, 255, 256, 3660, 3661, 4096, 32767, 32768, 65535, 1 << 31, (1 << 32) - 1, 1 << 63]


def _values(kind: int) -> st.SearchStrategy[tuple[Any, ...]]:
    if kind == 12:
        return st.lists(st.floats(), max_size=20).map(tuple)
    if kind not in _RANGES:
        return st.just(())
    most = _RANGES[kind] - 1
    one = st.one_of(st.sampled_from([min(edge, most) for edge in _EDGES]), st.integers(0, most))
    return st.lists(one, max_size=20).map(tuple)


_COUNTS = st.one_of(st.none(), st.none(), st.sampled_from(_EDGES), st.integers(0, 40))
_TAG = st.sampled_from([1, 2, 3, 4, 12, 16, 13, 99]).flatmap(
    lambda kind: st.builds(Tag, st.just(kind), _values(kind), _COUNTS)
)
# directories of GeoTIFF's keys: which projection, in which form
_GEO_KEYS = st.lists(
    st.tuples(
        st.sampled_from([1024, 1025, 1026, 2048, 2050, 2054, 3072, 3074, 3075, 3076, 4096]),
        st.sampled_from([0, 34736, 34737]),
        st.integers(0, 9),
        st.sampled_from([1, 2, 8, 9001, 4326, 32633, 32767, 5773, 3857, 65535]),
    ),
    max_size=8,
).map(lambda keys: Tag(3, (1, 1, 0, len(keys), *(value for key in sorted(keys) for value in key))))
HEADERS = st.tuples(
    st.dictionaries(_TAGS, st.none() | _TAG, max_size=4),
    st.none() | _GEO_KEYS,
    st.booleans(),
    st.sampled_from([0, -1, 8, 0xFFFFFFF0]),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4),
    st.none() | st.integers(0, 1 << 16),
)


def fuzz_header(world: World, drawn: tuple[Any, ...]) -> str:
    """What the reader makes of a file, over loopback, alone and with bands that are coded alike."""
    data = _file(drawn)
    for read in (tiff.read_levels, tiff.read_layout):
        try:
            read(data, len(data))
        except (tiff.MalformedError, tiff.HeaderError):
            continue
    world.site.state.files[world.path("red")] = data
    found = search(world.endpoint, GRID, DAY, DAY, patience=ONCE)
    try:
        for granule in found.granules:
            read_granule(granule, GRID, world.endpoint, patience=ONCE, threads=2)
    except VsatError as error:
        return str(error)
    return "taken"


def _file(drawn: tuple[Any, ...]) -> bytes:
    tags, keys, big, following, flips, cut = drawn
    changes = {tag: _fitting(value, big=big) for tag, value in tags.items()}
    if keys is not None:
        changes[KEYS] = keys
    data = bytearray(rebuilt(changes, big=big, following=following))
    header = len(data) - len(RED)
    for at, value in flips:  # in the first bytes and in the directory, where all that is read as numbers lies
        place = at % (header + 16)
        data[place if place < 16 else len(RED) + place - 16] ^= value
    return bytes(data if cut is None else data[: cut % (len(data) + 1)])


def _fitting(tag: Tag | None, *, big: bool) -> Tag | None:
    """Counts as wide as the directory has room for."""
    if tag is None or tag.count is None:
        return tag
    most = struct.calcsize("Q" if big else "I")
    return Tag(tag.kind, tag.values, min(tag.count, (1 << 8 * most) - 1))
