"""Connections on which no request comes: uvicorn alone would hold them for ever."""

import asyncio
from typing import Any

__all__ = ["protocol_in_time"]


def protocol_in_time(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol, closing a connection whose request's head is not whole in time.

    Args:
        seconds: from a connection's beginning, or from the first byte of a later request.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol

    class Protocol(base):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            is_asked = self.cycle is not None and not self.cycle.response_complete
            if is_asked or self.transport.is_closing():
                self._stop()
            elif self._timer is None:  # a part of a head, behind an answer
                self._timer = self.loop.call_later(seconds, self.transport.close)

        def connection_lost(self, error: Exception | None) -> None:
            self._stop()
            super().connection_lost(error)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Protocol
