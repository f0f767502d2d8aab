"""Class names for pictures: plain text, in fonts that have the characters.

Matplotlib parses a `$` in a label as mathematics. For a character that its font does not have it draws a box and warns
each time. This module turns parsing off and chooses installed fonts that have the characters. A name with characters
that no font has is replaced by the class number, and reported once.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from matplotlib import font_manager

from rcdp_hpc.runtime.logs import warn_once
from rcdp_hpc.runtime.text import plain_name, shorten

log = logging.getLogger(__name__)

# Part of matplotlib. It has Latin, Greek, Cyrillic, Arabic, Hebrew and many symbols.
BASE = "DejaVu Sans"
# Tried first, since these fonts are made for text; then any other installed font.
PREFERRED = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
    "Noto Sans CJK KR", "Malgun Gothic", "NanumGothic", "Noto Sans", "Noto Sans Arabic", "Noto Sans Hebrew",
    "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS", "Unifont", "Noto Emoji", "Symbola",
)  # fmt: skip
# Fonts that draw boxes instead of characters, or parts of formulas.
UNFIT = ("Last Resort", "cm", "STIXSize", "STIXNonUnicode")
INVISIBLE = ("Cf", "Zs")


@dataclass(frozen=True)
class Labels:
    """Names prepared for a picture.

    Attributes
    ----------
    texts : list of str
        One line each, in the order of the names.
    families : list of str
        Fonts that have the characters, in the order in which matplotlib tries them.
    """

    texts: list[str]
    families: list[str]

    @property
    def style(self) -> dict[str, Any]:
        """Keywords for matplotlib texts that contain a name."""
        return {"parse_math": False, "family": self.families}


def labels_of(names: Sequence[str], columns: int = 24) -> Labels:
    """Return names for a picture, cut to a number of columns (wide characters take two).

    A character that no installed font has becomes "?", and the name starts with the class number; this is logged once.
    """
    plain = [shorten(plain_name(name), columns, "…") for name in names]
    families, missing = _families(frozenset("".join(plain)))
    texts = [_shown(text, label, missing) for label, text in enumerate(plain)]
    undrawable = sorted(character for character in missing if not _is_invisible(character))
    if undrawable:
        warn_once(
            log,
            "fonts",
            f"no installed font has {len(undrawable)} of the characters in class names "
            f"({''.join(undrawable[:10])}): pictures show the numbers of these classes. To see the names, install a "
            "font that has the characters, such as Noto Sans CJK.",
        )
    return Labels(texts, families)


def _shown(text: str, label: int, missing: frozenset[str]) -> str:
    visible = "".join(character for character in text if not (character in missing and _is_invisible(character)))
    if not any(character in missing for character in visible):
        return visible
    left = "".join("?" if character in missing else character for character in visible)
    return f"{label}: {left}" if left.strip("? ") else f"class {label}"


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in INVISIBLE or "\ufe00" <= character <= "\ufe0f"


@lru_cache(maxsize=16)
def _families(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Return the base font and the fonts that add missing characters, and the characters that no font has."""
    families = [BASE]
    missing = _without(characters, BASE)
    if missing:
        for family in _others():
            left = _without(missing, family)
            if len(left) < len(missing):
                families.append(family)
                missing = left
            if not missing:
                break
    return families, missing


def _others() -> list[str]:
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    fit = {name for name in installed if not name.startswith(UNFIT) and name != BASE}
    return [name for name in PREFERRED if name in fit] + sorted(fit.difference(PREFERRED))


def _without(characters: frozenset[str], family: str) -> frozenset[str]:
    """Return the characters that a font family does not have; all characters if its file cannot be used."""
    finder = logging.getLogger("matplotlib.font_manager")
    level = finder.level
    try:
        finder.setLevel(logging.ERROR)  # hides messages about substituted font weights
        font = font_manager.get_font(font_manager.findfont(family, fallback_to_default=False))
        present = {character for character in characters if ord(character) in font.get_charmap()}
        font.set_size(10, 100)  # fails for bitmap fonts of one size, such as colour emoji
        for character in list(present)[:1]:
            font.load_char(ord(character))
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        log.debug("font %s not used: %s", family, error)
        return characters
    finally:
        finder.setLevel(level)
    return characters - present
