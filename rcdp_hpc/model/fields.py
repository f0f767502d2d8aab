"""Typed access to the fields of a checkpoint or model file; each unexpected value is a `DataDamagedError`."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import ValidationError

from rcdp_hpc.config.section import Section
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.json_text import parse_json

if TYPE_CHECKING:
    import torch

SectionT = TypeVar("SectionT", bound=Section)
T = TypeVar("T")


class Fields:
    """The fields of a file with a correct digest, whose content may still have been made by hand.

    Parameters
    ----------
    where : str
        Name of the file, for messages.
    content : mapping
        The content of the file, from `rcdp_hpc.model.checkpoint.load`, or a part of it.
    remedy : str
        What to do if a field is not as expected: a sentence for the end of the message.
    prefix : str
        Name of the part with a final dot, for messages.
    """

    def __init__(self, where: str, content: Mapping[str, Any], remedy: str, prefix: str = "") -> None:
        self.where = where
        self.content = content
        self.remedy = remedy
        self.prefix = prefix

    def refuse(self, name: str, expected: str) -> NoReturn:
        """Raise a `DataDamagedError` about a field that is not `expected`."""
        raise DataDamagedError(
            f"{self.where}: its field {self.prefix}{name} is not {expected}; it was not written by this version of "
            f"rcdp. {self.remedy}"
        )

    def field(self, name: str, kind: type[T], expected: str) -> T:
        """Return a field of exactly this type. Ordered dicts, the states of modules, count as dicts."""
        value = self.content.get(name)
        if type(value) is not kind and not (kind is dict and type(value) is OrderedDict):
            self.refuse(name, expected if name in self.content else f"present (expected {expected})")
        return value  # type: ignore[no-any-return, return-value]

    def text(self, name: str) -> str:
        """Return a field that is a text."""
        return self.field(name, str, "a text")

    def integer(self, name: str, least: int = 0) -> int:
        """Return a field that is an integer of at least `least`."""
        value = self.field(name, int, "an integer")
        if value < least:
            self.refuse(name, f"an integer of at least {least}")
        return value

    def number(self, name: str) -> float:
        """Return a field that is a finite number."""
        value = self.content.get(name)
        if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
            self.refuse(name, "a finite number")
        return float(value)  # type: ignore[arg-type]

    def texts(self, name: str) -> list[str]:
        """Return a field that is a list of different texts."""
        values = self.field(name, list, "a list of texts")
        if not all(type(value) is str for value in values) or len(set(values)) != len(values):
            self.refuse(name, "a list of different texts")
        return values

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a field that is the shape of a sample: one to three positive integers."""
        values = self.field(name, list, "a list of integers")
        if not (1 <= len(values) <= 3 and all(type(value) is int and value > 0 for value in values)):
            self.refuse(name, "a list of one to three positive integers")
        return tuple(values)

    def json(self, name: str, kind: type[T], expected: str) -> T:
        """Return the value of a field that is JSON text of exactly this type."""
        try:
            value = parse_json(self.text(name))
        except ValueError:
            self.refuse(name, "JSON")
        if type(value) is not kind:
            self.refuse(name, f"JSON of {expected}")
        return value  # type: ignore[no-any-return]

    def part(self, name: str) -> Fields:
        """Return the fields of a field that is a dict."""
        content = self.field(name, dict, "a table of fields")
        return Fields(self.where, content, self.remedy, f"{self.prefix}{name}.")

    def tensors(self, name: str, finite: bool = True) -> dict[str, torch.Tensor]:
        """Return a field that is a dict of tensors; with `finite`, refuse NaN and infinity."""
        import torch

        values = self.field(name, dict, "a table of tensors")
        for key, value in values.items():
            if type(key) is not str or not is_plain(value):
                self.refuse(name, "a table of dense tensors")
            if finite and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).sum())
                raise DataDamagedError(
                    f"{self.where}: {bad} of the {value.numel()} values of {self.prefix}{name}.{key} are NaN or "
                    f"infinite, so the file cannot be used. {self.remedy}"
                )
        return values

    def section(self, kind: type[SectionT], settings: Mapping[str, Any], name: str) -> SectionT:
        """Return a section of the configuration, which must be complete."""
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
        """Return the result of a function of a field; errors that the function raises are errors of the field."""
        try:
            return convert(self.content[name])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, InputError) as error:
            text = " ".join(str(error).split())[:200]
            self.refuse(name, f"of the expected form ({type(error).__name__}: {text})")


def is_plain(value: Any) -> bool:
    """Return whether a value is a dense, real CPU tensor whose storage contains all its values."""
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not (value.is_complex() or value.requires_grad)
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def refuse_other_shapes(
    where: str, tensors: Mapping[str, Any], expected: Mapping[str, torch.Tensor], remedy: str
) -> None:
    """Raise a `DataDamagedError` if names, shapes or dtypes of tensors do not fit the settings of the file.

    Parameters
    ----------
    where : str
        The file and its part, for the message.
    tensors, expected : mapping of str to torch.Tensor
        The tensors of the file, and tensors of the expected shapes and dtypes.
    remedy : str
        What to do: a sentence for the end of the message.
    """
    names = sorted(set(tensors) ^ set(expected))
    if names:
        verb = "has" if names[0] in tensors else "lacks"
        raise DataDamagedError(f"{where} {verb} {names[0]!r}, which does not fit the settings in it. {remedy}")
    for name, value in expected.items():
        tensor = tensors[name]
        if tensor.shape != value.shape or tensor.dtype != value.dtype:
            raise DataDamagedError(
                f"{where}: {name!r} has the shape {tuple(tensor.shape)} ({tensor.dtype}); the settings need "
                f"{tuple(value.shape)} ({value.dtype}). {remedy}"
            )
