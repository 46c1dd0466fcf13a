"""Weights and configuration of a checkpoint, read as if a stranger had written them: numbers and names, nothing that runs.

Only `model.safetensors`, `config.json` and `calibration.json` are looked at, each a plain file of the folder itself. What
transformers would follow besides (pickles, indices of files elsewhere, adapters, quantisation, remote code) is not there.
"""

import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2Model

from vsat.errors import InputError
from vsat.model import CONFIG, WEIGHTS
from vsat.model.anydate import BACKBONES, AnyDate, AnyDateConfig, new_model
from vsat.model.tokens import NUMBER_KINDS

NEXT_STEP = "name a folder that training has written, or a hub id; vsat train makes one"
_NONE = "no any-date checkpoint: "
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_MOST_JSON = 1 << 20
_LIMITS = {"width": (8, 4096), "layers": (1, 64), "heads": (1, 64), "patch_px": (1, 16)}
_CHOICES: dict[str, tuple[Any, ...]] = {
    "backbone": BACKBONES,
    "numbers": tuple(NUMBER_KINDS),
    "evidence": (True, False),
    "scene": (True, False),
}
_LEAST_PHASES = 4  # of a head with rotary phases: three for the year, and one of the geometric row


def folder_of(source: str | Path, *, optional: tuple[str, ...] = ()) -> Path:
    """The folder with the checkpoint's files: the one named, or the hub's snapshot of that id.

    Raises:
        InputError: there is no such folder, and the text is no hub id, or the hub has none.
    """
    if Path(source).is_dir():
        return Path(source)
    if not _HUB_ID.fullmatch(str(source)):
        raise told("there is no such folder", source)
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(str(source), CONFIG)
        cached_file(str(source), WEIGHTS)
        for name in optional:
            cached_file(str(source), name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        raise told((str(error).splitlines() or ["the hub does not answer"])[0], source) from error
    assert found is not None
    return Path(found).parent


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The object in one of the folder's small files.

    Raises:
        InputError: it is not there, not in the folder, too large, or no JSON of an object.
    """
    path = plain_file(folder, name)
    try:
        if path.stat().st_size > _MOST_JSON:
            raise told(f"{name} has more than {_MOST_JSON:,} bytes", folder)
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise told(f"{name} cannot be read: {type(error).__name__}", folder) from error
    if not isinstance(found, dict):
        raise told(f"{name} holds no JSON object", folder)
    return found


def plain_file(folder: Path, name: str) -> Path:
    """Where a file of the folder really lies; the hub's own cache has links, and they stay within it.

    Raises:
        InputError: it is not there, no plain file, or a link to elsewhere.
    """
    try:
        path = (folder / name).resolve(strict=True)
        is_file = stat.S_ISREG(path.stat().st_mode)
    except (OSError, RuntimeError) as error:
        raise told(f"there is no {name}", folder) from error
    inside = folder.resolve()
    allowed = inside.parent.parent / "blobs" if inside.parent.name == "snapshots" else inside
    if not is_file or not (path.is_relative_to(inside) or path.is_relative_to(allowed)):
        raise told(f"{name} is no plain file of it", folder)
    return path


def config_in(folder: Path) -> AnyDateConfig:
    """What the model is built from, each value in its range; keys that are not ours are passed over.

    Raises:
        InputError: it is of another kind of model, or a value is out of range.
    """
    found = read_json(folder, CONFIG)
    if (kind := found.get("model_type")) != AnyDateConfig.model_type:
        raise told(f"{CONFIG} is of a model of type {str(kind)[:80]!r}", folder)
    known: dict[str, Any] = {name: found[name] for name in _LIMITS if name in found}
    for name, value in known.items():
        least, most = _LIMITS[name]
        if type(value) is not int or not least <= value <= most:
            raise told(f"{name} is {str(value)[:80]}, and goes from {least} to {most}", folder)
    for name, choices in _CHOICES.items():
        if name in found:
            if type(found[name]) is not type(choices[0]) or found[name] not in choices:
                raise told(f"{name} is {str(found[name])[:80]!r}", folder)
            known[name] = found[name]
    config = AnyDateConfig(**known)
    size, rest = divmod(config.width, config.heads)
    if rest or (config.backbone == "llama" and (size % 2 or size // 2 < _LEAST_PHASES)):
        raise told(f"{config.heads} heads share no width of {config.width}", folder)
    return config


def weights_in(folder: Path, wanted: Mapping[str, Tensor], *, prefix: str = "") -> dict[str, Tensor]:
    """The weights of these names, in float32, finite, and of these shapes; `prefix` may stand before their names.

    Raises:
        InputError: the file cannot be read, a weight is missing, has another shape or type, or is no number.
    """
    path = plain_file(folder, WEIGHTS)
    try:
        found = {name.removeprefix(prefix): value for name, value in load_file(path).items()}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError, SafetensorError) as error:
        raise told((str(error).splitlines() or [type(error).__name__])[0], folder) from error
    absent = sorted(set(wanted) - set(found))
    if absent:
        raise told(f"{len(absent)} of its weights are missing, such as {absent[0]}", folder)
    made = {}
    for name, like in wanted.items():
        value = found[name]
        if value.shape != like.shape:
            raise told(f"{name} has the shape {tuple(value.shape)}, and the model {tuple(like.shape)}", folder)
        if not value.dtype.is_floating_point or value.dtype.itemsize < 2 or not bool(torch.isfinite(value).all()):
            raise told(f"{name} holds what is no number", folder)
        made[name] = value.to(torch.float32)
    return made


def read_model(source: str | Path, folder: Path) -> AnyDate:
    """The model of a folder, built from its configuration and holding its weights.

    Raises:
        InputError: as `config_in` and `weights_in`, or the weights are too few for what the configuration declares.
    """
    config = config_in(folder)
    # at least the square matrices of attention, 2 bytes a weight: nothing is built that the file cannot fill
    needed = config.layers * 4 * config.width**2 * 2
    if (size := plain_file(folder, WEIGHTS).stat().st_size) < needed:
        raise told(f"{WEIGHTS} has {size:,} bytes, a model of this configuration at least {needed:,}", source)
    model = new_model(config, seed=0)
    model.load_state_dict(weights_in(folder, model.state_dict()))
    return model


def take_gpt2(model: AnyDate, source: str) -> None:
    """The backbone's layers get the weights of a GPT-2 of the same shape, such as distilgpt2 for size base.

    Args:
        model: with backbone "gpt2".
        source: folder or hub id of a GPT2Model.

    Raises:
        InputError: there is none, it has another shape, or the model has another backbone.
    """
    if not isinstance(model.backbone, GPT2Model):
        step = "choose backbone gpt2"
        raise InputError("a LlamaModel takes no weights of GPT-2", place="backbone", next_step=step)
    mine = model.backbone.config
    try:
        folder = folder_of(source)
        theirs = read_json(folder, CONFIG)
        for name in ("n_embd", "n_layer", "n_head"):
            if theirs.get(name) != getattr(mine, name):
                problem = f"{name} is {str(theirs.get(name))[:80]}, and {getattr(mine, name)} in the model"
                raise InputError(problem, place=source, next_step="choose the size of that shape: base for distilgpt2")
        # words and places have no use here
        wanted = {k: value for k, value in model.backbone.state_dict().items() if not k.startswith(("wte", "wpe"))}
        layers = weights_in(folder, wanted, prefix="transformer.")
    except InputError as error:
        if not error.problem.startswith(_NONE):
            raise
        step = "name a folder with a GPT2Model and its model.safetensors, or its hub id"
        raise InputError(f"no GPT-2: {error.problem.removeprefix(_NONE)}", place=source, next_step=step) from error
    model.backbone.load_state_dict(layers, strict=False)


def told(problem: str, source: str | Path) -> InputError:
    """The error of a checkpoint that is none."""
    return InputError(f"{_NONE}{problem}", place=str(source), next_step=NEXT_STEP)
