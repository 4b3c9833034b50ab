"""A server in a process of its own, and requests to it."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).parent


class Server:
    """A running server: its process, its address, and what it has printed."""

    def __init__(self, process, log):
        self.process, self._log, self.address = process, log, None

    @property
    def log(self):
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds=120):
        """Wait until it says where it serves."""
        end = time.monotonic() + seconds
        while "serving at " not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)
        self.address = self.log.split("serving at ")[1].split()[0]

    def raw(self, method, path, body=None, headers=None, timeout=60):
        """Return status, headers and body of an answer."""
        place = urllib.parse.urlsplit(self.address)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def get(self, path):
        status, _, body = self.raw("GET", path)
        return status, json.loads(body)

    def ask(self, path, record, **options):
        """Return status and record of the answer to a record."""
        data = record if isinstance(record, bytes) else json.dumps(record).encode()
        status, _, body = self.raw("POST", f"/v1/models/{path}", data, **options)
        return status, json.loads(body)

    def stop(self):
        """Ask it to end; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(*command):
    """Yield a server that a Python command starts; it is ended with the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log")
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
        with open(log, "wb") as sink:
            process = subprocess.Popen(
                [sys.executable, *map(str, command)], stdout=sink, stderr=sink, env=environment
            )
        try:
            server = Server(process, log)
            server.wait()
            yield server
        finally:
            process.kill()
            process.wait()


def echo(*options):
    """Yield a server of `echo_server.py`."""
    return serving(HERE / "echo_server.py", *options)


def together(functions):
    """Call functions at the same time, and return their results in order."""
    results = [None] * len(functions)

    def call(number):
        results[number] = functions[number]()

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
