"""Things kept in memory for a while under names that cannot be guessed."""

import secrets
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from gifsplain.errors import InputError

Thing = TypeVar("Thing")


class Shelf(Generic[Thing]):
    """The last `size` things that were used; safe to use from several threads."""

    def __init__(self, what: str, size: int) -> None:
        self.what = what
        self.size = size
        self._things: OrderedDict[str, Thing] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, thing: Thing) -> str:
        """The name under which `thing` is kept."""
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._things[name] = thing
            while len(self._things) > self.size:
                self._things.popitem(last=False)
        return name

    def get(self, name: str) -> Thing:
        """What is kept under a name; raises `GoneError` where nothing is."""
        with self._lock:
            if name not in self._things:
                raise GoneError(f"expected a {self.what} that is still kept, got {name[:40]!r}; open it again")
            self._things.move_to_end(name)
            return self._things[name]

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._things


class GoneError(InputError):
    """Something that was never there, or had to make room."""
