"""Classes that Keras finds by their registered names before their modules are imported.

`keras.saving.load_model` looks a class up in the dictionary of custom objects. Ours are imported on
first use, so that a name stands there for each until then: an object that imports the class as
soon as it is asked for anything.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["LateClass", "register_late", "when_imported"]


class LateClass:
    """Stands for a class until it is asked for an attribute or called."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def _load(self) -> Any:
        module, name = self._place
        return getattr(importlib.import_module(module), name)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._load(), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._load()(*args, **kwargs)


def register_late(package: str, classes: Mapping[str, str]) -> None:
    """Let Keras find classes by `package>name`, now or as soon as it is imported.

    Args:
        package: the package that the classes register themselves with.
        classes: name of a class to the module that defines it.
    """

    def register() -> None:
        registered = importlib.import_module("keras").saving.get_custom_objects()
        for name, module in classes.items():
            registered.setdefault(f"{package}>{name}", LateClass(module, name))

    when_imported("keras", register)


def when_imported(
    name: str,
    action: Callable[[], None],
    within: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> None:
    """Call `action` now if the module is imported, else right after it has been.

    Args:
        name: the module.
        action: what to do.
        within: makes the context in which the module is imported, if it is not yet.
    """
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Watch(name, action, within))


class _Watch(importlib.abc.MetaPathFinder):
    """Finds one module as the other finders do, with an action behind its import."""

    def __init__(
        self,
        name: str,
        action: Callable[[], None],
        within: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self.name, self.action, self.within = name, action, within
        self._state = threading.local()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name or getattr(self._state, "asks_others", False):
            return None
        self._state.asks_others = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._state.asks_others = False
        # Whoever only looks whether the module is there does not import it.
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads as another loader does, then acts."""

    def __init__(self, loader: importlib.abc.Loader, watch: _Watch) -> None:
        self.loader, self.watch = loader, watch

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        with self.watch.within():
            self.loader.exec_module(module)
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self.watch)
        self.watch.action()
