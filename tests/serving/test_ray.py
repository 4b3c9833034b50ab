"""The application on Ray Serve, where that is installed."""

import json
import urllib.request

import pytest

pytest.importorskip("ray.serve")

import toy

from keras_spot import serving
from keras_spot.model import build
from keras_spot.tasks.card import TaskCard


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_replicas_answer_as_the_model_does(tokenizer, tmp_path):
    import ray
    from ray import serve

    backbone = toy.shallow(tokenizer.vocabulary_size())
    model = build.build(backbone, tokenizer=tokenizer, prompt_length=3, target_length=5)
    model.export(tmp_path / "served", tasks=TaskCard("own", "say {word}", ("a", "b")))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": 8537})
        options = {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.5}}
        serve.run(serving.deployment([tmp_path / "served"], **options))
        body = json.dumps({"instances": [{"word": "x"}, "y"]}).encode()
        address = "http://127.0.0.1:8537/v1/models/own:predict"
        for _ in range(4):
            with urllib.request.urlopen(urllib.request.Request(address, body)) as response:
                rows = json.load(response)["predictions"]
            assert [row["outputs"] for row in rows] == model.generate(["say x", "y"])
    finally:
        serve.shutdown()
        ray.shutdown()
