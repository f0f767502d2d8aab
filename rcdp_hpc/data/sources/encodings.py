"""The encodings that ``data.encoding`` accepts."""

from __future__ import annotations

import codecs

from rcdp_hpc.errors import InputError

# Python lists these as text encodings, but they escape characters and would change the content of a plain file.
_NOT_OF_FILES = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7"}


def text_encoding(setting: str) -> str:
    """Return Python's name of an encoding of text files.

    Parameters
    ----------
    setting : str
        ``data.encoding``.

    Raises
    ------
    InputError
        If it is not the name of a text encoding.
    """
    try:
        codec = codecs.lookup(setting)
    except (LookupError, ValueError):
        codec = None
    is_text = codec is not None and getattr(codec, "_is_text_encoding", True)
    if codec is None or not is_text or codec.name.replace("_", "-") in _NOT_OF_FILES:
        raise InputError(f"data.encoding = {setting!r} is not the name of an encoding of text, as in 'latin-1'.")
    return codec.name
