"""A process that holds the lease of fetch until it is told to stop, or killed; of its own, so that spawn finds it."""

from multiprocessing.connection import Connection

from vsat.io.ledger import lease
from vsat.objects import StorePath


def hold_lease(home: StorePath, pipe: Connection) -> None:
    with lease(home, "fetch"):
        pipe.send("held")
        pipe.recv()
