"""The trained model behind a method's name."""

import hashlib
import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import vsat.model
from vsat.errors import InputError
from vsat.methods import ANYDATE, is_trained
from vsat.model import CALIBRATION, WEIGHTS
from vsat.settings import Settings

if TYPE_CHECKING:
    from vsat.model.checkpoint import Checkpoint

SHIPPED = Path(vsat.model.__file__).parent / "weights" / "anydate-tiny"

_loading = threading.Lock()
_beside = [0]  # jobs side by side on this machine, where a cluster has told; 0 where the stage has made room itself


def model_of(method: str) -> "Checkpoint":
    """The checkpoint that "anydate" or "anydate:<folder or hub id>" names; threads of one process share one.

    Raises:
        InputError: it is not there, or torch is not installed.
    """
    try:
        from vsat.model.checkpoint import load_checkpoint  # here, for torch takes seconds to import
    except ModuleNotFoundError as error:
        step = 'pip install "vsat[model]", or choose a classical method'
        raise InputError(f"{method} needs {error.name}", place="method", next_step=step) from error
    if _beside[0]:
        _share_cores(method, _beside[0])
    with _loading:  # else threads that begin together would each load their own
        return load_checkpoint(_source(method))


def weights_of(method: str) -> str:
    """What tells two checkpoints of one name apart: a hash of a folder's weights and calibration, else ""."""
    folder = Path(_source(method))
    if not is_trained(method) or not folder.is_dir():
        return ""
    total = hashlib.sha256()
    for path in (folder / WEIGHTS, folder / CALIBRATION):
        total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()


def make_room(method: str, jobs: int) -> None:
    """Where the method is a model and works here: so many jobs side by side leave one another their cores."""
    if not Settings.from_environment().dask_scheduler:
        _share_cores(method, jobs)


def _share_cores(method: str, jobs: int) -> None:
    if jobs > 0 and is_trained(method) and importlib.util.find_spec("torch") is not None:
        from vsat.model.cores import share_cores

        share_cores(jobs)


def share_model(jobs: int) -> None:
    """From now on so many jobs are at work side by side on this machine; torch is not imported for it."""
    _beside[0] = jobs


def label(method: str) -> str:
    """A method's name for products and reports: a checkpoint goes by its folder's name, not by where it lies."""
    return f"{ANYDATE}:{Path(_source(method)).name}" if is_trained(method) else method


def _source(method: str) -> str:
    return method.removeprefix(ANYDATE).removeprefix(":") or str(SHIPPED)
