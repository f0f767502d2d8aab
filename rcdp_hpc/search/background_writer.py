"""Writing in a thread, one task at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable


class BackgroundWriter:
    """Runs one task at a time in a thread; an error is raised by the next call."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, task: Callable[[], None]) -> None:
        """Wait for the task that runs, then start this one."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(task,))
        self._thread.start()

    def wait(self) -> None:
        """Wait until no task runs, and raise the error of the last one."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error = self._error
            self._error = None
            raise error

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # raised again by `wait`, in the thread of the caller
            self._error = error
