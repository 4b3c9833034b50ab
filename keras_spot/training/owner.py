"""Who works in a run's folder: one process, from opening it to the end."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_spot.base.claims import STALE_AFTER, Claims, identity
from keras_spot.base.errors import InvalidArgument, invalid, shortened
from keras_spot.base.swap import sync_folder

__all__ = ["Owner"]

LOCK, TRANSFER_LOCK = ".lock", ".transfer-lock"


class Owner:
    """The ownership of a folder.

    A dead owner's folder is taken over, that of another host once it gives no sign of life.

    Args:
        path: the folder; made when it is owned.
    """

    def __init__(self, path: Path):
        self.path = path
        self._claim: Path | None = None
        self._held = contextlib.ExitStack()

    @property
    def is_lost(self) -> bool:
        """Whether the folder was owned and was taken away or taken over."""
        return self._claim is not None and not Claims(self.path).holds(self._claim)

    @contextlib.contextmanager
    def owned(self, name: str = LOCK) -> Iterator[None]:
        """Own the folder while the block runs: nobody else may work in it.

        Args:
            name: of the lock; a transfer's is another than that of the run in the same folder.

        Raises:
            InvalidArgument: another process works in it.
        """
        claims, is_new = Claims(self.path, at_once=True), not self.path.exists()
        # A transfer begins under the run's lock, and a run looks for a transfer's under its own:
        # of two that begin at once exactly one goes on.
        with self.owned() if name == TRANSFER_LOCK else contextlib.nullcontext():
            claim = self._take(claims, name)
        self._claim = claim
        try:
            with claims.kept(claim):
                if name == LOCK:
                    self._check(claims, TRANSFER_LOCK)
                yield
        finally:
            self._claim = None
            if claims.holds(claim):
                claims.drop(name)
                sync_folder(self.path)  # a loss of power does not bring it back
            if is_new:  # and nothing came of it
                with contextlib.suppress(OSError):
                    self.path.rmdir()

    def acquire(self) -> None:
        """Own the folder until `release`, for a `fit`; does nothing if it is owned.

        Raises:
            InvalidArgument: another process works in it, or another `fit` of this one.
        """
        if self._claim is None:
            self._held.enter_context(self.owned())

    def release(self) -> None:
        """Give back what `acquire` took."""
        self._held.close()

    def check_free(self) -> None:
        """Raise what `owned` would raise, before work that would be lost.

        Raises:
            InvalidArgument: another process works in the folder, or transfers to it.
        """
        if self._claim is not None or not self.path.is_dir():
            return
        for name in (LOCK, TRANSFER_LOCK):
            self._check(Claims(self.path, at_once=True), name)

    def _check(self, claims: Claims, name: str) -> None:
        owner = claims.holder(name)
        # The last run of a transfer works in the transfer's folder.
        is_own = name == TRANSFER_LOCK and owner is not None and identity().items() <= owner.items()
        if owner is not None and not is_own:
            raise self._in_use(owner)

    def _take(self, claims: Claims, name: str) -> Path:
        claim = claims.take(name)
        if claim is None:
            raise self._in_use(claims.holder(name) or {})
        return claim

    def _in_use(self, owner: Mapping[str, Any]) -> InvalidArgument:
        """Return the error for an owner, of whom a lock that was cut off may not say all."""
        host = shortened(owner.get("host", "?")).partition("/")[0]
        received = f"{self.path}, of process {shortened(owner.get('pid', '?'))} on {host}"
        with contextlib.suppress(TypeError, ValueError, OverflowError, OSError, KeyError):
            began = time.localtime(owner["time"])
            received += f" since {time.strftime('%Y-%m-%d %H:%M:%S', began)}"
        if "host" not in owner:  # of one that was cut off
            received += f", whose lock says nothing and holds for {STALE_AFTER:g} s"
        return invalid("run_dir", "must not be in use by another process", received)
