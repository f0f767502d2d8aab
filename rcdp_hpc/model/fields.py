"""The content of a checkpoint, taken out field by field: whatever is not of the expected form is one error."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import torch
from pydantic import ValidationError

from rcdp_hpc.config.section import Section
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.json_text import parse_json

SectionT = TypeVar("SectionT", bound=Section)
T = TypeVar("T")


class Fields:
    """The fields of a file whose digest is sound, which somebody may have made by hand all the same.

    Parameters
    ----------
    where : str
        The file, for messages.
    content : mapping
        As `rcdp_hpc.model.checkpoint.load` returns it, or a part of it.
    remedy : str
        What to do if a field is not as expected: a sentence for the end of the message.
    prefix : str
        Name of the part, for messages.
    """

    def __init__(self, where: str, content: Mapping[str, Any], remedy: str, prefix: str = "") -> None:
        self.where, self.content, self.remedy, self.prefix = where, content, remedy, prefix

    def refuse(self, name: str, expected: str) -> NoReturn:
        """Raise a `DataDamagedError` about a field."""
        raise DataDamagedError(
            f"{self.where}: its field {self.prefix}{name} is not {expected}; it was not written by this version of "
            f"rcdp. {self.remedy}"
        )

    def field(self, name: str, kind: type[T], expected: str) -> T:
        """Return a field of exactly this type; states of modules are ordered dicts, which count as dicts."""
        value = self.content.get(name)
        if type(value) is not kind and not (kind is dict and type(value) is OrderedDict):
            self.refuse(name, expected if name in self.content else f"there ({expected})")
        return value  # type: ignore[no-any-return, return-value]

    def text(self, name: str) -> str:
        """Return a text."""
        return self.field(name, str, "a text")

    def whole(self, name: str, least: int = 0) -> int:
        """Return a whole number of at least `least`."""
        value = self.field(name, int, "a whole number")
        if value < least:
            self.refuse(name, f"a whole number of at least {least}")
        return value

    def number(self, name: str) -> float:
        """Return a finite number."""
        value = self.content.get(name)
        if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
            self.refuse(name, "a finite number")
        return float(value)  # type: ignore[arg-type]

    def texts(self, name: str) -> list[str]:
        """Return a list of texts that are all different."""
        values = self.field(name, list, "a list of texts")
        if not all(type(value) is str for value in values) or len(set(values)) != len(values):
            self.refuse(name, "a list of different texts")
        return values

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a sample: one to three positive whole numbers."""
        values = self.field(name, list, "a list of whole numbers")
        if not (1 <= len(values) <= 3 and all(type(value) is int and value > 0 for value in values)):
            self.refuse(name, "a list of one to three positive whole numbers")
        return tuple(values)

    def json(self, name: str, kind: type[T], expected: str) -> T:
        """Return what a text of JSON holds, of exactly this type."""
        try:
            value = parse_json(self.text(name))
        except ValueError:
            self.refuse(name, "JSON")
        if type(value) is not kind:
            self.refuse(name, f"JSON of {expected}")
        return value  # type: ignore[no-any-return]

    def part(self, name: str) -> Fields:
        """Return the fields of a part."""
        content = self.field(name, dict, "a table of fields")
        return Fields(self.where, content, self.remedy, f"{self.prefix}{name}.")

    def tensors(self, name: str, finite: bool = True) -> dict[str, torch.Tensor]:
        """Return tensors by name; with `finite` those that hold NaN or infinity are refused."""
        values = self.field(name, dict, "a table of tensors")
        for key, value in values.items():
            if type(key) is not str or not is_plain(value):
                self.refuse(name, "a table of dense tensors")
            if finite and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).sum())
                raise DataDamagedError(
                    f"{self.where}: {bad} of the {value.numel()} values of {self.prefix}{name}.{key} are NaN or "
                    f"infinite, so it can compute nothing. {self.remedy}"
                )
        return values

    def section(self, kind: type[SectionT], settings: Mapping[str, Any], name: str) -> SectionT:
        """Return a section of the configuration, complete as this version writes it."""
        values = settings.get(name)
        if not isinstance(values, dict):
            self.refuse("settings", f"the settings of a model: [{name}] is missing")
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            unknown = first["type"] == "extra_forbidden"
            problem = "not a known key" if unknown else first["msg"].removeprefix("Value error, ")
            self.refuse("settings", f"accepted: {key}: {problem}")

    def converted(self, name: str, convert: Callable[[Any], T]) -> T:
        """Return what a function makes of a field; whatever the function raises is an error of the field."""
        try:
            return convert(self.content[name])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, InputError) as error:
            text = " ".join(str(error).split())[:200]
            self.refuse(name, f"of the form that is expected ({type(error).__name__}: {text})")


def is_plain(value: Any) -> bool:
    """Tell whether a value is a dense tensor on the CPU that owns as many values as it shows."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not (value.is_complex() or value.requires_grad)
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def refuse_other_shapes(
    where: str, found: Mapping[str, Any], expected: Mapping[str, torch.Tensor], remedy: str
) -> None:
    """Raise a `DataDamagedError` if tensors are not those that the settings lead to: names, shapes, number types.

    Parameters
    ----------
    where : str
        The file and the part of it, for the message.
    found, expected : mapping of str to torch.Tensor
    remedy : str
        What to do, for the end of the message.
    """
    names = sorted(set(found) ^ set(expected))
    if names:
        there = "has" if names[0] in found else "lacks"
        raise DataDamagedError(f"{where} {there} {names[0]!r}, which does not fit the settings in it. {remedy}")
    for name, value in expected.items():
        own = found[name]
        if own.shape != value.shape or own.dtype != value.dtype:
            raise DataDamagedError(
                f"{where}: {name!r} has the shape {tuple(own.shape)} ({own.dtype}), and the settings in the file lead "
                f"to {tuple(value.shape)} ({value.dtype}). {remedy}"
            )
