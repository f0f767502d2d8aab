"""What a choice is, and the table of all choices of one kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rcdp_hpc.config.suggest import did_you_mean

# How the table, the help and the reference page show a class that the user names.
USER_CLASS = "module:Class"


@dataclass(frozen=True)
class Choice:
    """One accepted value of a key.

    Attributes
    ----------
    name : str or int
        The value in the configuration.
    meaning : str
        What it does, for `rcdp config` and the reference page.
    target : str
        The class or function that implements it, as ``module:name``; empty for a plain value.
    keys : tuple of str
        Dotted keys that no other choice of the kind uses unless it lists them, too.
    extra : str
        The optional dependencies it needs, as in ``pip install 'rcdp_hpc[extra]'``; empty for none.
    """

    name: str | int
    meaning: str
    target: str = ""
    keys: tuple[str, ...] = ()
    extra: str = ""


@dataclass(frozen=True)
class ChoiceTable:
    """All choices of one kind.

    Attributes
    ----------
    key : str
        The dotted key of the configuration.
    choices : tuple of Choice
    user_class : str
        What a class named ``module:Class`` is, for the help; empty if the key accepts none.
    """

    key: str
    choices: tuple[Choice, ...]
    user_class: str = ""

    def __iter__(self) -> Iterator[Choice]:
        return iter(self.choices)

    @property
    def names(self) -> list[str]:
        """The accepted names, in order."""
        return [str(choice.name) for choice in self.choices]

    def __contains__(self, name: object) -> bool:
        return any(choice.name == name for choice in self.choices)

    def __getitem__(self, name: str | int) -> Choice:
        for choice in self.choices:
            if choice.name == name:
                return choice
        raise KeyError(name)

    def users_of(self, key: str) -> list[str]:
        """Return the names of the choices that use a dotted key; empty if the key belongs to none in particular."""
        return [str(choice.name) for choice in self.choices if key in choice.keys]

    def meanings(self) -> dict[str | int, str]:
        """Return the meaning of each name, and of a class of the user's own if the key accepts one."""
        meanings = {choice.name: choice.meaning for choice in self.choices}
        return {**meanings, USER_CLASS: self.user_class} if self.user_class else meanings

    def accepted(self, name: str) -> str:
        """Return a name that the configuration gives, checked.

        Raises
        ------
        ValueError
            If it is neither a name of the table nor, when the key accepts one, ``module:Class``.
        """
        if name in self.names or (self.user_class and is_user_class(name)):
            return name
        own = ", or a class of your own as module:Class" if self.user_class else ""
        raise ValueError(f"expected one of {', '.join(self.names)}{own}{did_you_mean(name, self.names)}")

    def all_accepted(self, names: list[str]) -> list[str]:
        """Return the names of a list, checked as `accepted` does."""
        return [self.accepted(name) for name in names]


def is_user_class(name: str) -> bool:
    """Return whether a name has the form ``module:Class``."""
    module, separator, attribute = name.partition(":")
    return bool(module and separator and attribute)
