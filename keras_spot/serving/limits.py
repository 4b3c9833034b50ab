"""What a server takes at most, and how it says no."""

import dataclasses

from keras_spot.base.fields import POSITIVE, RATE, about, check

__all__ = ["Limits", "Refused"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request and all together may be.

    Attributes:
        body: bytes of a request; more is answered with 413.
        instances: texts of a request; more is answered with 422.
        characters: of a text, its fields together; more is answered with 422.
        candidates: answers to choose from that a request brings; more is answered with 422.
        queue: texts that wait; a request that would make it more is answered with 429.
        seconds: from a request's first byte to its answer; then it is answered with 504.
        batch: texts that are computed at once.
    """

    body: int = dataclasses.field(default=4 << 20, metadata=about("bytes", rule=POSITIVE))
    instances: int = dataclasses.field(default=256, metadata=about("texts", rule=POSITIVE))
    characters: int = dataclasses.field(default=100_000, metadata=about("letters", rule=POSITIVE))
    candidates: int = dataclasses.field(default=256, metadata=about("answers", rule=POSITIVE))
    queue: int = dataclasses.field(default=512, metadata=about("texts", rule=POSITIVE))
    seconds: float = dataclasses.field(default=30.0, metadata=about("seconds", rule=RATE))
    batch: int = dataclasses.field(default=32, metadata=about("texts", rule=POSITIVE))

    def __post_init__(self) -> None:
        check(self)


class Refused(Exception):
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status.
        message: one line for the caller.
        retry: seconds after which to try again, None where that is no use.
    """

    def __init__(self, status: int, message: str, retry: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry = status, message, retry
