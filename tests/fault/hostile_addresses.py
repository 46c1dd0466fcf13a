"""Addresses that lead where nobody should be led: of files, in redirects, and by DNS."""

from typing import Any

from fault.hostile_world import Case, Setup, World, redirected

# By what they try. {port} is the neighbour's, {secret} and {image} are canaries, {site} is the listed host.
TARGETS = {
    "cloud metadata": "http://169.254.169.254/latest/meta-data/",
    "cloud metadata, https": "https://169.254.169.254/latest/meta-data/",
    "private 10": "http://10.0.0.1/x.tif",
    "private 192.168": "https://192.168.0.1/x.tif",
    "private 172.16": "https://172.16.0.1/x.tif",
    "neighbour": "http://127.0.0.1:{port}/secret",
    "neighbour, https": "https://127.0.0.1:{port}/secret",
    "neighbour by name": "http://localhost:{port}/secret",
    "neighbour, IPv6": "http://[::1]:{port}/secret",
    "neighbour, mapped IPv6": "http://[::ffff:127.0.0.1]:{port}/secret",
    "neighbour, any address": "http://0.0.0.0:{port}/secret",
    "neighbour, hexadecimal": "http://0x7f000001:{port}/secret",
    "neighbour, one number": "http://2130706433:{port}/secret",
    "neighbour, short": "http://127.1:{port}/secret",
    "neighbour, octal": "http://0177.0.0.1:{port}/secret",
    "neighbour, circled digits": "http://①②⑦.⓪.⓪.①:{port}/secret",
    "neighbour without scheme": "//127.0.0.1:{port}/secret",
    "neighbour behind a user name": "http://{site}@127.0.0.1:{port}/secret",
    "neighbour behind a fragment": "http://127.0.0.1:{port}/#@{site}/",
    "this machine without port": "http://127.0.0.1/secret",
    "file": "file://{secret}",
    "file with host": "file://{site}{secret}",
    "file, localhost": "file://localhost{secret}",
    "file in capitals": "FILE://{secret}",
    "path": "{secret}",
    "vsi curl": "/vsicurl/http://127.0.0.1:{port}/secret",
    "vsi curl behind the host": "http://{site}/vsicurl/http://127.0.0.1:{port}/secret",
    "vsi zip": "/vsizip/{secret}",
    "vsi stdin": "/vsistdin/",
    "ftp": "ftp://127.0.0.1:{port}/secret",
    "gopher": "gopher://127.0.0.1:{port}/_GET",
    "s3": "s3://bucket/secret",
    "data": "data:image/tiff;base64,SUkqAA==",
    "javascript": "javascript:alert(1)",
    "another host": "https://evil.example/x.tif",
    "host as a prefix": "http://{site}.evil.example/x.tif",
    "another port": "http://127.0.0.1:1/x.tif",
    "port too large": "http://127.0.0.1:99999/x.tif",
    "port no number": "http://127.0.0.1:x/x.tif",
    "half an IPv6": "http://[::1/x.tif",
    "a zone": "http://[fe80::1%25eth0]:{port}/x.tif",
    "backslashes": "http:\\\\127.0.0.1:{port}\\secret",
    "UNC": "\\\\127.0.0.1\\share\\x.tif",
}


def _href(value: Any) -> Setup:
    def setup(world: World) -> None:
        item = world.item()
        item["assets"]["B04"] = {"href": world.fill_in(value) if isinstance(value, str) else value}
        world.serve(item)

    return setup


_ODD: dict[str, Any] = {
    "none": None,
    "number": 5,
    "truth": True,
    "list": ["http://a"],
    "object": {"href": "http://a"},
    "empty": "",
    "blank": " ",
    "only a scheme": "http://",
    "only slashes": "///",
    "5000 long": "http://{site}/" + "a" * 5000,
    "a newline": "http://{site}/x\n.tif",
    "a header": "http://{site}/x HTTP/1.1\r\nX-Evil: 1",
    "a NUL": "http://{site}/x\0.tif",
    "up": "http://{site}/a/../../etc/passwd",
    "up, quoted": "http://{site}/%2e%2e/%2e%2e/etc/passwd",
    "up, quoted twice": "http://{site}/%252e%252e/etc/passwd",
    "a tab in the scheme": "ht\ttp://{site}/x.tif",
    "a surrogate": "http://{site}/\ud800.tif",
    "right to left": "http://{site}/\u202efit.x",
    "a user name": "http://me:word@{site}/x.tif",
    "relative": "./x.tif",
    "relative, up": "../../../etc/passwd",
    "absent": "http://{site}/nothing-here.tif",
    "a template": "http://{site}/${HOME}/$(id).tif",
}
# an address of the site itself is asked, and is not there
_HREF_TOLD = (
    r"no complete answer|red: HTTP 404|B04: (only|scheme|local address|port|host|an address|no address|no scheme)"
)

HREFS = [
    *(Case("href", name, _href(target), _HREF_TOLD) for name, target in TARGETS.items()),
    *(Case("href", name, _href(value), _HREF_TOLD) for name, value in _ODD.items()),
]
_LED = r"no complete answer: (the catalogue sends us|HTTP 404|no answer|the catalogue redirects)"
REDIRECTS = [
    *(
        Case("redirect of a file", name, redirected(None, target), r"red: (refused: |HTTP 404)")
        for name, target in TARGETS.items()
        if target.isascii()
    ),
    *(
        Case(
            "redirect of a search",
            name,
            redirected("/search", target),
            _LED,
        )
        for name, target in TARGETS.items()
        if target.isascii()
    ),
    *(
        Case("redirect of a catalogue", name, redirected("/", target), r"no complete answer")
        for name, target in TARGETS.items()
        if target.isascii()
    ),
    Case("redirect of a file", "in a circle", redirected(None, "/HLSL30.020/a.tif"), "HTTP 404"),
    Case("redirect of a search", "in a circle", redirected("/search", "/search?x=1"), "redirects in a circle"),
    Case("redirect of a search", "empty", redirected("/search", ""), "redirects in a circle|no complete answer"),
]

# What a listed name may lead to.
PRIVATE_ADDRESSES = (
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "10.255.255.254",
    "172.16.0.1",
    "172.31.255.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "fe80::1",
    "fd00::1",
    "fc00::1",
    "ff02::1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "2002:a00:1::",
    "2002:7f00:1::",
    "2001:db8::1",
)
