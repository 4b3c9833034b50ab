"""Processes that train together find each other, or say in one line why not."""

import concurrent.futures
import socket

import pytest

from keras_spot.base import errors, meeting
from keras_spot.base.meeting import ADDRESSES, COUNT, NUMBER, Meeting


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def gathered(*meetings):
    """Return what each process raises, None for one that goes on."""

    def come(one):
        try:
            meeting.gather(one)
        except errors.USER_ERRORS as error:
            return f"{type(error).__name__}: {error}"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(come, meetings))


def of(port, number, count=2, host="127.0.0.1"):
    return Meeting(host, port, count, number)


def test_all_go_on_together_whoever_else_calls(port):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ends = pool.submit(gathered, *(of(port, number, 3) for number in (2, 0)))
        stranger = meeting._connected(of(port, 1, 3), end=float("inf"))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert gathered(of(port, 1, 3)) == [None]
        assert ends.result() == [None, None]
        stranger.close()


def test_processes_that_were_told_different_numbers(port, monkeypatch):
    rule = f"InvalidArgument: `processes` must have each its own {NUMBER} and all the same {COUNT}."
    assert gathered(of(port, 0), of(port, 1, 3)) == [f"{rule} Received: 1 of 3 beside 0 of 2"] * 2
    ends = gathered(of(port, 0, 3), of(port, 1, 3), of(port, 1, 3))
    assert ends == [f"{rule} Received: 1 of 3 beside 0 of 3"] * 3
    monkeypatch.setattr(meeting, "PATIENCE", 0.3)
    refused, _ = sorted(gathered(of(port, 0), of(port, 0)))
    rule = f"InvalidArgument: `{ADDRESSES}` must name a port of the first process' host that is "
    assert refused.startswith(f"{rule}free. Received: 127.0.0.1:{port} (")


def test_who_does_not_come_is_named(port, monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 0.3)
    monkeypatch.setattr(meeting, "_ASKED_EVERY", 0.05)
    rule = f"Unreachable: `processes` must all come to 127.0.0.1:{port} within 0.3 seconds."
    first, second = gathered(of(port, 0, 4), of(port, 2, 4))
    assert first == f"{rule} Received: none of 1, 3"
    assert second.startswith(f"{rule} Received: the first waits no more (")
    (alone,) = gathered(of(port, 1))
    assert alone.startswith(f"Unreachable: `{ADDRESSES}` must answer within 0.3 seconds, as the ")
    (nowhere,) = gathered(of(port, 1, host="no..where"))
    assert nowhere.startswith(f"InvalidArgument: `{ADDRESSES}` must name a host that is known.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("", "2", ""), f"`devices` must be set together: {ADDRESSES}, {COUNT}, {NUMBER}. "),
        (("here", "2", "0"), f"`{ADDRESSES}` must be the first process' host:port. "),
        (("here:99999", "2", "0"), f"`{ADDRESSES}` must be the first process' host:port. "),
        (("a:1,b:1", "3", "0"), f"`{ADDRESSES}` must be the first process' address or one for "),
        (("a:1", "two", "0"), f"`{COUNT}` must be a whole number from 1 on. Received: 'two'"),
        (("a:1", "2", "-1"), f"`{NUMBER}` must be a whole number from 0 on. Received: '-1'"),
        (("a:1", "2", "2"), f"`{NUMBER}` must be below {COUNT}=2, counted from 0. Received: 2"),
        (("a:1,[::1]:2", "2", "1"), Meeting("a", 1, 2, 1)),
        (("[::1]:2", "1", "0"), Meeting("::1", 2, 1, 0)),
        (("", "", ""), None),
    ],
)
def test_the_environment_is_read_with_care(monkeypatch, values, message):
    for name, value in zip((ADDRESSES, COUNT, NUMBER), values, strict=True):
        monkeypatch.setenv(name, value)
    if not isinstance(message, str):
        assert meeting.named() == message
        return
    with pytest.raises(errors.InvalidArgument) as raised:
        meeting.named()
    assert str(raised.value).startswith(message)
