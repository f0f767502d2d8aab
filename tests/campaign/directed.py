"""Changes that keep a file valid in its format."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

Change = Callable[[Path, random.Random], str]


def change(path: Path, draw: random.Random) -> str | None:
    """Change a file in a way that fits its format; return a description, or None if no change is possible."""
    change_file = DIRECTED.get(path.suffix if path.suffix != ".previous" else ".pt") or DIRECTED.get(path.name)
    return change_file(path, draw) if change_file is not None else None


def change_json(path: Path, draw: random.Random) -> str:
    """Change a value in a JSON document."""
    if draw.random() < 0.15:
        text, what = _odd_json(path.read_text(), draw)
        path.write_text(text)
        return what
    value = json.loads(path.read_text())
    value, what = change_value(value, draw)
    path.write_text(json.dumps(value, indent=1) + "\n")
    return what


def _odd_json(text: str, draw: random.Random) -> tuple[str, str]:
    """Return a JSON document of another form than expected."""
    odd = draw.choice(
        ("[]", "{}", "null", "0", '"text"', "[" * 100_000, "NaN", "1e999", "9" * 5000, '{"a": 1, "a": 2}')
    )
    kept = draw.random() < 0.2 and text.lstrip().startswith("{")
    if kept:
        return text.replace("{", f'{{"odd": {odd if len(odd) < 100 else 1}, ', 1), f"a key with {odd[:20]} added"
    return odd, f"replaced by {odd[:20]}"


def change_lines(path: Path, draw: random.Random) -> str:
    """Change a value in a file of JSON lines, or the order or number of its lines."""
    lines = path.read_text().splitlines()
    if not lines:
        return "left as it is"
    place = draw.randrange(len(lines))
    kind = draw.choice(("value", "value", "value", "drop", "repeat", "exchange", "odd"))
    if kind == "value":
        value, what = change_value(json.loads(lines[place]), draw)
        lines[place] = json.dumps(value)
    elif kind == "drop":
        del lines[place]
        what = "dropped"
    elif kind == "repeat":
        lines.insert(place, lines[place])
        what = "repeated"
    elif kind == "exchange":
        other = draw.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
        what = f"exchanged with line {other + 1}"
    else:
        lines[place] = draw.choice(("null", "[]", "{}", "0", '"text"', "", "[" * 100_000, "\x00"))
        what = f"replaced by {lines[place][:20]!r}"
    path.write_text("".join(f"{line}\n" for line in lines))
    return f"line {place + 1}: {what}"


def change_value(value: Any, draw: random.Random) -> tuple[Any, str]:
    """Change a number, text or type within a JSON value, or remove a key or an entry."""
    path = _random_path(value, draw)
    if not path:
        return _other(value, draw), f"{value!r} changed"
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    key, name = path[-1], ".".join(map(str, path))
    before = parent[key]
    if draw.random() < 0.2:
        del parent[key]
        return value, f"{name} taken out"
    parent[key] = _other(before, draw)
    return value, f"{name}: {str(before)[:40]!r} is {str(parent[key])[:40]!r}"


def _random_path(value: Any, draw: random.Random) -> list[Any]:
    path: list[Any] = []
    while isinstance(value, dict | list) and value and (not path or draw.random() < 0.9):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        path.append(draw.choice(keys))
        value = value[path[-1]]
    return path


def _other(value: Any, draw: random.Random) -> Any:
    """Return another value: usually of the same type, sometimes of another type or extreme."""
    if draw.random() < 0.25:
        return draw.choice((None, [], {}, "", "x", -1, 0, 2**70, 1e308, float("nan"), True, [[1]], {"a": 1}))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + draw.choice((-1, 1, 7, -1000, 10**6))
    if isinstance(value, float):
        return draw.choice((value * 1.1 + 0.1, -value, 0.0, value + 1e-9))
    if isinstance(value, str):
        if draw.random() < 0.5 and value:
            place = draw.randrange(len(value))
            return value[:place] + draw.choice("abc019/.") + value[place + 1 :]
        return value + "x"
    if isinstance(value, list) and len(value) > 1:
        return draw.choice((value[::-1], value[1:], [*value, value[0]]))
    return draw.choice((1, "x", None, []))


def change_toml(path: Path, draw: random.Random) -> str:
    """Change the value or type of a key, or remove, repeat or nest it."""
    lines = path.read_text().splitlines()
    places = [number for number, line in enumerate(lines) if re.match(r"^\s*[\w.\"-]+\s*=", line)]
    if not places:
        return append_line(path, draw)
    place = draw.choice(places)
    key, _, value = lines[place].partition("=")
    kind = draw.choice(("value", "value", "value", "type", "drop", "repeat", "nested"))
    if kind == "value":
        lines[place] = f"{key}= {_other_toml(value.strip(), draw)}"
    elif kind == "type":
        lines[place] = f"{key}= {draw.choice(('[]', '{}', 'true', '1', '1.5', repr('x'), '1979-05-27', 'nan', '-inf'))}"
    elif kind == "nested":
        lines[place] = f"{key}= {'[' * 3000}{']' * 3000}"
    elif kind == "repeat":
        lines.insert(place, lines[place])
    else:
        del lines[place]
    path.write_text("".join(f"{line}\n" for line in lines))
    after = lines[place][:60] if kind != "drop" and place < len(lines) else ""
    return f"line {place + 1}, {key.strip()}: {kind} ({value.strip()[:30]} is now {after!r})"


def _other_toml(value: str, draw: random.Random) -> str:
    if value in ("true", "false"):
        return "false" if value == "true" else "true"
    if re.fullmatch(r"-?\d+", value):
        return str(int(value) + draw.choice((-1, 1, 3, 10**6)))
    if re.fullmatch(r"-?[\d.]+(?:e-?\d+)?", value):
        return repr(float(value) * 1.25 + 0.01)
    if len(value) > 2 and value[0] == value[-1] == '"':
        place = draw.randrange(1, len(value) - 1)
        return value[:place] + draw.choice("abcx") + value[place + 1 :]
    return draw.choice(("[1]", '"x"', "0"))


def append_line(path: Path, draw: random.Random) -> str:
    """Append a line of text."""
    with path.open("a") as file:
        file.write("odd = 1\n")
    return "a line appended"


def change_text(path: Path, draw: random.Random) -> str:
    """Change a number in a text file, or a line."""
    text = path.read_text()
    numbers = list(re.finditer(r"\d+", text))
    if not numbers:
        return append_line(path, draw)
    found = draw.choice(numbers)
    path.write_text(text[: found.start()] + str(int(found.group()) + 1) + text[found.end() :])
    return f"{found.group()} at {found.start()} is one more"


def change_gzip(path: Path, draw: random.Random) -> str:
    """Change a byte of the text in a gzip file, which stays valid."""
    text = bytearray(gzip.decompress(path.read_bytes()))
    place = draw.randrange(len(text))
    text[place] = text[place] ^ 1
    path.write_bytes(gzip.compress(bytes(text)))
    return f"byte {place} of the packed text changed"


def change_arrays(path: Path, draw: random.Random) -> str:
    """Change one array of an npz file, which stays valid."""
    with np.load(path, allow_pickle=False) as arrays:
        content = {name: np.array(arrays[name]) for name in arrays.files}
    name = draw.choice(sorted(content))
    kind = draw.choice(("number", "number", "type", "drop", "shape"))
    if kind == "number" and content[name].size and content[name].dtype.kind in "iuf":
        flat = content[name].reshape(-1)
        place = draw.randrange(flat.size)
        flat[place] = flat[place] + 1
    elif kind == "type":
        content[name] = content[name].astype("U32")
    elif kind == "shape":
        content[name] = content[name].reshape(-1)[:-1]
    else:
        del content[name]
    memory = io.BytesIO()
    np.savez(memory, **content)
    path.write_bytes(memory.getvalue())
    return f"array {name}: {kind} changed"


def change_hdf5(path: Path, draw: random.Random) -> str:
    """Change one number of a dataset."""
    with h5py.File(path, "r+") as file:
        names = sorted(name for name, one in file.items() if isinstance(one, h5py.Dataset) and one.size)
        name = draw.choice(names)
        values = file[name][...]
        flat = values.reshape(-1)
        place = draw.randrange(flat.size)
        flat[place] = (not flat[place]) if flat.dtype.kind == "b" else flat[place] + 1
        file[name][...] = values
    return f"dataset {name}, value {place} changed"


def change_torch(path: Path, draw: random.Random) -> str:
    """Change one value of a torch file, and save it again with torch."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    what = change_within(content, draw)
    torch.save(content, path)
    return what


def change_within(value: Any, draw: random.Random) -> str:
    """Change one value within nested dicts and lists that may contain tensors; return a description."""
    names: list[str] = []
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        inner = [key for key in keys if isinstance(value[key], dict | list) and value[key]]
        leaves = [key for key in keys if key not in inner]
        key = draw.choice(inner) if inner and (not leaves or draw.random() < 0.6) else draw.choice(leaves)
        names.append(str(key))
        if key not in inner:
            break
        value = value[key]
    before = value[key]
    if isinstance(before, torch.Tensor):
        value[key], what = _other_tensor(before, draw)
    elif draw.random() < 0.2 and isinstance(value, dict):
        del value[key]
        what = "taken out"
    else:
        value[key] = _other(before, draw)
        what = f"{str(before)[:40]!r} is {str(value[key])[:40]!r}"
    return f"{'.'.join(names)}: {what}"


def _other_tensor(tensor: torch.Tensor, draw: random.Random) -> tuple[torch.Tensor, str]:
    kind = draw.choice(("number", "number", "nan", "shape", "type"))
    tensor = tensor.clone()
    if kind == "shape" or not tensor.numel():
        return torch.zeros((*tensor.shape, 2)), "another shape"
    if kind == "type" or not tensor.is_floating_point():
        return tensor.to(torch.int16), "another type"
    flat = tensor.view(-1)
    place = draw.randrange(flat.numel())
    flat[place] = float("nan") if kind == "nan" else flat[place] * 1.5 + 1
    return tensor, f"value {place} is {flat[place].item():.4g}"


DIRECTED: Mapping[str, Change] = {
    ".json": change_json,
    ".jsonl": change_lines,
    "lock": change_json,
    ".toml": change_toml,
    ".pt": change_torch,
    ".npz": change_arrays,
    ".h5": change_hdf5,
    ".gz": change_gzip,
    ".csv": change_text,
    ".sbatch": change_text,
    ".sh": change_text,
    ".py": change_text,
}
