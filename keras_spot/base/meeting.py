"""Where several processes that train together meet: the words for it, and a wait that ends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import time

from keras_spot.base.errors import Unreachable, complaint, invalid

__all__ = ["ADDRESSES", "COUNT", "NUMBER", "PATIENCE", "Meeting", "check_alone", "gather", "named"]

_PREFIX = "KERAS_DISTRIBUTION_"
ADDRESSES, COUNT = f"{_PREFIX}JOB_ADDRESSES", f"{_PREFIX}NUM_PROCESSES"
NUMBER = f"{_PREFIX}PROCESS_ID"
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:,\s/]+):(?P<port>[1-9][0-9]{0,4})")
PATIENCE = 300
"""Seconds that processes wait for each other."""
_ASKED_EVERY, _SLOW = 0.5, 10.0  # seconds
_GREETING, _GO, _LONG = b"keras_spot %d of %d\n", b"go", 200
_GREETED = re.compile(rb"keras_spot ([0-9]{1,6}) of ([0-9]{1,6})\n")


@dataclasses.dataclass(frozen=True)
class Meeting:
    """What the environment says of processes that train together.

    Attributes:
        host, port: of the first process.
        count: how many processes there are.
        number: which of them this is, from 0.
    """

    host: str
    port: int
    count: int
    number: int

    @property
    def address(self) -> str:
        """Host and port as one word."""
        return f"{self.host}:{self.port}"


def named() -> Meeting | None:
    """Return where the environment says that processes meet, None where it does not.

    Raises:
        InvalidArgument: a variable without the others, or a value that is none.
    """
    given = {name: os.environ.get(name, "") for name in (ADDRESSES, COUNT, NUMBER)}
    if not any(given.values()):
        return None
    if not all(given.values()):
        rule = f"must be set together: {', '.join(given)}"
        present = " and ".join(name for name, value in given.items() if value)
        raise invalid("devices", rule, f"{present} alone")
    addresses = [_ADDRESS.fullmatch(word.strip()) for word in given[ADDRESSES].split(",")]
    first = addresses[0]
    if first is None or None in addresses or int(first["port"]) >= 1 << 16:
        raise invalid(ADDRESSES, "must be the first process' host:port", repr(given[ADDRESSES]))
    for name, least in ((COUNT, 1), (NUMBER, 0)):
        if not re.fullmatch("[0-9]{1,6}", given[name]) or int(given[name]) < least:
            raise invalid(name, f"must be a whole number from {least} on", repr(given[name]))
    count, number = int(given[COUNT]), int(given[NUMBER])
    if number >= count:
        raise invalid(NUMBER, f"must be below {COUNT}={count}, counted from 0", number)
    if len(addresses) not in (1, count):
        rule = f"must be the first process' address or one for each of {COUNT}={count}"
        raise invalid(ADDRESSES, rule, f"{len(addresses)} addresses")
    return Meeting(first["host"].strip("[]"), int(first["port"]), count, number)


def check_alone(rule: str) -> None:
    """Raise InvalidArgument where the environment names several processes.

    Args:
        rule: why one alone does the work, as in `errors.invalid`.
    """
    meeting = named()
    if meeting is not None and meeting.count > 1:
        raise invalid("processes", rule, f"{COUNT}={meeting.count}")


def gather(meeting: Meeting) -> None:
    """Wait until every process has come, and say in one line why that cannot be.

    JAX, which is to be started only then, aborts instead.

    Raises:
        InvalidArgument: an address that is none or in use, or processes that were told different
            numbers.
        Unreachable: a process that does not come, or leaves before the others are there.
    """
    print(f"devices: waiting for {meeting.count} processes at {meeting.address}", flush=True)
    end = time.monotonic() + PATIENCE
    if meeting.number == 0:
        _receive(meeting, end)
    else:
        _report(meeting, end)


def _receive(meeting: Meeting, end: float) -> None:
    """Wait as the first process for the others, and let them go on together."""
    here: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listening(meeting))
        while len(here) < meeting.count - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                other, _ = server.accept()
            except TimeoutError:
                missing = sorted({*range(1, meeting.count)} - {*here})
                numbers = ", ".join(map(str, missing[:8]))
                rule = f"must all come to {meeting.address} within {PATIENCE} seconds"
                raise Unreachable(complaint("processes", rule, f"none of {numbers}")) from None
            stack.enter_context(other)
            other.settimeout(_SLOW)
            with contextlib.suppress(OSError):  # who says nothing is none of ours
                number, count = _numbers(other.recv(_LONG))
                if count != meeting.count or number in here or not 0 < number < count:
                    received = f"{number} of {count} beside 0 of {meeting.count}"
                    for one in (*here.values(), other):
                        with contextlib.suppress(OSError):
                            one.sendall(received.encode())
                    raise _differing(received)
                here[number] = other
        for one in here.values():
            with contextlib.suppress(OSError):
                one.sendall(_GO)


def _report(meeting: Meeting, end: float) -> None:
    """Tell the first process that this one is here, and wait until all are."""
    with _connected(meeting, end) as first:
        first.settimeout(max(0.01, end - time.monotonic() + _SLOW))
        try:
            first.sendall(_GREETING % (meeting.number, meeting.count))
            answer = first.recv(_LONG)
        except OSError as error:
            answer, reason = b"", error.strerror or str(error)
        else:
            reason = "it left"
    if not answer:
        rule = f"must all come to {meeting.address} within {PATIENCE} seconds"
        raise Unreachable(complaint("processes", rule, f"the first waits no more ({reason})"))
    if answer != _GO:
        raise _differing(answer.decode("ascii", errors="replace"))


def _listening(meeting: Meeting) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", meeting.port), family=family, dualstack_ipv6=both)
    except OSError as error:
        rule = "must name a port of the first process' host that is free"
        raise invalid(ADDRESSES, rule, f"{meeting.address} ({error.strerror})") from None


def _connected(meeting: Meeting, end: float) -> socket.socket:
    while True:
        try:
            return socket.create_connection((meeting.host, meeting.port), timeout=_SLOW)
        except (socket.gaierror, UnicodeError):
            raise invalid(ADDRESSES, "must name a host that is known", meeting.address) from None
        except OSError as error:
            if time.monotonic() > end:
                rule = f"must answer within {PATIENCE} seconds, as the first process does"
                received = f"{meeting.address} ({error.strerror or error})"
                raise Unreachable(complaint(ADDRESSES, rule, received)) from None
        time.sleep(_ASKED_EVERY)


def _numbers(greeting: bytes) -> tuple[int, int]:
    match = _GREETED.fullmatch(greeting)
    if match is None:
        raise OSError("no greeting")
    return int(match[1]), int(match[2])


def _differing(received: str) -> Exception:
    rule = f"must have each its own {NUMBER} and all the same {COUNT}"
    return invalid("processes", rule, received)
