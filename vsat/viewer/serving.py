"""The viewer as a server on this machine: which regions, at which address, until it is stopped."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from vsat.config import Region
from vsat.errors import InputError, VsatError
from vsat.settings import Settings
from vsat.viewer.app import create_app

MOST_CONNECTIONS = 200


def region_files() -> list[Path]:
    """Every region file of the folder of region files, sorted.

    Raises:
        InputError: there is none.
    """
    folder = Settings.from_environment().regions
    found = sorted(folder.glob("*.yaml"))
    if not found:
        step = "name a region file, write one with vsat init, or say with VSAT_REGIONS where they are"
        raise InputError("there is no region file", place=str(folder), next_step=step)
    return found


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at this address, so that who comes before all is ready waits; 0 takes a free port.

    Raises:
        VsatError: the port is taken, or the address is none of this machine's.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(MOST_CONNECTIONS)
    except (OSError, UnicodeError) as error:
        listener.close()
        step = "stop what listens there, or give another with --port"
        raise VsatError(f"nothing can listen at port {port}: {error}", place=host, next_step=step) from error
    return listener


def run(regions: Sequence[Region], listener: socket.socket) -> None:
    """Serve the regions at a bound socket until the process is asked to stop.

    Raises:
        InputError: two regions have one name.
    """
    names = [region.name for region in regions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        step = "name each region once, or give one of them another name"
        raise InputError(f"two regions are named {', '.join(twice)}", next_step=step)
    config = uvicorn.Config(
        create_app(regions), log_level="warning", access_log=False, server_header=False, lifespan="off",
        limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=5,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has stopped
        uvicorn.Server(config).run(sockets=[listener])
