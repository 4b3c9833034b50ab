"""Numbers for Prometheus, by its own client."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["ROWS", "SECONDS", "Telemetry"]

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Telemetry:
    """What a server counts.

    Args:
        waiting: says how many rows wait.
        served: says how many prompts are served.
    """

    def __init__(self, waiting: Callable[[], int], served: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "keras_spot_requests", "Requests.", ["model", "verb", "status"], registry=registry
        )
        self._seconds = Histogram(
            "keras_spot_request_seconds",
            "From a request's first byte to its answer.",
            ["verb"],
            buckets=SECONDS,
            registry=registry,
        )
        self._rows = Counter(
            "keras_spot_rows", "Rows, by what came of them.", ["outcome"], registry=registry
        )
        self._batch_rows = Histogram(
            "keras_spot_batch_rows", "Rows computed at once.", buckets=ROWS, registry=registry
        )
        self._batch_seconds = Histogram(
            "keras_spot_batch_seconds", "Time to compute them.", buckets=SECONDS, registry=registry
        )
        Gauge("keras_spot_queue_rows", "Rows that wait.", registry=registry).set_function(waiting)
        Gauge("keras_spot_prompts", "Prompts served.", registry=registry).set_function(served)

    def request(self, model: str, verb: str, status: int, seconds: float) -> None:
        """Count a request; `model` must be a name that is served, or one for all others."""
        self._requests.labels(model, verb, str(status)).inc()
        self._seconds.labels(verb).observe(seconds)

    def rows(self, answered: int, failed: int) -> None:
        """Count the rows of a request."""
        self._rows.labels("answered").inc(answered)
        self._rows.labels("error").inc(failed)

    def batch(self, rows: int, seconds: float) -> None:
        """Count a batch."""
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
