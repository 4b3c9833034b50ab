"""Start a study: check it, open its folder, let one or many processes work, collect the table."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_spot import backbones
from keras_spot.base.claims import STALE_AFTER
from keras_spot.base.cores import usable_cores
from keras_spot.base.errors import Unfinished, check_installed, invalid, unknown
from keras_spot.base.meeting import check_alone
from keras_spot.study.description import Study, load
from keras_spot.study.engine import Trainer, work
from keras_spot.study.table import Row, Status, StudyFolder, status

__all__ = ["LOOK", "check", "child", "run", "worker"]

LOOK = 2.0  # seconds between looks at what the workers have done
_SECONDS_TO_SAVE = 10.0  # of a worker whose parent has ended


def run(
    study: "Study | str | os.PathLike",
    folder: str | os.PathLike,
    *,
    workers: int | str = 1,
    stale_after: float = STALE_AFTER,
    progress: Callable[[Status], None] | None = None,
    make_trainer: Callable[[Study], Trainer] | None = None,
) -> list[Row]:
    """Run what a study still lacks; return the rows of all of it.

    Everything is checked before anything trains. After a kill at any moment the same call goes on:
    finished cells are not run again, unfinished ones continue at their last scored checkpoint.
    The call may be made at the same time on several hosts that share the folder.

    Args:
        study: a `Study`, or a file for `load`.
        folder: the study's folder, see `keras_spot.study.table`.
        workers: processes on this machine, each with its share of the cores; 1 is this process;
            `"ray"` is a worker for every such share of a Ray cluster whose machines share
            `folder` (`pip install 'keras-spot[ray]'`).
        stale_after: seconds without a sign of life after which another's cell is taken over.
        progress: called with the status now and then.
        make_trainer: what runs the cells, by default a `CellTrainer`; only with one worker.

    Raises:
        InvalidArgument: a description that breaks its rules, or a folder with another study.
        MissingFile: data that are not prepared.
        Unfinished: cells that went wrong, or workers that died; everything else is finished.
    """
    check_alone("must be one for each call of a study; others may make its cells at the same time")
    study = study if isinstance(study, Study) else load(study)
    if workers != "ray" and (type(workers) is not int or workers < 1):
        raise invalid("workers", "must be a positive integer or 'ray'", f"workers={workers!r}")
    if workers == "ray":
        check_installed("ray", "ray")
    if make_trainer is None:
        check(study)
    place = StudyFolder(folder, stale_after)
    place.open(study)
    place.forget_failures(study)
    with _watched(place, progress):
        if workers == "ray":
            _work_on_ray(place)
        elif workers == 1:
            work(place, study, make_trainer or _cell_trainer)
        else:
            _work_in_processes(place, int(workers))
    place.write_table()
    _complain(place)
    return place.rows(study)


def check(study: Study) -> None:
    """Raise for whatever would stop a study on its way: names, data, splits, labels, numbers.

    Raises:
        InvalidArgument: an unknown backbone or split, a split without labels, a method that a task
            cannot be answered with, a wrong setting of a reparameterization, or more examples than
            a target has.
        MissingFile: data that are not prepared.
    """
    from keras_hub.models import T5Backbone

    from keras_spot.data.sources import count_rows
    from keras_spot.data.streams import open_labelled
    from keras_spot.model import reparameterizations
    from keras_spot.training import evaluate

    if not backbones.is_backbone(study.backbone):
        known = [*backbones.EMBEDDED, *backbones.SHORTCUTS, *T5Backbone.presets]
        raise unknown("backbone", study.backbone, known)
    for one in study.prompt_methods.values():
        reparameterizations.get(one.reparameterization)
    for entry in (*study.sources, *study.targets):
        task, method = entry.task, entry.method or study.method
        evaluate.check_method(task, method)
        open_labelled(task, entry.split, study.data_dir)
        for split in entry.scored:
            evaluate.check_labelled(task, split, study.data_dir)
    largest = max((size for size in study.examples if size), default=0)
    for target in study.targets if largest else ():
        rows = count_rows(target.task, target.split, study.data_dir)
        if rows < largest:
            rule = f"must be at most the {rows} rows of {target.name}"
            raise invalid("examples", rule, f"examples={largest}")


def _cell_trainer(study: Study) -> Trainer:
    from keras_spot.study.trainer import CellTrainer  # TensorFlow, only where there is work

    return CellTrainer(study)


def worker(folder: str | os.PathLike, stale_after: float = STALE_AFTER) -> None:
    """Work in a study's folder that `run` has opened, until nothing is left to do."""
    place = StudyFolder(folder, stale_after)
    work(place, place.study(), _cell_trainer)


def _work_in_processes(place: StudyFolder, workers: int) -> None:
    """Run workers, each with its share of the cores, and wait for them all."""
    code = "import sys; from keras_spot.study import launch; launch.child(*sys.argv[1:])"
    words = [sys.executable, "-c", code, str(place.path), str(place.claims.stale_after)]
    logs = place.path / "logs"
    logs.mkdir(exist_ok=True)
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    environment = _environment(max(1, usable_cores() // workers))
    with contextlib.ExitStack() as stack:
        children = []
        for number in range(workers):
            log = stack.enter_context(open(logs / f"{stamp}-{number}.log", "wb"))
            child = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )
            stack.callback(child.wait)
            assert child.stdin is not None
            stack.callback(child.stdin.close)  # tells a child that still runs to end
            children.append(child)
        for child in children:
            child.wait()


def child(folder: str, stale_after: str) -> None:
    """Be a worker process that ends when its parent does, however that ends, and saves first."""

    def follow() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_SAVE)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    worker(folder, float(stale_after))
    os._exit(0)  # data threads of TensorFlow may still wait for a next batch


def _environment(threads: int) -> dict[str, str]:
    """Return the variables of a worker with so many threads, this package among its modules."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **os.environ,
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _work_on_ray(place: StudyFolder, cores: int = 2) -> None:
    """Run the worker loop as Ray tasks, one for every two cores of the cluster."""
    import ray

    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    total = int(ray.cluster_resources().get("CPU", 1))
    cores = min(cores, total)
    remote = ray.remote(num_cpus=cores, runtime_env={"env_vars": _ray_variables(cores)})(worker)
    ray.get(
        [
            remote.remote(str(place.path.resolve()), place.claims.stale_after)
            for _ in range(total // cores)
        ]
    )


def _ray_variables(cores: int) -> dict[str, str]:
    ours = _environment(cores)
    return {k: ours[k] for k in ours if k.startswith(("TF_", "OMP_")) or k == "PYTHONPATH"}


@contextlib.contextmanager
def _watched(place: StudyFolder, progress: Callable[[Status], None] | None) -> Iterator[None]:
    """Report the status every now and then while the block runs, and once when it ends."""
    if progress is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            progress(status(place))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        progress(status(place))


def _complain(place: StudyFolder) -> None:
    state = status(place)
    if state.complete:
        return
    missing = sum(state.total.values()) - sum(state.done.values())
    reasons: list[Any] = sorted({failure["error"] for failure in state.failures})
    if not reasons:
        logs = sorted((place.path / "logs").glob("*.log"), key=os.path.getmtime)
        last = logs[-1].read_text(encoding="utf-8", errors="replace").strip() if logs else ""
        reasons = [last.splitlines()[-1] if last else "a worker ended early"]
    raise Unfinished(
        f"`study` has {missing} runs that did not finish; the same call tries them again. "
        f"{reasons[0]}" + (f" (and {len(reasons) - 1} other reasons)" if reasons[1:] else "")
    )
