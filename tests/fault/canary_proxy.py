"""NASA's and Microsoft's hosts by their real names, behind a proxy on loopback that wants a password.

Programs find it by HTTPS_PROXY and trust it by REQUESTS_CA_BUNDLE, as in a company's network: a login is really sent to
the login host, an address is really signed, and nothing leaves this machine.
"""

import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fault.canary_servers import FIRST, LAST
from faulty import Catalogue, Handler, root

from vsat.config import load_region
from vsat.io import archive

CATALOGUES = {"cmr.earthdata.nasa.gov": "/stac/LPCLOUD", "planetarycomputer.microsoft.com": "/api/stac/v1"}
NASA_FILES, NASA_LOGIN = "data.lpdaac.earthdatacloud.nasa.gov", "urs.earthdata.nasa.gov"
BLOBS = "hls2euwest.blob.core.windows.net"
HOSTS = (*CATALOGUES, NASA_FILES, NASA_LOGIN, BLOBS)
USER = "somebody"


class _Proxy(Handler):
    """A proxy that is all the hosts itself. `planted` are the secrets, `items` and `files` what the hosts have."""

    planted: Mapping[str, str]
    tls: ssl.SSLContext
    items: list[dict[str, Any]]
    files: Mapping[str, bytes]
    asked: set[str]

    def do_CONNECT(self) -> None:  # noqa: N802 - the name that http.server looks for
        """A tunnel, at the end of which the hosts answer."""
        login = b64encode(f"{USER}:{self.planted['PROXY_PASSWORD']}".encode()).decode()
        if self.headers.get("Proxy-Authorization") != f"Basic {login}":
            self.answer(407, f"{self.path} wants another login than {self.headers}".encode())
            return
        self.asked.add("PROXY_PASSWORD")
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
        self.close_connection = False  # it was asked with HTTP/1.0

    def do_GET(self) -> None:  # noqa: N802
        """What a host answers."""
        host = self.headers.get("Host", "").partition(":")[0]
        url = urlsplit(self.path)
        if host == NASA_LOGIN:
            self._log_in(url.query)
        elif host == NASA_FILES:
            self._file_of_nasa(url.path)
        elif host == BLOBS:
            self._blob(url.path, url.query)
        elif url.path.startswith("/api/sas/"):
            token = {"msft:expiry": "2099-01-01T00:00:00Z", "token": f"sv=1&sig={self.planted['SAS_TOKEN']}"}
            self._tell(token)
        else:
            self._search(host, url.query)

    def _file_of_nasa(self, path: str) -> None:
        if f"session={self.planted['SERVER_SESSION']}" in self.headers.get("Cookie", ""):
            self.asked.add("SERVER_SESSION")
            self.send_good(self.files[path], {})
        elif given := self.headers.get("Authorization"):
            self.asked |= {"EARTHDATA_TOKEN"} if self.planted["EARTHDATA_TOKEN"] in given else set()
            self.answer(401, f"this has ended: {given}".encode())
        else:
            self.answer(302, b"", {"Location": f"https://{NASA_LOGIN}/oauth/authorize?back=https://{NASA_FILES}{path}"})

    def _log_in(self, query: str) -> None:
        login = b64encode(f"{USER}:{self.planted['NETRC_PASSWORD']}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {login}":
            self.answer(401, f"not {self.headers.get('Authorization')}".encode())
            return
        self.asked.add("NETRC_PASSWORD")
        cookie = f"session={self.planted['SERVER_SESSION']}; Domain=.nasa.gov; Path=/; Secure"
        self.answer(302, b"", {"Location": parse_qs(query)["back"][0], "Set-Cookie": cookie})

    def _blob(self, path: str, query: str) -> None:
        if self.planted["SAS_TOKEN"] in query:
            self.asked.add("SAS_TOKEN")
            self.send_good(self.files[path], {})
        else:
            self.answer(409, f"not with {query}".encode())

    def _search(self, host: str, query: str) -> None:
        base, files = f"https://{host}{CATALOGUES[host]}", BLOBS if host.startswith("planetary") else NASA_FILES
        if not self.path.startswith(f"{CATALOGUES[host]}/search"):
            self._tell(root(base))
            return
        text = json.dumps(self.items).replace("archive:/", f"https://{files}/blobs")
        if files == BLOBS:
            text = text.replace("HLSL30_2.0", "hls2-l30").replace("HLSS30_2.0", "hls2-s30")
        asked = {key: values[-1] for key, values in parse_qs(query).items()}
        self._tell(Catalogue(json.loads(text))({**asked, "host": base}))

    def _tell(self, answer: Any) -> None:
        self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})


class _Threads(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def proxied(secret: Path, made: Path, planted: Mapping[str, str]) -> Iterator[tuple[dict[str, str], set[str]]]:
    """What the environment names to come out by the proxy, and the secrets that it was really asked with.

    Args:
        secret: a folder that is not searched, for keys.
        made: a region file whose archive the hosts have.
        planted: PROXY_PASSWORD, NETRC_PASSWORD, SERVER_SESSION, SAS_TOKEN, EARTHDATA_TOKEN.
    """
    folder = load_region(made).catalogue.path
    assert folder is not None
    items = [item for item in archive.items(folder) if FIRST <= item["properties"]["datetime"][:10] <= LAST]
    files = {f"/blobs/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.tif")}
    files |= {
        path.replace("HLSL30_2.0", "hls2-l30").replace("HLSS30_2.0", "hls2-s30"): data for path, data in files.items()
    }
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(_certificate(secret))
    asked: set[str] = set()
    kind = type("Bound", (_Proxy,), {"planted": planted, "tls": tls, "items": items, "files": files, "asked": asked})
    with _Threads(("127.0.0.1", 0), kind) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        place = f"http://{USER}:{planted['PROXY_PASSWORD']}@127.0.0.1:{http.server_address[1]}"
        bundle = str(secret / "certificate.pem")
        try:
            yield {"HTTPS_PROXY": place, "REQUESTS_CA_BUNDLE": bundle, "NO_PROXY": "127.0.0.1,localhost"}, asked
        finally:
            http.shutdown()
            thread.join(5)


def _certificate(folder: Path) -> Path:
    """Key and certificate of all the hosts in one file, which is also what is to be trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vsat tests")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
