"""Checkpoints that nobody means well with, for `anydate:FOLDER`, `--init`, `--gpt2` and the pointer of a region."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fault.confined import Case, Place, resealed
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2Model

from vsat.model import CALIBRATION, CONFIG, WEIGHTS
from vsat.model.anydate import AnyDateConfig, new_model
from vsat.model.checkpoint import load_checkpoint
from vsat.model.folders import take_gpt2
from vsat.model.rehearsal import Stretch
from vsat.stages.promotion import method_of, read_pointer

SMALL = {"width": 16, "layers": 1, "heads": 2}

Build = Callable[[Place], Path]
Change = Callable[[Path, Place], object]


def load(folder: Path) -> object:
    """What `vsat fill --method anydate:FOLDER` does with it."""
    return load_checkpoint(folder, device="cpu")


def begin(folder: Path) -> object:
    """What `vsat train --gpt2 FOLDER` does with it."""
    take_gpt2(new_model(AnyDateConfig(**SMALL, backbone="gpt2"), seed=0), str(folder))  # type: ignore[arg-type]
    return None


def point(home: Path) -> object:
    """What every plan of a region with checkpoints of its own does with its pointer."""
    return load_checkpoint(method_of(home, read_pointer(home).current).removeprefix("anydate:"), device="cpu")


def folder(change: Change = lambda folder, place: None) -> Build:
    """A sound checkpoint, changed."""

    def build(place: Place) -> Path:
        made, sound = place.folder / "checkpoint", place.folder.parent / "sound"
        if not sound.exists():
            new_model(AnyDateConfig(**SMALL), seed=0).save_pretrained(sound)  # type: ignore[arg-type]
            (sound / CALIBRATION).write_text(json.dumps(asdict(Stretch.none())))
        shutil.copytree(sound, made)
        change(made, place)
        return made

    return build


def config(**changes: Any) -> Build:
    def change(made: Path, place: Place) -> None:
        told = json.loads((made / CONFIG).read_text()) | changes
        (made / CONFIG).write_text(
            json.dumps(told).replace("{outside}", str(place.outside)).replace("{url}", place.url)
        )

    return folder(change)


def put(name: str, content: str | bytes) -> Build:
    return folder(lambda made, _: (made / name).write_bytes(content.encode() if isinstance(content, str) else content))


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Build:
    def rewritten(made: Path, _: Place) -> None:
        found = load_file(made / WEIGHTS)
        change(found)
        save_file(found, made / WEIGHTS, {"format": "pt"})

    return folder(rewritten)


def first(found: dict[str, torch.Tensor]) -> str:
    return next(name for name in sorted(found) if found[name].ndim == 2)


def value(number: float) -> Build:
    return weights(lambda found: found[first(found)].view(-1).__setitem__(3, number))


def header(told: Any, *, length: int | None = None, body: bytes = b"") -> Build:
    """A file of weights with this header."""
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return put(WEIGHTS, struct.pack("<Q", len(text) if length is None else length) + text + body)


class Makes:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.open, (self._path, os.O_CREAT | os.O_WRONLY)


def pickled(name: str, *, alone: bool = True) -> Build:
    def change(made: Path, place: Place) -> None:
        if alone:
            (made / WEIGHTS).unlink()
        (made / name).write_bytes(pickle.dumps({"a": Makes(str(place.outside / "made"))}))

    return folder(change)


def torch_saved(made: Path, place: Place) -> None:
    (made / WEIGHTS).unlink()
    torch.save({"a": Makes(str(place.outside / "made"))}, made / "pytorch_model.bin")


def index_elsewhere(made: Path, place: Place) -> None:
    """Weights in parts, the parts elsewhere."""
    shutil.copy(made / WEIGHTS, place.outside / "secret.safetensors")
    names = list(load_file(made / WEIGHTS))
    (made / WEIGHTS).unlink()
    told = {"metadata": {}, "weight_map": dict.fromkeys(names, "../../outside/secret.safetensors")}
    (made / f"{WEIGHTS}.index.json").write_text(json.dumps(told))


def remote_code(made: Path, place: Place) -> None:
    (made / "modeling_evil.py").write_text(f"open({str(place.outside / 'made')!r}, 'w')\nclass Evil: pass\n")
    told = json.loads((made / CONFIG).read_text())
    told["auto_map"] = {"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"}
    (made / CONFIG).write_text(json.dumps(told))


def adapter(made: Path, place: Place) -> None:
    told = {"peft_type": "LORA", "base_model_name_or_path": str(place.outside), "task_type": None}
    (made / "adapter_config.json").write_text(json.dumps(told))


def linked(name: str, target: str) -> Build:
    def change(made: Path, place: Place) -> None:
        shutil.copy(made / name, place.outside / name)
        (made / name).unlink()
        if target == "fifo":
            os.mkfifo(made / name)
        elif target == "folder":
            (made / name).mkdir()
        else:
            (made / name).symlink_to(place.outside / name if target == "outside" else target)

    return folder(change)


def snapshot(place: Place) -> Path:
    """As the hub's own cache keeps it: links to files named by their hash."""
    made = folder()(place)
    blobs, kept = place.folder / "models--a--b/blobs", place.folder / "models--a--b/snapshots/0123"
    blobs.mkdir(parents=True)
    kept.mkdir(parents=True)
    for n, path in enumerate(sorted(made.iterdir())):
        path.rename(blobs / f"{n:040x}")
        (kept / path.name).symlink_to(Path("../../blobs") / f"{n:040x}")
    return kept


def calibration(**changes: Any) -> Build:
    return put(CALIBRATION, json.dumps(asdict(Stretch.none()) | changes))


def gpt2(change: Change = lambda folder, place: None, **shape: int) -> Build:
    def build(place: Place) -> Path:
        made = place.folder / "gpt2"
        options = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 8, "n_positions": 8} | shape
        GPT2Model(GPT2Config(**options, bos_token_id=0, eos_token_id=0)).save_pretrained(made)
        change(made, place)
        return made

    return build


def rewritten(name: str, **changes: Any) -> Change:
    return lambda made, _: (made / name).write_text(json.dumps(json.loads((made / name).read_text()) | changes))


def pointer(content: Any) -> Build:
    """A region's home whose pointer says this; a sound checkpoint lies outside, another in its place."""

    def build(place: Place) -> Path:
        home = place.folder / "home"
        (home / "models").mkdir(parents=True)
        made = folder()(place)
        if not (place.outside / "model").exists():
            shutil.copytree(made, place.outside / "model")
        made.rename(home / "models/2024-05-05")
        text = (content if isinstance(content, str) else json.dumps(content)).replace("{outside}", str(place.outside))
        (home / "models/current.json").write_bytes(resealed(text))
        return home

    return build


FACTORS = np.ones((2, 6, 3, 2)).tolist()
CASES: list[tuple[str, Build, Callable[[Path], object], str]] = [
    ("sound", folder(), load, "fine"),
    ("as the hub's cache keeps it", snapshot, load, "fine"),
    # code
    ("weights as a pickle", pickled("pytorch_model.bin"), load, "refused"),
    ("a pickle beside the weights", pickled("pytorch_model.bin", alone=False), load, "fine"),
    ("a pickle with the weights' name", pickled(WEIGHTS, alone=False), load, "refused"),
    ("a pickle with the configuration's name", pickled(CONFIG, alone=False), load, "refused"),
    ("weights of torch.save", folder(torch_saved), load, "refused"),
    ("weights of Flax", pickled("flax_model.msgpack"), load, "refused"),
    ("weights of TensorFlow", pickled("tf_model.h5"), load, "refused"),
    ("optimiser's state as a pickle beside", pickled("optimizer.pt", alone=False), load, "fine"),
    ("remote code (auto_map)", folder(remote_code), load, "fine"),
    ("an adapter of another model", folder(adapter), load, "fine"),
    ("quantised by a package", config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), load, "fine"),
    ("attention from elsewhere", config(_attn_implementation="{outside}/kernel", attn_implementation="org/kernel"), load, "fine"),
    ("a parent elsewhere", config(_name_or_path="{url}", base_model_name_or_path="{outside}"), load, "fine"),
    ("a configuration from elsewhere", config(configuration_files=["config.{outside}.json"]), load, "fine"),
    # files elsewhere
    ("an index of weights elsewhere", folder(index_elsewhere), load, "refused"),
    ("weights by a link", linked(WEIGHTS, "outside"), load, "refused"),
    ("configuration by a link", linked(CONFIG, "outside"), load, "refused"),
    ("calibration by a link", linked(CALIBRATION, "outside"), load, "refused"),
    ("weights from a device", linked(WEIGHTS, "/dev/zero"), load, "refused"),
    ("configuration from a device", linked(CONFIG, "/dev/zero"), load, "refused"),
    ("weights from a pipe", linked(WEIGHTS, "fifo"), load, "refused"),
    ("configuration from a pipe", linked(CONFIG, "fifo"), load, "refused"),
    ("calibration from a pipe", linked(CALIBRATION, "fifo"), load, "refused"),
    ("weights that are a folder", linked(WEIGHTS, "folder"), load, "refused"),
    ("no folder but a path that climbs", lambda place: Path("../outside/none"), load, "refused"),
    ("no folder but an address", lambda place: Path(place.url), load, "refused"),
    ("a name with a zero byte", lambda place: Path("a\0b"), load, "refused"),
    ("a name with an escape sequence", lambda place: Path("\x1b[2J"), load, "refused"),
    # sizes
    ("a width of 10**6", config(width=10**6), load, "refused"),
    ("a width of 4096", config(width=4096, heads=64), load, "refused"),
    ("10**9 layers", config(layers=10**9), load, "refused"),
    ("64 layers of 4096", config(layers=64, width=4096), load, "refused"),
    ("a width of 0", config(width=0), load, "refused"),
    ("a width of -16", config(width=-16), load, "refused"),
    ("a width of 1e308", config(width=1e308), load, "refused"),
    ("a width of 10**400", config(width=10**400), load, "refused"),
    ("a width of text", config(width="16"), load, "refused"),
    ("true layers", config(layers=True), load, "refused"),
    ("3 heads of 16", config(heads=3), load, "refused"),
    ("more heads than width", config(heads=17), load, "refused"),
    ("patches of 10**5 pixels", config(patch_px=10**5), load, "refused"),
    ("10**9 labels", config(num_labels=10**9), load, "fine"),
    ("10**9 return values", config(max_length=10**18, vocab_size=10**18), load, "fine"),
    ("a backbone nobody has", config(backbone="os.system"), load, "refused"),
    ("a backbone that is a list", config(backbone=["llama"]), load, "refused"),
    ("numbers nobody has", config(numbers={"a": 1}), load, "refused"),
    ("evidence as text", config(evidence="yes"), load, "refused"),
    ("another kind of model", config(model_type="llama"), load, "refused"),
    ("a kind of model of 100,000 letters", config(model_type="\x1b[2J" * 20_000), load, "refused"),
    ("configuration 100,000 deep", put(CONFIG, "[" * 100_000), load, "refused"),
    ("configuration of 20 MB", put(CONFIG, '{"a": "' + "x" * 20_000_000 + '"}'), load, "refused"),
    ("configuration of nothing", put(CONFIG, ""), load, "refused"),
    ("configuration that is a list", put(CONFIG, "[]"), load, "refused"),
    ("configuration of no UTF-8", put(CONFIG, b"\xff\xfe\x00"), load, "refused"),
    # weights
    ("a header of 2**60 bytes", header({}, length=1 << 60), load, "refused"),
    ("a header of 200 MB that are not there", header({}, length=200 << 20), load, "refused"),
    ("a shape of 2**62", header({"a": {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 4]}}, body=bytes(4)), load, "refused"),
    ("shapes that overflow", header({"a": {"dtype": "F32", "shape": [1 << 32, 1 << 32], "data_offsets": [0, 0]}}), load, "refused"),
    ("offsets beyond the end", header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, body=bytes(4)), load, "refused"),
    ("offsets that go back", header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, body=bytes(4)), load, "refused"),
    ("negative offsets", header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, body=bytes(4)), load, "refused"),
    ("a dtype nobody has", header({"a": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}}, body=bytes(4)), load, "refused"),
    ("a header 100,000 deep", header(b"[" * 100_000), load, "refused"),
    ("a header of no JSON", header(b"\xff" * 64), load, "refused"),
    ("weights of nothing", put(WEIGHTS, b""), load, "refused"),
    ("weights of 4 bytes", put(WEIGHTS, b"1234"), load, "refused"),
    ("a weight NaN", value(float("nan")), load, "refused"),
    ("a weight infinite", value(float("inf")), load, "refused"),
    ("a weight missing", weights(lambda found: found.pop(first(found))), load, "refused"),
    ("a weight too many", weights(lambda found: found.update(evil=torch.zeros(3))), load, "fine"),
    ("a weight of another shape", weights(lambda found: found.update({first(found): torch.zeros(3, 3)})), load, "refused"),
    ("weights as whole numbers", weights(lambda found: found.update(
        {name: one.to(torch.int8) for name, one in found.items()})), load, "refused"),
    ("weights as complex numbers", weights(lambda found: found.update({first(found): torch.zeros(
        found[first(found)].shape, dtype=torch.complex64)})), load, "refused"),
    ("weights in half precision", weights(lambda found: found.update(
        {name: one.to(torch.float16) for name, one in found.items()})), load, "fine"),
    ("names with control characters", weights(lambda found: found.update({"\x1b[2J": torch.zeros(1)})), load, "fine"),
    # calibration
    ("stretches NaN", put(CALIBRATION, '{"factors": NaN, "dates": []}'), load, "refused"),
    ("stretches infinite", calibration(factors=np.full((2, 6, 3, 2), np.inf).tolist()), load, "refused"),
    ("stretches negative", calibration(factors=np.full((2, 6, 3, 2), -1.0).tolist()), load, "refused"),
    ("stretches of another shape", calibration(factors=[[1]]), load, "refused"),
    ("stretches that are ragged", calibration(factors=[[1], [1, 2]]), load, "refused"),
    ("stretches of texts", calibration(factors=np.full((2, 6, 3, 2), "1e999").tolist()), load, "refused"),
    ("stretches missing", put(CALIBRATION, "{}"), load, "refused"),
    ("calibration 100,000 deep", put(CALIBRATION, '{"factors": ' + "[" * 100_000), load, "refused"),
    ("calibration of 5 MB", put(CALIBRATION, json.dumps({"factors": FACTORS, "dates": [[0] * 3] * 2, "x": "y" * 5_000_000})), load, "refused"),
    ("dates of 10**400", calibration(dates=[[10**400] * 3] * 2), load, "refused"),
    # GPT-2
    ("GPT-2: sound", gpt2(), begin, "fine"),
    ("GPT-2: as a pickle", gpt2(lambda made, place: (
        (made / WEIGHTS).unlink(), torch.save({"a": Makes(str(place.outside / "made"))}, made / "pytorch_model.bin"))), begin, "refused"),
    ("GPT-2: 10**9 layers", gpt2(rewritten(CONFIG, n_layer=10**9)), begin, "refused"),
    ("GPT-2: 10**12 words", gpt2(rewritten(CONFIG, vocab_size=10**12, n_positions=10**12)), begin, "fine"),
    ("GPT-2: 10**9 labels", gpt2(rewritten(CONFIG, num_labels=10**9)), begin, "fine"),
    ("GPT-2: weights of another shape", gpt2(rewritten(CONFIG, n_head=2), n_embd=32), begin, "refused"),
    ("GPT-2: a link", gpt2(lambda made, place: (
        shutil.copy(made / WEIGHTS, place.outside / "gpt2"), (made / WEIGHTS).unlink(),
        (made / WEIGHTS).symlink_to(place.outside / "gpt2"))), begin, "refused"),
    # the pointer
    ("pointer: sound", pointer({"current": "2024-05-05", "history": []}), point, "fine"),
    ("pointer that climbs", pointer({"current": "../../../outside/model", "history": []}), point, "refused"),
    ("pointer that is absolute", pointer({"current": "{outside}/model", "history": []}), point, "refused"),
    ("pointer with a zero byte", pointer({"current": "a\0b", "history": []}), point, "refused"),
    ("pointer to itself", pointer({"current": ".", "history": []}), point, "refused"),
    ("pointer to nothing", pointer({"current": "", "history": []}), point, "refused"),
    ("pointer that is a list", pointer([1, 2]), point, "refused"),
    ("pointer with odd moves", pointer({"current": "2024-05-05", "history": [{"verb": "rm"}]}), point, "refused"),
    ("pointer with moves that are none", pointer({"current": "2024-05-05", "history": 5}), point, "refused"),
    ("pointer whose moves climb", pointer({"current": "2024-05-05", "history": [
        {"verb": "promote", "name": "../../../outside/model", "day": "2024-01-01", "reason": ""}]}), point, "refused"),
    ("pointer 100,000 deep", pointer("[" * 100_000), point, "refused"),
    ("pointer of no JSON", pointer("x"), point, "refused"),
]  # fmt: skip
HEAVY = {"configuration of 20 MB"}


def cases(**_: int) -> list[Case]:
    """All of them."""
    return [Case("checkpoints", name, build, work, expect, heavy=name in HEAVY) for name, build, work, expect in CASES]
