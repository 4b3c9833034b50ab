"""Signals that stop a run: it is saved first, without validating."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["AGREED_EVERY", "STOPPING", "Interrupted", "Signals"]

AGREED_EVERY = 8
"""Steps after which processes that train together ask each other, and wait for the answer."""
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, a scheduler's or a preempted machine's notice, a terminal that closes."""


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run, which is saved: the same call continues it.

    Attributes:
        signal: the signal's number.
        step: the step at which the run stopped and was saved.
    """

    def __init__(self, signal: int, step: int):
        super().__init__(f"stopped at step {step}, saved at {step}; the same command continues")
        self.signal, self.step = signal, step

    @property
    def exit_code(self) -> int:
        """What a command ends with, as a shell has it: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signal


class _Now(BaseException):
    """Leaves work that nobody waits for any more."""


class Signals:
    """The stopping signal that has come while a run trains, if one has.

    Of processes that train together all stop after the same step: one that left alone would let the
    others wait for it.

    Attributes:
        received: its number, None before it.
        stopping: the number, once `agree` has told that the run is to stop.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.stopping: int | None = None
        self._is_noting = self._may_leave = False

    def agree(self, step: int = 0) -> None:
        """Take up a signal that has come to this process, or to one that trains with it.

        Args:
            step: of the run; several processes ask each other at multiples of `AGREED_EVERY`
                alone. Default 0: now.
        """
        from keras_spot.base import hosts  # imports Keras, which a command's end shall not wait for

        if hosts.processes() == 1 or not self._is_noting:
            self.stopping = self.received
        elif step % AGREED_EVERY == 0:
            self.stopping = hosts.largest(self.received or 0) or None

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note signals while the block runs, in the main thread; a second one ends at once.

        One that comes when nothing is left to stop is given once more when the block has ended.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[Any, Any] = {}
        for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup leaves it
                before[number] = signal.signal(number, self._note)
        self._is_noting = True
        try:
            yield
        finally:
            self._is_noting = False
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.received is not None:
            signal.raise_signal(self.received)

    def unless_stopped(self, work: Callable[[], Any]) -> Any:
        """Return what `work` returns; None, at once, when a signal comes meanwhile.

        Several processes do it to the end, since they may need each other for it.
        """
        from keras_spot.base import hosts

        if hosts.processes() > 1:
            return work()
        if self.received is not None:
            return None
        self._may_leave = True
        try:
            return work()
        except _Now:
            return None
        finally:
            self._may_leave = False

    def _note(self, number: int, frame: Any) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        if self._may_leave:
            self._may_leave = False
            raise _Now
