"""One process at work: threads read ahead, the main thread computes, threads encode behind, parts are committed."""

import resource
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from gifsplain.batch.job import Job
from gifsplain.batch.plan import Item, Part
from gifsplain.batch.rows import Failure, Row, make_failure, make_row
from gifsplain.batch.store import Store
from gifsplain.batch.streak import Streak
from gifsplain.errors import InputError
from gifsplain.explain.methods import explain_with
from gifsplain.io import run_folder
from gifsplain.io.images import load_image
from gifsplain.models.protocols import Pair
from gifsplain.render.directory import write_explanation
from gifsplain.types import Explanation, Picture

Stat = tuple[int, int]
Loaded = tuple[Item, Picture, Stat] | tuple[Item, BaseException, Stat]


@dataclass
class Clock:
    """Where the main thread's time went, in seconds; `computing / total` is its utilisation."""

    computing: float = 0.0
    waiting_for_files: float = 0.0
    waiting_for_encoders: float = 0.0
    total: float = 0.0
    rows: int = 0
    failures: int = 0
    cpu: float = 0.0
    """CPU seconds of the whole process, threads included."""
    peak_megabytes: float = 0.0

    @property
    def utilisation(self) -> float:
        """Part of the time that the main thread computed."""
        return self.computing / self.total if self.total else 0.0

    def values(self) -> dict[str, float]:
        """Plain numbers for the log."""
        return {**asdict(self), "utilisation": self.utilisation}


@dataclass
class _Open:
    """A part on its way: what is computed already and what is still being encoded."""

    part: Part
    rows: list[tuple[Item, Row, Future[object] | None]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Worker:
    """Explains parts with one pair of models and commits them to the store."""

    def __init__(
        self, job: Job, pair: Pair, store: Store, *, report: Callable[[int], None] = lambda cases: None
    ) -> None:
        self.job = job
        self.pair = pair
        self.store = store
        self.report = report
        self.clock = Clock()
        self.computing, self.writing = Streak(), Streak()

    def run(self, parts: Sequence[Part]) -> Clock:
        """Work through `parts`; at most two of them wait for their pictures while the next is computed.

        Raises:
            GifsplainError: When case after case failed, and not by its file; what was computed is committed first.
        """
        started, before = time.perf_counter(), time.process_time()
        waiting: deque[_Open] = deque()
        with ThreadPoolExecutor(self.job.readers) as readers, ThreadPoolExecutor(self.job.encoders) as encoders:
            groups = self._read_ahead(parts, readers)
            try:
                for part in parts:
                    waiting.append(self._compute(part, groups, encoders))
                    while len(waiting) > 2:
                        self._commit(waiting.popleft())
                    if self._is_broken:
                        break
                while waiting:
                    self._commit(waiting.popleft())
            except BaseException:  # Ctrl-C ends at once: nothing of parts that are not committed is drawn any more
                for pool in (readers, encoders):
                    pool.shutdown(wait=False, cancel_futures=True)
                raise
        self.clock.total += time.perf_counter() - started
        self.clock.cpu += time.process_time() - before
        self.clock.peak_megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.computing.refuse_too_long()
        self.writing.refuse_too_long()
        return self.clock

    @property
    def _is_broken(self) -> bool:
        return self.computing.is_too_long or self.writing.is_too_long

    def _read_ahead(self, parts: Sequence[Part], readers: ThreadPoolExecutor) -> Iterator[list[Loaded]]:
        """Loaded items in batches that never cross a part; two batches are being read while one is used."""
        queue: deque[list[Future[Loaded]]] = deque()
        for batch in self._batches(parts):
            queue.append([readers.submit(self._load, item) for item in batch])
            if len(queue) > 2:
                yield self._wait(queue.popleft())
        while queue:
            yield self._wait(queue.popleft())

    def _batches(self, parts: Sequence[Part]) -> Iterator[Sequence[Item]]:
        for part in parts:
            size = self._size(part)
            for start in range(0, len(part.items), size):
                yield part.items[start : start + size]

    def _size(self, part: Part) -> int:
        """Cases that are computed together: as many as fill one batch."""
        most = max(len(item.targets) for item in part.items)
        return max(1, self.job.settings.batch // most)

    def _wait(self, futures: list[Future[Loaded]]) -> list[Loaded]:
        started = time.perf_counter()
        loaded = [future.result() for future in futures]
        self.clock.waiting_for_files += time.perf_counter() - started
        return loaded

    def _load(self, item: Item) -> Loaded:
        reading = self.job.reading
        try:
            stat = item.case.path.stat()
            picture = load_image(item.case.path, window=reading.window, colour=reading.colour)
            return item, picture, (stat.st_size, stat.st_mtime_ns)
        except FileNotFoundError:
            return item, InputError(f"{item.case.path}: expected a file, found none"), (0, 0)
        except Exception as error:  # a damaged file may raise anything in a decoder
            return item, error, (0, 0)

    def _compute(self, part: Part, groups: Iterator[list[Loaded]], encoders: ThreadPoolExecutor) -> _Open:
        """Explain every batch of a part and hand the pictures to the encoders."""
        opened = _Open(part)
        left = len(part.items)
        while left > 0 and not self._is_broken:
            loaded = next(groups)
            left -= len(loaded)
            started = time.perf_counter()
            self._explain(loaded, opened, encoders)
            self.clock.computing += time.perf_counter() - started
            self.report(len(loaded))
        return opened

    def _explain(self, loaded: Sequence[Loaded], opened: _Open, encoders: ThreadPoolExecutor) -> None:
        by_targets: dict[tuple[str, ...], list[tuple[Item, Picture, Stat]]] = {}
        for item, picture, stat in loaded:
            if isinstance(picture, BaseException):
                self._fail(item, item.targets, picture, opened)
            else:
                by_targets.setdefault(item.targets, []).append((item, picture, stat))
        for targets, group in by_targets.items():
            for (item, stat), found in self._together(group, targets, opened):
                opened.rows.append((item, self._row(found, item, stat), self._encode(found, encoders)))

    def _together(
        self, group: Sequence[tuple[Item, Picture, Stat]], targets: Sequence[str], opened: _Open
    ) -> list[tuple[tuple[Item, Stat], Explanation]]:
        """Explanations of a group; when the group fails, of each of its cases and targets alone."""
        owners = [(item, stat) for item, _, stat in group for _ in targets]
        pictures, names = [picture for _, picture, _ in group], [item.case.name for item, _, _ in group]
        try:
            made = explain_with(self.job.method, self.pair, pictures, targets, self.job.settings, cases=names)
        except Exception as error:
            if len(group) == 1 and len(targets) == 1:
                self._fail(group[0][0], targets, error, opened)
                self.computing.failed(names[0], error)
                return []
        else:
            self.computing.succeeded()
            return list(zip(owners, made, strict=True))
        alone = [([one], [target]) for one in group for target in targets]
        return [found for one, target in alone for found in self._together(one, target, opened)]

    def _row(self, explanation: Explanation, item: Item, stat: Stat) -> Row:
        folder = run_folder.media_folder("", explanation.case, explanation.target)
        media = folder.as_posix() if self.job.outputs else ""
        return make_row(explanation, item, stat, self.store.configuration.hash, media)

    def _encode(self, explanation: Explanation, encoders: ThreadPoolExecutor) -> Future[object] | None:
        outputs = self.job.outputs
        if not outputs:
            return None
        folder = self.store.folder / run_folder.MEDIA
        return encoders.submit(write_explanation, explanation, folder, formats=outputs.formats, arrays=outputs.arrays)

    def _fail(self, item: Item, targets: Sequence[str], error: BaseException, opened: _Open) -> None:
        for target in targets:
            opened.failures.append(make_failure(item, target, error, self.store.configuration.hash))

    def _commit(self, opened: _Open) -> None:
        """Wait for a part's pictures and write its rows; a picture that cannot be written is its case's failure."""
        started = time.perf_counter()
        rows = []
        for item, row, future in opened.rows:
            error = future.exception() if future is not None else None
            if error is None:
                rows.append(row)
                self.writing.succeeded()
            else:
                self._fail(item, [row.target], error, opened)
                self.writing.failed(item.case.name, error)
        self.clock.waiting_for_encoders += time.perf_counter() - started
        self.store.commit(opened.part, rows, opened.failures)
        self.clock.rows += len(rows)
        self.clock.failures += len(opened.failures)
