"""What can be known of credentials without using them: where they are, and until when they hold. Never the secret."""

import base64
import binascii
import json
import netrc
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

TOKEN = "EARTHDATA_TOKEN"  # noqa: S105 - the name of it
LOGIN_HOST = "urs.earthdata.nasa.gov"
EARTHDATA_STEP = (
    "make a token at https://urs.earthdata.nasa.gov (Generate Token) and set EARTHDATA_TOKEN, "
    "or put 'machine urs.earthdata.nasa.gov login NAME password WORD' into ~/.netrc"
)


@dataclass(frozen=True)
class Token:
    """What EARTHDATA_TOKEN says of itself.

    Attributes:
        is_token: False where it has not the form of one, three parts of base64 with dots between.
        ends: moment (UTC) after which it is refused, None if it names none.
    """

    is_token: bool
    ends: datetime | None

    def told(self) -> str:
        """One line for people, which is true at any time."""
        if not self.is_token:
            return f"{TOKEN} has not the form of a token"
        return f"{TOKEN} holds until {self.ends:%Y-%m-%d %H:%M} UTC" if self.ends else f"{TOKEN} names no end"


def earthdata_token() -> Token | None:
    """What the environment's token says; None without one."""
    text = os.environ.get(TOKEN, "").strip()
    return read_token(text) if text else None


def read_token(text: str) -> Token:
    """The end of a JSON Web Token (RFC 7519, `exp`), whose signature only its maker can check."""
    parts = text.split(".")
    if len(parts) != 3:
        return Token(False, None)
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end = claims.get("exp")
        return Token(True, datetime.fromtimestamp(float(end), UTC) if end is not None else None)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError, binascii.Error):
        return Token(False, None)


def netrc_path() -> Path:
    """The file that NETRC names, else ~/.netrc."""
    return Path(os.environ.get("NETRC") or Path.home() / ".netrc")


def netrc_login(host: str) -> tuple[str, str]:
    """Name and password for a host from that file, or two empty texts."""
    try:
        entry = netrc.netrc(netrc_path()).hosts.get(host) if host else None
    except (OSError, netrc.NetrcParseError):
        return "", ""
    return (entry[0], entry[2] or "") if entry else ("", "")
