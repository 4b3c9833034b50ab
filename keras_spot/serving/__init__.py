"""From an exported model to answers: engines that run it, and a server in front of them.

| module | its one job |
|---|---|
| `engines` | one class for each library that runs an exported model |
| `opening` | paths to engines; which one is the fastest here |
| `models`, `held` | what is served by name; prompts that lie beside a model |
| `requests`, `limits` | TensorFlow Serving's REST forms, and what a request may be |
| `batching` | texts of many requests computed together |
| `handler` | from the body of a request to the body of its answer |
| `app`, `server` | addresses around it (Starlette), and the process (uvicorn) |
| `ray_app` | the same application on Ray Serve |
| `telemetry` | numbers for Prometheus |
| `page` | the page at `/` |
"""

from keras_spot.serving.engines import Engine, open_engine
from keras_spot.serving.limits import Limits
from keras_spot.serving.ray_app import deployment
from keras_spot.serving.server import serve

__all__ = ["Engine", "Limits", "deployment", "open_engine", "serve"]
