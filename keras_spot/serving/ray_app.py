"""The same application as a deployment of Ray Serve, for a cluster."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_spot.base.errors import missing_extra
from keras_spot.base.types import PathLike
from keras_spot.serving.limits import Limits

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["deployment"]


def deployment(
    folders: Sequence[PathLike],
    engine: str = "auto",
    prompts: PathLike | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> "Application":
    """Return an application for `ray.serve.run`; every replica loads the folders.

    Args:
        folders: what `keras-spot export` wrote, on a disk that all machines have.
        engine: see `opening.open_all`.
        prompts: a folder of prompts that is looked at while serving.
        limits: of each replica.
        **options: of `ray.serve.deployment`, such as `num_replicas` and `ray_actor_options`.

    Raises:
        MissingExtra: Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError:
        raise missing_extra("ray[serve]", "ray-serve") from None
    given = [str(folder) for folder in folders], engine, prompts, limits

    def build() -> Any:
        from keras_spot.serving.app import make_app

        return make_app(handler_of(*given))

    return serve.deployment(**options)(serve.ingress(build)()).bind()


def handler_of(
    folders: Sequence[PathLike], engine: str, prompts: PathLike | None, limits: Limits | None
) -> Any:
    """Return the handler of exported folders."""
    from keras_spot.serving.handler import Handler
    from keras_spot.serving.held import PromptFolder
    from keras_spot.serving.models import Models
    from keras_spot.serving.opening import open_all

    limits = Limits() if limits is None else limits
    takes_prompts = prompts is not None
    engines, _ = open_all(folders, engine, takes_prompts=takes_prompts, batch_size=limits.batch)
    held = None if prompts is None else PromptFolder(prompts, engines[0].facts)
    return Handler(Models(engines, held), limits)
