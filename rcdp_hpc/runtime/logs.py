"""Logging: a story on the terminal from rank 0, and everything as JSON lines in the run directory."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from tqdm import tqdm

PACKAGE = "rcdp_hpc"


class _TerminalHandler(logging.Handler):
    """Print messages without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        troubled = record.levelno >= logging.WARNING
        stream = sys.stderr if troubled else sys.stdout
        prefix = f"rcdp: {record.levelname.lower()}: " if troubled else ""
        tqdm.write(prefix + record.getMessage(), file=stream)
        stream.flush()


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(entry)


def log_to_terminal(is_root: bool, quiet: bool = False) -> None:
    """Show messages on rank 0; other ranks show errors alone."""
    logger = logging.getLogger(PACKAGE)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handler = _TerminalHandler()
    handler.setLevel((logging.WARNING if quiet else logging.INFO) if is_root else logging.ERROR)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def log_to_file(path: Path) -> None:
    """Append every message to `path` as a JSON line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_JsonFormatter())
    logging.getLogger(PACKAGE).addHandler(handler)
