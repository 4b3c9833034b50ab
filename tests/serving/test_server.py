"""The server around an engine that computes nothing, in a process of its own."""

import gzip
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from serving_client import echo, together

from keras_spot import prompts
from keras_spot.base.errors import InvalidArgument
from keras_spot.serving import held, models
from keras_spot.serving import server as server_module

SST2 = "glue/sst2:predict"


@pytest.fixture(scope="module")
def server():
    with echo() as running:
        yield running
        assert running.ask(SST2, {"instances": ["still here"]})[0] == 200
        assert running.stop() == 0
        assert "imported []" in running.log  # an engine alone, no TensorFlow


def test_texts_and_fields_in_every_form(server):
    rows = [{"sentence": "a gem"}, "sst2 sentence: ready", {"text": "ready, too"}]
    answers = ["glue/sst2|sst2 sentence: a gem", "glue/sst2|sst2 sentence: ready"]
    answers.append("glue/sst2|ready, too")
    expected = [{"outputs": answer, "error": ""} for answer in answers]
    assert server.ask(SST2, {"instances": rows}) == (200, {"predictions": expected})
    by_version = f"glue/sst2/versions/1{SST2[-8:]}"
    assert server.ask(by_version, {"instances": rows})[1] == {"predictions": expected}
    encoded = urllib.parse.quote("glue/sst2", safe="")
    assert server.ask(f"{encoded}:predict", {"instances": rows})[1] == {"predictions": expected}
    columns = {"sentence": ["a", "b"]}
    assert server.ask(SST2, {"inputs": columns})[1]["outputs"] == {
        "outputs": ["glue/sst2|sst2 sentence: a", "glue/sst2|sst2 sentence: b"],
        "error": ["", ""],
    }
    assert server.ask(SST2, {"inputs": ["a"]})[1]["outputs"]["outputs"] == ["glue/sst2|a"]


def test_labels(server):
    fields = {"premise": "it rains", "hypothesis": "it is wet"}
    status, answer = server.ask("pair:classify", {"examples": [fields, fields]})
    assert (status, set(answer)) == (200, {"results"})
    first, second = answer["results"]
    assert first == second
    assert [label for label, _ in first] == ["yes", "no", "perhaps"]
    assert sum(share for _, share in first) == pytest.approx(1)
    # What examples share may stand once.
    shared = {"premise": "it rains", "hypothesis": "?"}
    examples = [{"hypothesis": "it is wet"}, {"premise": "no", "hypothesis": "no"}]
    answer = server.ask("pair:classify", {"context": shared, "examples": examples})[1]
    assert answer["results"][0] == first != answer["results"][1]
    asked = {"context": ["it rains"], "examples": examples}
    assert server.ask("pair:classify", asked)[0] == 422
    asked = {"signature_name": "classify", "instances": [fields]}
    (row,) = server.ask("pair:predict", asked)[1]["predictions"]
    assert list(map(list, zip(row["labels"], row["probabilities"]))) == first
    assert row["label"] == max(first, key=lambda pair: pair[1])[0]
    asked = {"signature_name": "score", "inputs": {"text": ["x", "y"], "candidates": ["a", "b"]}}
    status, answer = server.ask("free:predict", asked)
    assert (status, np.shape(answer["outputs"]["scores"])) == (200, (2, 2))


def test_one_wrong_row_leaves_the_others(server):
    rows = [{"sentence": "a"}, {"sentense": "b"}, {"sentence": None}, "\ud800", {"sentence": "c"}]
    status, answer = server.ask(SST2, {"instances": rows})
    assert status == 200
    rows = answer["predictions"]
    assert [bool(row["error"]) for row in rows] == [False, True, True, True, False]
    assert [row["outputs"][-1:] for row in rows] == ["a", "", "", "", "c"]
    rows = [{"prompt": "glue/sst2", "sentence": "a"}, {"prompt": "glue/sst", "sentence": "a"}]
    answers = server.ask("keras_spot:predict", {"instances": rows})[1]["predictions"]
    assert answers[0]["outputs"] == "glue/sst2|sst2 sentence: a"
    assert "did you mean 'glue/sst2'" in answers[1]["error"]
    examples = [{"premise": "a", "hypothesis": "b"}, {"premise": "a"}]
    answer = server.ask("pair:classify", {"examples": examples})[1]
    assert answer["results"][1] == []
    assert [bool(error) for error in answer["errors"]] == [False, True]


def test_a_row_that_breaks_the_engine_leaves_the_others(server):
    good = {"instances": ["fine"]}
    bad = {"instances": ["my secret: boom"]}
    results = together([lambda: server.ask("free:predict", good)] * 6)
    results += together([lambda: server.ask("free:predict", bad)] * 2)
    assert [status for status, _ in results] == [200] * 6 + [500] * 2
    mixed = together([lambda asked=a: server.ask("free:predict", asked) for a in [good, bad] * 4])
    assert [status for status, _ in mixed] == [200, 500] * 4
    status, answer = server.ask("free:predict", {"instances": ["fine", "my secret: boom"]})
    assert status == 200
    assert [row["outputs"] for row in answer["predictions"]] == ["free|fine", ""]
    assert "engine failed" in answer["predictions"][1]["error"]
    assert "RuntimeError" in server.log
    assert "secret" not in server.log


DEEP = b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD = {
    "nothing": (b"", 400),
    "no JSON": (b'{"instances": [', 400),
    "no UTF-8": (b'{"instances": ["\xff"]}', 400),
    "a long number": (b'{"instances": [' + b"1" * 9999 + b"]}", 400),
    "deep": (DEEP, 400),
    "a list": (b"[]", 422),
    "a number": (b"NaN", 422),
    "no rows": ({"instances": []}, 422),
    "no form": ({}, 422),
    "two forms": ({"instances": ["a"], "inputs": ["a"]}, 422),
    "a text for a list": ({"instances": "a"}, 422),
    "numbers": ({"instances": [1]}, 422),
    "nulls": ({"instances": [None]}, 422),
    "lists": ({"instances": [["a"]]}, 422),
    "unknown key": ({"instances": ["a"], "path": "/etc/passwd"}, 422),
    "unknown signature": ({"instances": ["a"], "signature_name": "os.system"}, 422),
    "signature of another type": ({"instances": ["a"], "signature_name": ["x"]}, 422),
    "columns of two lengths": ({"inputs": {"sentence": ["a"], "more": []}}, 422),
    "a column that is none": ({"inputs": {"sentence": "a"}}, 422),
    "empty columns": ({"inputs": {}}, 422),
    "too many rows": ({"instances": ["a"] * 257}, 422),
    "a long text": ({"instances": ["a" * 1_000_000]}, 422),
    "no candidates": ({"instances": [{"text": "a"}], "signature_name": "score"}, 422),
    "candidates of another type": (
        {"instances": [{"text": "a", "candidates": [1]}], "signature_name": "score"},
        422,
    ),
    "candidates of half a character": (
        {"instances": [{"text": "a", "candidates": ["\ud800"]}], "signature_name": "score"},
        422,
    ),
    "all rows wrong": ({"instances": [{"x": "a"}]}, 422),
    "half a character": ({"instances": ["\ud800"]}, 422),
    "a large body": (b" " * (5 << 20), 413),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_a_defined_answer(server, name):
    asked, expected = BAD[name]
    status, answer = server.ask(SST2, asked)
    assert (status, list(answer)) == (expected, ["error"])
    assert len(answer["error"]) < 1500
    assert server.get("/healthz") == (200, {"status": "ok"})


def mutated(rng, body):
    """Return a body with other bytes, or with other values of any type."""
    odd = [None, True, -1, float("nan"), 10**40, "\ud800", "\0", [], {}, [[]], {"prompt": 3}]

    def walk(value):
        if rng.random() < 0.25:
            return rng.choice(odd)
        if isinstance(value, dict):
            names = ["", "prompt", "text", "__class__", "\ud800"]
            return {rng.choice([key] * 20 + names): walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    if rng.random() < 0.5:
        return json.dumps(walk(body)).encode()
    data = bytearray(json.dumps(body).encode())
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(data) + 1)
        data[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
    return bytes(data)


def test_mutated_requests_never_break_the_server(server):
    rng = random.Random(0)
    bodies = [
        {"instances": ["a", {"sentence": "b"}]},
        {"inputs": {"premise": ["a"], "hypothesis": ["b"]}, "signature_name": "classify"},
        {"examples": [{"premise": "x", "hypothesis": "y"}]},
        {"instances": [{"text": "x", "candidates": ["a", "b"]}], "signature_name": "score"},
    ]
    paths = ["glue/sst2:predict", "pair:classify", "free:predict", "keras_spot:predict"]
    for _ in range(600):
        path, body = rng.choice(paths), mutated(rng, rng.choice(bodies))
        status, _ = server.ask(path, body)
        assert status in (200, 400, 422), (path, body)


def test_odd_texts_are_answered(server):
    texts = ["", " ", "\0", "a\0b", "\N{SNOWMAN}" * 9, "a" * 100_000, "\u202e", "{sentence}"]
    status, answer = server.ask("free:predict", {"instances": texts})
    assert status == 200
    assert [row["outputs"] for row in answer["predictions"]] == [f"free|{text}" for text in texts]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nope:predict", 404),
        ("glue/sst2:regress", 404),
        ("glue/sst2", 404),
        ("glue/sst2/versions/2:predict", 404),
        ("../../etc/passwd:predict", 404),
        ("free:classify", 422),
    ],
)
def test_unknown_addresses(server, path, status):
    form = "examples" if path.endswith("classify") else "instances"
    assert server.ask(path, {form: ["a"]})[0] == status


def test_what_is_served(server):
    listing = server.get("/v1/models")[1]
    assert [model["name"] for model in listing["models"]] == ["glue/sst2", "pair", "free"]
    assert listing["models"][1]["fields"] == ["premise", "hypothesis"]
    status = server.get("/v1/models/glue/sst2")[1]["model_version_status"][0]
    assert (status["version"], status["state"]) == ("1", "AVAILABLE")
    metadata = server.get("/v1/models/pair/versions/1/metadata")[1]
    assert metadata["model_spec"]["name"] == "pair"
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert list(signatures["classify"]["inputs"]) == ["premise", "hypothesis"]
    assert metadata["metadata"]["task"]["labels"] == ["yes", "no", "perhaps"]
    assert "classify" not in json.dumps(server.get("/v1/models/free/metadata")[1])
    for path in ("/v1/models/nope", "/v1/models/nope/metadata", "/v1/models/free/versions/3"):
        assert server.get(path)[0] == 404


def test_other_hosts_pages_and_headers(server):
    status, _, _ = server.raw("GET", "/v1/models", headers={"Host": "evil.example"})
    assert status == 421
    asked = {"instances": ["a"]}
    assert server.ask(SST2, asked, headers={"Host": "evil.example:80"})[0] == 421
    assert server.ask(SST2, asked, headers={"Host": "localhost:80"})[0] == 200
    for path, kind in (("/", "text/html"), ("/page.js", "text/javascript")):
        status, headers, body = server.raw("GET", path)
        names = {name.lower(): value for name, value in headers.items()}
        assert (status, names["x-content-type-options"]) == (200, "nosniff")
        assert names["content-type"].startswith(kind)
        assert "default-src 'self'" in names["content-security-policy"]
        assert body
    assert server.raw("GET", "/page/../app.py")[0] == 404
    for method, path, expected in (
        ("DELETE", "/v1/models/free", 405),
        ("OPTIONS", f"/v1/models/{SST2}", 405),
        ("GET", f"/v1/models/{SST2}", 405),
        ("POST", "/healthz", 405),
        ("GET", "/v2/health/live", 404),
    ):
        status, headers, body = server.raw(method, path)
        assert (status, list(json.loads(body))) == (expected, ["error"]), path
        names = {name.lower(): value for name, value in headers.items()}
        assert ("allow" in names) == (status == 405)
    assert "POST" in server.raw("PUT", f"/v1/models/{SST2}")[1]["allow"]
    body = gzip.compress(b'{"instances": ["a"]}')
    status, answer = server.ask(SST2, body, headers={"Content-Encoding": "gzip"})
    assert (status, "gzip" in answer["error"]) == (415, True)


def test_numbers_for_prometheus(server):
    server.ask(SST2, {"instances": ["a", {"x": "b"}]})
    server.ask("one%20of%20many:predict", {"instances": ["a"]})
    text = server.raw("GET", "/metrics")[2].decode()
    line = r'keras_spot_requests_total{model="glue/sst2",status="200",verb="predict"} [1-9]'
    assert re.search(line, text)
    assert "one of many" not in text
    for name in ("request_seconds_bucket", "batch_rows_bucket", "rows_total", "queue_rows"):
        assert f"keras_spot_{name}" in text


def test_texts_stay_out_of_the_log(server):
    server.ask(SST2, {"instances": ["my secret"]})
    server.ask("my%20secret:predict", {"instances": ["a"]})
    assert "glue/sst2:predict 200" in server.log
    assert "secret" not in server.log
    with echo("--log-texts") as talkative:
        talkative.ask(SST2, {"instances": ["no secret"]})
        assert "no secret" in talkative.log


def test_a_body_in_pieces_or_broken_off(server):
    place = urllib.parse.urlsplit(server.address)
    head = f"POST /v1/models/{SST2} HTTP/1.1\r\nHost: localhost\r\n"
    for rest in ("Content-Length: 99\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n"):
        with socket.create_connection((place.hostname, place.port)) as connection:
            connection.sendall((head + rest).encode())
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert b" 400 " in connection.recv(1000)
    body = iter([b'{"instances": ', b'["a"]}'])
    status, _, answer = server.raw("POST", f"/v1/models/{SST2}", body)
    assert (status, json.loads(answer)["predictions"][0]["error"]) == (200, "")


def test_many_at_once_are_computed_together():
    with echo("--delay", "0.2") as server:
        started = time.monotonic()
        calls = [
            lambda number=number: server.ask(SST2, {"instances": [f"text {number}"]})
            for number in range(24)
        ]
        answers = together(calls)
        assert time.monotonic() - started < 0.2 * 24 / 2
        expected = [f"glue/sst2|text {number}" for number in range(24)]
        assert [answer["predictions"][0]["outputs"] for _, answer in answers] == expected


def test_a_full_queue_and_a_late_answer():
    with echo("--delay", "0.5", "--queue", "4", "--batch", "2") as server:
        asked = {"instances": ["a", "b"]}
        results = together(
            [lambda: server.raw("POST", f"/v1/models/{SST2}", json.dumps(asked))] * 9
        )
        statuses = [status for status, *_ in results]
        assert set(statuses) == {200, 429}
        assert statuses.count(429) >= 3
        assert statuses.count(200) >= 2
        headers = next(headers for status, headers, _ in results if status == 429)
        assert {name.lower(): value for name, value in headers.items()}["retry-after"] == "1"
        assert server.ask(SST2, {"instances": ["a"] * 4})[0] == 200
        # What can never wait is not asked to try again.
        status, answer = server.ask(SST2, {"instances": ["a"] * 5})
        assert (status, answer["error"]) == (
            422,
            "at most 4 texts can wait; send fewer in a request",
        )
    with echo("--delay", "3", "--seconds", "0.3") as server:
        status, answer = server.ask(SST2, {"instances": ["a"]})
        assert (status, answer) == (504, {"error": "no answer within 0.3 seconds"})


def test_a_connection_without_a_request_is_closed():
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def ask(connection):
        connection.sendall(head)
        answer = b""
        while b'"ok"}' not in answer:
            answer += connection.recv(9999)

    with echo("--seconds", "1") as server:
        place = urllib.parse.urlsplit(server.address)
        address = place.hostname, place.port
        for asks, part in ((False, b""), (False, head[:20]), (True, head[:20])):
            with socket.create_connection(address, timeout=10) as connection:
                if asks:
                    ask(connection)
                connection.sendall(part)
                assert connection.recv(9999) == b""
        with socket.create_connection(address, timeout=10) as connection:
            for pause in (0, 0.6, 0.6, 1.5):  # one that has asked may wait, as ever
                time.sleep(pause)
                ask(connection)


def test_a_slow_body_is_late_too():
    with echo("--seconds", "0.5") as server:

        def slowly():
            yield b'{"instances": '
            time.sleep(1.5)
            yield b'["a"]}'

        assert server.raw("POST", f"/v1/models/{SST2}", slowly())[0] == 504


def test_sigterm_answers_what_was_asked():
    with echo("--delay", "0.7") as server:
        asked = {"instances": ["a"]}
        calls = [lambda: server.ask(SST2, asked)] * 3

        def end():
            time.sleep(0.4)
            return server.stop()

        *answers, code = together([*calls, end])
        assert [status for status, _ in answers] == [200] * 3
        assert code == 0


def test_prompts_come_and_go_while_serving(tmp_path):
    folder = tmp_path / "prompts"
    record = {"name": "new", "input": "say {word}", "labels": ["a", "b"]}

    def answer(name, row, expected, status=200):
        end = time.monotonic() + 10
        while True:
            actual = server.ask(f"{name}:predict", {"instances": [row]})
            if actual[0] == status and expected in json.dumps(actual[1]):
                return
            assert time.monotonic() < end, actual
            time.sleep(0.02)

    with echo("--prompts", folder) as server:
        answer("new", {"word": "x"}, "no task of that name", 404)
        prompts.write(folder / "new.npz", np.ones((2, 4)), {"task_record": record})
        answer("new", {"word": "x"}, "8|say x")
        prompts.write(folder / "new.npz", np.full((2, 4), 2.0), {"task_record": record})
        answer("new", {"word": "x"}, "16|say x")
        prompts.write(folder / "glue%2Fsst2.npy", np.full((2, 4), 3.0))
        answer("glue/sst2", "ready", "24|ready")
        os.remove(folder / "glue%2Fsst2.npy")
        answer("glue/sst2", {"sentence": "x"}, "glue/sst2|sst2 sentence: x")
        # Neither half a file nor one that does not fit takes the place of a good one.
        whole = (folder / "new.npz").read_bytes()
        (folder / "new.npz").write_bytes(whole[:-100])
        (folder / "wide.npy").write_bytes(b"\x80\x04\x95pickle")
        prompts.write(folder / "narrow.npy", np.ones((2, 3)))
        end = time.monotonic() + 10
        while set(server.get("/v1/models")[1]["problems"]) != {"new", "wide", "narrow"}:
            assert time.monotonic() < end
            time.sleep(0.02)
        answer("new", {"word": "x"}, "16|say x")
        for name in ("new.npz", "wide.npy", "narrow.npy"):
            os.remove(folder / name)
        answer("new", {"word": "x"}, "no task of that name", 404)
        (folder / "entry").mkdir()
        prompts.write(folder / "entry" / "prompt.npz", np.ones((1, 4)), {"task": "glue/sst2"})
        answer("entry", {"sentence": "x"}, "4|sst2 sentence: x")


def test_what_cannot_be_taken_up_keeps_no_other_prompt_out(tmp_path):
    folder = held.PromptFolder(tmp_path, {"width": 4})
    engine = SimpleNamespace(name="echo", cards={})
    served = models.Models([engine], folder)
    os.symlink("loop.npz", tmp_path / "loop.npz")
    os.symlink("nowhere", tmp_path / "gone.npz")
    for number, name in enumerate(["good.npz", "good.npy", "keras_spot.npz"]):
        prompts.write(tmp_path / name, np.full((2, 4), float(number)))
    (tmp_path / "odd.npz").write_bytes(b"PK\x05\x06" + bytes(18))
    served.refresh()
    assert list(served.served) == ["good"]
    assert served.get("good").prompt.values[0, 0] == 0
    assert set(folder.problems) == {"loop", "gone", "good.npy", "keras_spot", "odd"}
    assert "good.npz" in folder.problems["good.npy"]
    assert "Received: odd.npz" in folder.problems["odd"]  # and not where it lies
    for name in ("loop.npz", "gone.npz", "good.npz", "keras_spot.npz", "odd.npz"):
        os.remove(tmp_path / name)
    served.refresh()
    assert (served.get("good").prompt.values[0, 0], folder.problems) == (1, {})


def test_what_a_killed_server_has_left_is_cleared_away(tmp_path, monkeypatch):
    make = "import os; from keras_spot.serving import server\n"
    make += "room = server.room_for_exports(); print(room.__enter__(), flush=True); os._exit(9)"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = subprocess.run([sys.executable, "-c", make], capture_output=True, text=True).stdout
    (Path(left.strip()) / "model").mkdir()
    (tmp_path / ".keras-spot-serve.of.somebody").mkdir()
    with server_module.room_for_exports() as own:
        names = {place.name for place in tmp_path.iterdir()}
        assert names == {own.name, ".keras-spot-serve.of.somebody"}
    assert not own.exists()


def test_an_address_is_one_server_s(tmp_path):
    first = server_module.bind("127.0.0.1", 0)  # it does not listen yet, and has the address
    with first, pytest.raises(InvalidArgument, match="`port` must be free"):
        server_module.bind(*first.getsockname())
    # Connections that a server has closed keep nobody out.
    with echo() as running:
        place = urllib.parse.urlsplit(running.address)
        with socket.create_connection((place.hostname, place.port)) as connection:
            running.get("/healthz")
            assert running.stop() == 0
            assert connection.recv(1) == b""
        server_module.bind(place.hostname, place.port).close()


def test_prompts_change_under_load(tmp_path):
    prompts.write(tmp_path / "p.npy", np.ones((2, 4)))
    with echo("--prompts", tmp_path) as server:

        def ask():
            return [server.ask("p:predict", {"instances": ["x"]}) for _ in range(60)]

        def change():
            for number in range(30):
                value = float(1 + number % 2)
                prompts.write(tmp_path / "p.npy", np.full((2, 4), value), overwrite=True)
                time.sleep(0.02)

        one, other, _ = together([ask, ask, change])
        results = [*one, *other]
        assert {status for status, _ in results} == {200}
        answers = {answer["predictions"][0]["outputs"] for _, answer in results}
        assert answers <= {"8|x", "16|x"}
