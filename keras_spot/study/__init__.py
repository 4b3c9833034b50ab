"""Transfer studies: a resumable source x target x seed grid, its table and what it says."""

from keras_spot.study.description import Study, load
from keras_spot.study.entries import StudyTask
from keras_spot.study.launch import check, run, worker
from keras_spot.study.table import Status, StudyFolder, status

__all__ = ["Status", "Study", "StudyFolder", "StudyTask", "check", "load", "run", "status"]
__all__ += ["worker"]
