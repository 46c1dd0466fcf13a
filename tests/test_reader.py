"""Reading over loopback: good files give their pixels, bad ones a ReadError with file and reason, never fill."""

import hashlib
import logging
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import faulty
import numpy as np
import pytest
import rasterio
from faulty import Server, serving
from granules import GRID, NAME, NASA_UTM_33, cog, files_of, geotiff, granule_on, path_of, pixels
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.core.grid import TileGrid
from vsat.errors import AccessError, ReadError
from vsat.hls import BANDS, FILES, FILL, FMASK_FILL
from vsat.io import reader, tiff
from vsat.io.download import AttemptError, Patience
from vsat.io.reader import Scene, read_granule

FAST = Patience(attempts=4, first_delay_s=0.001, cap_s=0.01, budget_s=20, attempt_s=5, connect_s=2, silence_s=2)
RED = path_of(NAME, "red")
ARRAYS = pixels(GRID.shape)
FILES_ONCE = files_of(ARRAYS)
LAYOUT = tiff.read_layout(FILES_ONCE[RED], len(FILES_ONCE[RED]))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(FILES_ONCE) as running:
        yield running


def read(server: Server, grid: TileGrid = GRID, **options: Any) -> Scene:
    return read_granule(granule_on(server), grid, server.endpoint(), **{"patience": FAST, **options})


def assert_good(scene: Scene) -> None:
    for band, got in zip(BANDS, scene.refl_byx, strict=True):
        np.testing.assert_array_equal(got, ARRAYS[band])
    np.testing.assert_array_equal(scene.fmask_yx, ARRAYS["fmask"])
    assert scene.refl_byx.dtype == np.int16
    assert scene.fmask_yx.dtype == np.uint8


def reason_of(server: Server, grid: TileGrid = GRID, **options: Any) -> str:
    with pytest.raises(ReadError) as caught:
        read(server, grid, **options)
    assert NAME in str(caught.value)
    return str(caught.value)


def test_a_good_granule_comes_whole_with_one_request_a_file(server: Server) -> None:
    assert_good(read(server))
    assert len(server.state.log) == 7


@pytest.mark.parametrize("threads", [1, 7])
def test_any_number_of_threads(server: Server, threads: int) -> None:
    assert_good(read(server, threads=threads))


def test_s30_takes_its_narrow_near_infrared() -> None:
    name = "HLS.S30.T33UVP.2024123T100601.v2.0"
    assert path_of(name, "nir").endswith(".B8A.tif")
    with serving(files_of(ARRAYS, name=name)) as server:
        assert_good(read_granule(granule_on(server, name), GRID, server.endpoint(), patience=FAST))


@pytest.mark.parametrize(
    "changes",
    [
        {"blockxsize": 64, "blockysize": 32},
        {"tiled": False, "blockxsize": 40, "blockysize": 5},
        {"predictor": 1},
        {"compress": None, "predictor": 1},
        {"compress": "lzw"},
        {"compress": "zstd"},
        {"BIGTIFF": "YES"},
        {"ENDIANNESS": "BIG"},
        {"crs": NASA_UTM_33},
        {"nodata": None},
    ],
    ids=str,
)
def test_the_forms_a_file_may_have(changes: dict[str, Any]) -> None:
    with serving(files_of(ARRAYS, **changes)) as server:
        assert_good(read(server))


def test_scale_tags_are_not_trusted() -> None:
    """Some L30 files have no scale where it belongs: digital numbers are taken as they are."""
    plain = {path: geotiff(ARRAYS[band]) for band in ARRAYS if (path := path_of(NAME, band))}
    with rasterio.MemoryFile(plain[RED]) as memory, memory.open() as src:
        assert src.scales == (1e-4,)
    with serving({**plain, RED: geotiff(ARRAYS["red"], nodata=-9999)}) as server:
        assert_good(read(server))


def test_old_files_fill_with_minus_1000() -> None:
    old = {band: np.where(a == -9999, -1000, a).astype(a.dtype) if band != "fmask" else a for band, a in ARRAYS.items()}
    files = {
        path_of(NAME, band): geotiff(a, **({} if band == "fmask" else {"nodata": -1000})) for band, a in old.items()
    }
    with serving(files) as server:
        assert_good(read(server))


def test_minus_1000_is_a_value_where_nodata_is_minus_9999() -> None:
    dark = {**ARRAYS, "red": np.full(GRID.shape, -1000, np.int16)}
    with serving(files_of(dark)) as server:
        assert (read(server).refl_byx[BANDS.index("red")] == -1000).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(-60, 60), st.integers(-60, 60), st.integers(1, 50), st.integers(1, 50))
def test_any_window_is_the_same_as_cutting_it_out(down: int, right: int, height: int, width: int) -> None:
    """The window may reach over the granule's edges; there it is fill."""
    grid = replace(GRID, x0=GRID.x0 + 30 * right, y0=GRID.y0 - 30 * down, height=height, width=width)
    wide = np.full((200, 200), FILL, np.int16)
    wide[70:118, 70:110] = ARRAYS["red"]
    expected = wide[70 + down : 70 + down + height, 70 + right : 70 + right + width]
    with serving(FILES_ONCE) as server:
        if not (-height < down < 48 and -width < right < 40):
            assert "does not touch" in reason_of(server, grid)
            return
        scene = read(server, grid)
    np.testing.assert_array_equal(scene.refl_byx[BANDS.index("red")], expected)


BIG = replace(GRID, height=700, width=700)
NOISE = {band: np.random.default_rng(5).integers(0, 30000, BIG.shape).astype(np.int16) for band in BANDS}
NOISE["fmask"] = np.random.default_rng(6).integers(0, 254, BIG.shape).astype(np.uint8)


@pytest.fixture(scope="module")
def big_files() -> dict[str, bytes]:
    return {path_of(NAME, band): cog(array, BIG) for band, array in NOISE.items()}


@pytest.fixture
def big(big_files: dict[str, bytes]) -> Iterator[Server]:
    with serving(big_files) as running:
        yield running


SMALL = replace(BIG, x0=BIG.x0 + 30 * 300, y0=BIG.y0 - 30 * 500, height=90, width=100)


def assert_small(scene: Scene) -> None:
    for band, got in zip((*BANDS, "fmask"), (*scene.refl_byx, scene.fmask_yx), strict=True):
        np.testing.assert_array_equal(got, NOISE[band][500:590, 300:400])


def test_a_small_window_reads_a_part_of_a_large_file(big: Server, big_files: dict[str, bytes]) -> None:
    assert_small(read(big, SMALL))
    asked = [request.headers["Range"] for request in big.asked(RED)]
    assert len(asked) >= 2
    read_bytes = sum(1 + int(b) - int(a) for a, _, b in (span[6:].partition("-") for span in asked))
    assert read_bytes < len(big_files[RED]) * 0.6


def test_a_server_without_ranges(big: Server) -> None:
    for path in big.state.files:
        big.always(path, faulty.ignores_range)
    assert_small(read(big, SMALL))
    assert len(big.asked(RED)) == 1


def test_a_directory_at_the_end_of_the_file(big: Server) -> None:
    """Not cloud-optimised: all of it is read."""
    for band, array in NOISE.items():
        big.state.files[path_of(NAME, band)] = geotiff(array, BIG, blockxsize=64, blockysize=64)
    assert_small(read(big, SMALL))


def test_a_header_longer_than_the_first_read(big: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_HEAD", 100)
    assert_small(read(big, SMALL))


def test_a_file_that_changes_between_two_ranges_is_read_afresh(big: Server, big_files: dict[str, bytes]) -> None:
    big.fail(RED, faulty.replaced(big_files[RED] + b"more"))
    assert_small(read(big, SMALL))


@pytest.mark.parametrize("fault", [faulty.wrong_range, faulty.truncated(3000), faulty.reset, faulty.status(503)])
def test_ranges_that_fail_once(big: Server, fault: faulty.Fault) -> None:
    big.fail(RED, fault)
    assert_small(read(big, SMALL))


def test_a_whole_tile_is_one_download_and_small_ranges_are_none(big: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "TILE_PX", 700)
    scene = read(big, BIG)
    np.testing.assert_array_equal(scene.refl_byx[0], NOISE["blue"])
    assert len(big.state.log) == 7
    assert not any("Range" in request.headers for request in big.state.log)


# Faults that pass: the next try is good.

PASSING = {
    "503": faulty.status(503),
    "500": faulty.status(500),
    "429": faulty.status(429, Retry_After="0"),
    "400, as LP DAAC under load": faulty.status(400),
    "a page of another service": faulty.html(b"<html>please wait</html>"),
    "reset": faulty.reset,
    "cut": faulty.truncated(700),
    "cut at once": faulty.truncated(0),
    "short and says so": faulty.truncated(700, honest=True),
    "empty": faulty.replaced(b""),
    "a bit in the pixels": faulty.flipped(LAYOUT.offsets[4] + 100, 3),
    "another range": faulty.wrong_range,
    "silence": faulty.hang(1.2),
    "sent elsewhere": faulty.redirect("https://status.example.org/"),
    "compressed": faulty.status(200, b"x" * 500, Content_Encoding="gzip"),
}


@pytest.mark.fault
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_one_bad_answer_is_tried_again(server: Server, fault: faulty.Fault) -> None:
    server.fail(RED, fault)
    assert_good(read(server, patience=replace(FAST, silence_s=0.5)))
    assert len(server.asked(RED)) >= 2


@pytest.mark.fault
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_stays_bad_is_an_error_and_never_fill(server: Server, fault: faulty.Fault) -> None:
    server.always(RED, fault)
    started = len(server.asked(RED))
    reason = reason_of(server, patience=replace(FAST, silence_s=0.5, attempts=3))
    assert "red: " in reason
    assert RED in reason
    assert len(server.asked(RED)) - started == 3


@pytest.mark.fault
def test_a_server_that_drips_does_not_hold_us_for_ever(server: Server) -> None:
    server.always(RED, faulty.drip(0.05, 20))
    assert "slow" in reason_of(server, patience=replace(FAST, attempts=2, attempt_s=0.3))


@pytest.mark.fault
@pytest.mark.parametrize(
    ("asked", "least", "most"), [("1", 1, 9), (2, 0.5, 9), (-60, 0, 0.5), ("soon", 0, 0.5)], ids=str
)
def test_retry_after_is_seconds_or_a_date(server: Server, asked: str | int, least: float, most: float) -> None:
    text = asked if isinstance(asked, str) else formatdate(time.time() + asked, usegmt=True)
    server.fail(RED, faulty.status(503, Retry_After=text))
    client = reader.client_for(server.endpoint(), 0)
    with pytest.raises(AttemptError) as caught:
        client.get(server.href(RED), FAST)
    assert least <= (caught.value.after_s or 0) <= most
    assert FAST.delay_s(1, "red", caught.value.after_s) <= FAST.cap_s


@pytest.mark.fault
def test_404_is_not_tried_again(server: Server) -> None:
    del server.state.files[RED]
    assert "HTTP 404" in reason_of(server)
    assert len(server.asked(RED)) == 1


@pytest.mark.fault
def test_every_flipped_bit_of_the_pixels_is_noticed() -> None:
    """GDAL lets a quarter of them through."""
    array = np.clip(np.cumsum(np.random.default_rng(0).integers(-9, 10, GRID.shape), axis=1), 0, 200).astype(np.uint8)
    files = {**FILES_ONCE, path_of(NAME, "fmask"): (data := geotiff(array, blockxsize=48, blockysize=48))}
    with rasterio.MemoryFile(data) as memory, memory.open() as src:
        start = int(src.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", 1))
        size = int(src.get_tag_item("BLOCK_SIZE_0_0", "TIFF", 1))
    rng = np.random.default_rng(1)
    with serving(files) as server:
        for at, bit in zip(rng.integers(start, start + size, 60), rng.integers(0, 8, 60), strict=True):
            server.always(path_of(NAME, "fmask"), faulty.flipped(int(at), int(bit)))
            assert "fmask: not a sound GeoTIFF" in reason_of(server, patience=replace(FAST, attempts=1))


@pytest.mark.fault
def test_no_flipped_header_bit_gives_other_pixels() -> None:
    """A header has no checksum, so it is checked for sense: what goes unnoticed must not matter (a text, a scale)."""
    files = {path_of(NAME, band): cog(array, GRID) for band, array in ARRAYS.items()}
    end, noticed = tiff.read_layout(files[RED], len(files[RED])).end, 0
    with serving(files) as server:
        for flip in np.random.default_rng(2).integers(0, 8 * end, 250):
            server.always(RED, faulty.flipped(int(flip) // 8, int(flip) % 8))
            try:
                assert_good(read(server, patience=replace(FAST, attempts=1)))
            except ReadError:
                noticed += 1
    assert 50 < noticed < 250


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "another zone": (lambda: geotiff(ARRAYS["red"], crs="EPSG:32632"), "32632"),
    "degrees": (lambda: geotiff(ARRAYS["red"], crs="EPSG:4326"), "no UTM"),
    "the south's false northing": (lambda: geotiff(ARRAYS["red"], crs="EPSG:32733"), "32733"),
    "another type": (lambda: geotiff(ARRAYS["red"].astype(np.uint8), nodata=255), "wanted int16"),
    "unsigned": (lambda: geotiff(ARRAYS["red"].astype(np.uint16), nodata=0), "one band of int16"),
    "floats": (lambda: geotiff(ARRAYS["red"].astype(np.float32), predictor=1), "one band of int16"),
    "half a pixel off": (lambda: geotiff(ARRAYS["red"], replace(GRID, x0=GRID.x0 + 15)), "lattice"),
    "10 m": (lambda: geotiff(ARRAYS["red"], replace(GRID, resolution_m=10.0)), "pixels are 10.0"),
    "elsewhere": (lambda: geotiff(ARRAYS["red"], replace(GRID, x0=GRID.x0 + 30000)), "does not touch"),
    "one pixel off": (lambda: geotiff(ARRAYS["red"], replace(GRID, x0=GRID.x0 + 30)), "same pixels"),
    "another size": (lambda: geotiff(ARRAYS["red"][:-1]), "same pixels"),
    "too large": (lambda: geotiff(np.zeros((16, 3661), np.int16)), "at most 3660"),
    "another nodata": (lambda: geotiff(ARRAYS["red"], nodata=0), "nodata value is 0"),
    "no place": (lambda: unplaced(), "without georeference"),
    "another predictor": (lambda: geotiff(ARRAYS["red"], predictor=1), "coded differently"),
    "a page": (lambda: b"<html><body>sorry</body></html>", "an HTML page"),
    "VRT": (lambda: b'<VRTDataset rasterXSize="40"><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>', "HTML"),
    "PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(500), "no TIFF"),
    "zeros": (lambda: bytes(5000), "no TIFF"),
    "half": (lambda: FILES_ONCE[RED][: len(FILES_ONCE[RED]) // 2], "not a sound GeoTIFF"),
    "only a header": (lambda: FILES_ONCE[RED][:40], "not a sound GeoTIFF"),
}


def unplaced() -> bytes:
    """A TIFF with pixels and nothing that says where they are."""
    plain = tiff.georeference("<", ())  # one pixel, no tag of place
    assert not tiff.read_layout(plain, len(plain)).is_georeferenced
    return plain


@pytest.mark.fault
@pytest.mark.parametrize(("make", "why"), WRONG.values(), ids=WRONG.keys())
def test_files_that_are_not_what_they_should_be(server: Server, make: Callable[[], bytes], why: str) -> None:
    server.state.files[RED] = make()
    assert why in reason_of(server)


def test_absent_blocks_are_damage_not_fill(server: Server) -> None:
    """GDAL reads a block of size 0 as nodata."""
    sparse = geotiff(np.full(GRID.shape, -9999, np.int16), SPARSE_OK="TRUE")
    server.state.files[RED] = sparse
    assert "a block of 0 bytes" in reason_of(server)


def test_declared_size_and_checksum() -> None:
    data = FILES_ONCE[RED]
    good = hashlib.sha256(data).hexdigest()
    with serving(FILES_ONCE) as server:
        for check in (f"size:{len(data)}", f"multihash:1220{good}", f"size:{len(data)};multihash:1220{good}",
                      "multihash:1114" + hashlib.sha1(data).hexdigest(), "multihash:ff01aa"):  # fmt: skip
            granule = granule_on(server, checks=(("red", check),))
            assert_good(read_granule(granule, GRID, server.endpoint(), patience=FAST))
        for check, why in ((f"size:{len(data) + 1}", "the catalogue says"), (f"multihash:1220{'0' * 64}", "sha256")):
            with pytest.raises(ReadError, match=why):
                read_granule(granule_on(server, checks=(("red", check),)), GRID, server.endpoint(), patience=FAST)


@pytest.mark.parametrize("library", ["zlib", "isal"])
def test_blocks_that_do_not_end_where_they_should(library: str) -> None:
    """Whichever library inflates: too short, too long, cut, or a bomb of a thousand times its size."""
    if library == "isal":
        pytest.importorskip("isal", reason="isal is not installed; zlib serves")
    data = np.random.default_rng(3).integers(0, 9, 5000).astype(np.uint8).tobytes()
    inflate = tiff._inflate if library == tiff._inflater().__name__.partition(".")[0] else None
    if inflate is None:
        pytest.skip("isal goes first where it is installed")
    packed = zlib.compress(data)
    assert inflate(packed, len(data)) == data
    assert len(inflate(packed, len(data) + 5)) == len(data)  # the caller compares lengths
    bomb = zlib.compress(bytes(50_000_000))
    for bad, size in ((packed, 4000), (packed[:-1], 5000), (packed[:900], 5000), (b"", 5000), (bomb, 5000)):
        with pytest.raises(tiff.MalformedError):
            inflate(bad, size)


def test_a_file_too_large_is_not_taken_in(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsat.io.download.MAX_FILE_BYTES", 3000)
    assert "none of HLS is over" in reason_of(server)


# Trust


def test_redirects_are_checked_hop_by_hop(server: Server) -> None:
    with serving(FILES_ONCE) as other:
        server.always(RED, faulty.redirect(other.href(RED)))
        assert "is not listed" in reason_of(server)
        assert not other.state.log
        server.always(RED, faulty.redirect("file:///etc/passwd"))
        assert "scheme 'file'" in reason_of(server)
        server.state.always.clear()
        server.fail(RED, faulty.redirect(other.href(RED)))
        endpoint = server.endpoint(redirects=(other.netloc,))
        assert_good(read_granule(granule_on(server), GRID, endpoint, patience=FAST))
        assert len(other.asked(RED)) == 1


def test_redirects_in_a_circle_end(server: Server) -> None:
    server.always(RED, faulty.redirect(RED))
    assert "circle" in reason_of(server)


def test_an_address_off_the_list_is_not_asked(server: Server) -> None:
    with serving(FILES_ONCE) as other:
        with pytest.raises(ReadError, match="is not listed"):
            read_granule(granule_on(other), GRID, server.endpoint(), patience=FAST)
        assert not other.state.log


def test_the_token_goes_to_its_own_host_only(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", "good-token")
    with serving(FILES_ONCE) as cdn:
        for path in FILES_ONCE:
            server.always(path, faulty.redirect(f"{cdn.href(path)}?Signature=SECRET", 303))
        endpoint = server.endpoint("cmr", redirects=(cdn.netloc,))
        assert_good(read_granule(granule_on(server), GRID, endpoint, patience=FAST))
        assert {request.headers.get("Authorization") for request in server.state.log} == {"Bearer good-token"}
        assert {request.headers.get("Authorization") for request in cdn.state.log} == {None}


def test_no_token_to_a_catalogue_that_is_not_nasa(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", "good-token")
    read(server)
    assert not any("Authorization" in request.headers for request in server.state.log)


def test_a_new_token_is_found_after_a_401(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in FILES_ONCE:
        server.always(path, faulty.needs(lambda: "Bearer new"))
    monkeypatch.setenv("EARTHDATA_TOKEN", "old")
    endpoint = server.endpoint("cmr", login="127.0.0.1:1")
    with pytest.raises(AccessError, match=r"urs\.earthdata\.nasa\.gov"):
        read_granule(granule_on(server), GRID, endpoint, patience=FAST)
    monkeypatch.setenv("EARTHDATA_TOKEN", "new")
    assert_good(read_granule(granule_on(server), GRID, endpoint, patience=FAST))


@pytest.mark.parametrize("code", [401, 403])
def test_refused_access_is_not_hammered(server: Server, code: int) -> None:
    server.always(RED, faulty.status(code))
    with pytest.raises(AccessError, match=f"HTTP {code}"):
        read(server)
    assert len(server.asked(RED)) == 1


def test_a_login_page_with_status_200_is_refused_access(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", "expired")
    server.always(RED, faulty.html())
    with pytest.raises(AccessError, match="EARTHDATA_TOKEN"):
        read_granule(granule_on(server), GRID, server.endpoint("cmr"), patience=FAST)


def test_login_by_netrc_with_cookies(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token: the data host sends us to the login host, which sends us back with a code, which gives a cookie."""
    with serving() as login:
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine {login.netloc} login me password word\nmachine 127.0.0.1 login no password no\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        login.always("/oauth", lambda h, _b, _s: h.answer(302, b"", {"Location": server.href("/login?code=1")})
                     if h.headers.get("Authorization") == "Basic bWU6d29yZA==" else h.answer(401, b""))  # fmt: skip
        server.always("/login", faulty.redirect(server.href("/landed"), 302, Set_Cookie="session=good; Path=/"))

        def guarded(handler: faulty.Handler, body: bytes, headers: dict[str, str]) -> None:
            if "session=good" in handler.headers.get("Cookie", ""):
                handler.send_good(body, headers)
            else:
                handler.state.always["/landed"] = faulty.redirect(handler.path)
                handler.answer(302, b"", {"Location": login.href("/oauth")})

        for path in FILES_ONCE:
            server.always(path, guarded)
        endpoint = server.endpoint("cmr", login=login.netloc)
        assert_good(read_granule(granule_on(server), GRID, endpoint, patience=FAST, threads=1))
        assert len(login.asked("/oauth")) == 1  # the cookie serves for the other six files
        assert not any("Authorization" in request.headers for request in server.state.log)


def test_without_any_login_we_are_told_how_to_get_one(server: Server) -> None:
    with serving() as login:
        server.always(RED, faulty.redirect(login.href("/oauth")))
        with pytest.raises(AccessError, match=r"EARTHDATA_TOKEN.*netrc"):
            read_granule(granule_on(server), GRID, server.endpoint("cmr", login=login.netloc), patience=FAST)
        assert not login.state.log


def test_secrets_stay_out_of_errors_and_logs(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", "SECRET-token")
    caplog.set_level(logging.DEBUG, "vsat")
    granule = granule_on(server)
    signed = replace(granule, hrefs=tuple((band, f"{href}?sig=SECRET") for band, href in granule.hrefs))
    for fault in (faulty.status(500), faulty.reset, faulty.truncated(9), faulty.redirect("https://evil.org/?SECRET")):
        server.always(RED, fault)
        with pytest.raises(ReadError) as caught:
            read_granule(signed, GRID, server.endpoint("cmr"), patience=replace(FAST, attempts=2))
        error: BaseException | None = caught.value
        while error is not None:
            assert "SECRET" not in str(error)
            assert error.__suppress_context__ or error.__context__ is None
            error = error.__cause__
    assert "SECRET" not in caplog.text
    assert "SECRET" not in repr(reader.client_for(server.endpoint("cmr"), 0)._login)


# Keeping whole files


def test_verified_files_are_kept_until_the_granule_is_complete(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "TILE_PX", 48)
    server.always(RED, faulty.status(404))
    reason_of(server, scratch=tmp_path, threads=1)
    kept = len(list(tmp_path.glob("*.tif")))
    assert kept >= 2  # blue and green came before red failed
    before = len(server.state.log)
    server.state.always.clear()
    assert_good(read(server, scratch=tmp_path, threads=1))
    assert len(server.state.log) - before == 7 - kept
    assert not list(tmp_path.iterdir())


def test_a_kept_file_that_is_damaged_is_read_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "TILE_PX", 48)
    kept = tmp_path / reader._kept_name(granule_on(server), "red")
    kept.write_bytes(FILES_ONCE[RED][:-300])
    assert_good(read(server, scratch=tmp_path))


# Real files

REAL_GRID = TileGrid("10SFE", 32610, 705660.0, 3910860.0, 688, 138)


def real_files(shared_data: Path, name: str) -> dict[str, bytes]:
    return {f"/data/{name}/{path.name}": path.read_bytes() for path in (shared_data / "hls").glob(f"{name}.*.tif")}


@pytest.mark.real
def test_a_real_granule(shared_data: Path) -> None:
    name = "HLS.L30.T10SFE.2019253.v1.5"
    with serving(real_files(shared_data, name)) as server:
        scene = read_granule(granule_on(server, name), REAL_GRID, server.endpoint(), patience=FAST)
        part = replace(REAL_GRID, x0=705660.0 + 30 * 20, y0=3910860.0 - 30 * 300, height=50, width=60)
        small = read_granule(granule_on(server, name), part, server.endpoint(), patience=FAST)
    for index, band in enumerate(BANDS):
        with rasterio.open(shared_data / "hls" / f"{name}.{FILES['L30'][band]}.tif") as src:
            expected = src.read(1)
        expected[expected == -1000] = FILL
        np.testing.assert_array_equal(scene.refl_byx[index], expected)
        np.testing.assert_array_equal(small.refl_byx[index], expected[300:350, 20:80])
    with rasterio.open(shared_data / "hls" / f"{name}.Fmask.tif") as src:
        np.testing.assert_array_equal(scene.fmask_yx, src.read(1))
    assert (scene.refl_byx == FILL).any()
    assert (scene.fmask_yx != FMASK_FILL).mean() > 0.3


@pytest.mark.real
@pytest.mark.parametrize("size", [200, 3660])
def test_a_real_damaged_file_is_failed_not_empty(shared_data: Path, size: int) -> None:
    name = "HLS.L30.T19LBJ.2020239T144556.v2.0"
    damaged = real_files(shared_data, name)[f"/data/{name}/{name}.B01.tif"]
    grid = TileGrid("19LBJ", 32619, 199980.0, -1099980.0, size, size)
    files = {path_of(name, band): damaged for band in (*BANDS, "fmask")}
    with serving(files) as server, pytest.raises(ReadError, match="not a sound GeoTIFF") as caught:
        read_granule(granule_on(server, name), grid, server.endpoint(), patience=FAST)
    assert name in str(caught.value)


@pytest.mark.real
def test_a_real_cog_is_the_same_by_window_and_whole(shared_data: Path) -> None:
    """A true v2.0 COG with overviews, and the projection as NASA writes it."""
    for path in sorted((shared_data / "fmask").glob("*.tif")):
        data = path.read_bytes()
        layout = tiff.read_layout(data[: 1 << 18], len(data))
        assert len(layout.offsets) == 225
        with rasterio.open(path) as src:
            expected = src.read(1)
        for rows, cols in ((slice(0, 3660), slice(0, 3660)), (slice(1000, 1300), slice(3500, 3800))):
            got = np.full((rows.stop - rows.start, cols.stop - cols.start), 255, np.uint8)
            for k in layout.blocks(rows, cols):
                block = data[layout.offsets[k] : layout.offsets[k] + layout.sizes[k]]
                tiff.decode(layout, k, block, (rows, cols), got)
            np.testing.assert_array_equal(got[:, : 3660 - cols.start], expected[rows, cols])
