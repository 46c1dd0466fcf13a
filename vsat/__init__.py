"""A virtual satellite: cloud-free HLS reflectance with honest uncertainty for any date, seen or not.

The names below are all of the public interface; each is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsat.config import Region, load_region
    from vsat.errors import VsatError
    from vsat.io.cube import open_cube
    from vsat.io.exchange import load_cube
    from vsat.io.images import open_images
    from vsat.stages.fetch import fetch
    from vsat.stages.fill import predict
    from vsat.stages.generate import generate

__version__ = "0.1.0"
__all__ = [
    "Region", "VsatError", "__version__", "fetch", "generate", "load_cube", "load_region", "open_cube", "open_images",
    "predict",
]  # fmt: skip

_HOMES = {
    "Region": "vsat.config",
    "VsatError": "vsat.errors",
    "fetch": "vsat.stages.fetch",
    "generate": "vsat.stages.generate",
    "load_cube": "vsat.io.exchange",
    "load_region": "vsat.config",
    "open_cube": "vsat.io.cube",
    "open_images": "vsat.io.images",
    "predict": "vsat.stages.fill",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vsat' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
