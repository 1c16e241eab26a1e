# SPDX-License-Identifier: Apache-2.0
"""What the server's log says of its runners.

At debug level it names every decision: then the reason of an unload is known. At the default level
it shows loads to the millisecond, out-of-memory, crashes and that room is wanted, without names.
A line may be missing or lie, so polls and processes decide what happened, and the log only why.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ollama_exporter.residency.events import Reason
from ollama_exporter.residency.facts import LogKind, LogSaid

SAME: Final = 0.02  # seconds: two lines of one decision
BIRTH_ERROR: Final = 0.3  # between the server's begin of a load and the birth of the process
MOST_TRACKS: Final = 256
MOST_LINES: Final = 256
KEPT_FOR: Final = 600.0  # no load takes longer: the server's own limit is 5 minutes
GIVEN_UP: Final = 0.2  # seconds before the line that says that the server ends
SETTLED: Final = 0.5  # a listing that is younger than a line by so much is to agree with it
LAG: Final = 1.0  # a line is read at most this long after it is written
EVIDENCE: Final = {
    Reason.EVICTED: "the log: it was condemned to make room",
    Reason.OPTIONS_CHANGED: "the log: it was condemned to be loaded with other options",
    Reason.EXPIRED: "the log: its timer expired",
    Reason.STOPPED: "the log: it was unloaded, and neither for room nor by its timer",
    Reason.OUT_OF_MEMORY: "the log: a runner ran out of memory, and all were condemned",
    Reason.CRASHED: "the log: its process was dead before it was unloaded",
}


@dataclass(slots=True)
class Track:
    """One runner as the log tells of it. Moments are those of its lines, on our timeline."""

    pid: int
    model: str | None = None
    weights: str | None = None
    reloading: float | None = None
    num_ctx: int | None = None
    condemned: Reason | None = None
    condemned_at: float = 0.0
    busy: bool = False  # when it was condemned
    timer: bool = False
    expiring: bool = False
    killed: bool = False
    closed: bool = False  # a request found it dead
    ran_out: bool = False  # of memory, itself

    def note(self, line: LogSaid) -> None:
        """Take a line that names it."""
        match line.kind:
            case LogKind.IDLE:  # it lives on
                self.condemned, self.reloading, self.timer = None, None, False
            case LogKind.RELOADING:
                self.reloading = line.written
            case LogKind.EVICTING:
                again = self.reloading is not None and line.written - self.reloading < SAME
                reason = Reason.OPTIONS_CHANGED if again else Reason.EVICTED
                self.condemn(line.written, reason)
            case LogKind.IDLE_AT_ZERO:
                self.busy = True
            case LogKind.TIMER_EXPIRED:
                self.timer = True
            case LogKind.EXPIRING:
                self.expiring, self.killed = True, False
            case LogKind.KILLED:
                self.killed = True
            case LogKind.CLOSED:
                self.closed |= not self.expiring

    def condemn(self, at: float, reason: Reason) -> None:
        """Note a cause; the first one stands, until the runner goes on to live."""
        if self.condemned is None:
            self.condemned, self.condemned_at = reason, at


@dataclass(frozen=True, slots=True)
class LoggedExit:
    """An unload, as the log tells of it."""

    at: float
    model: str | None
    weights: str | None
    reason: Reason
    track: Track


class LogEvidence:
    """Keeps what the log said lately."""

    def __init__(self) -> None:
        self.followed = False  # a line was read that the server wrote itself
        self.detailed = False  # at debug level: an absence means something
        self.read_to = 0.0  # moment of the latest line
        self.contradictions = 0
        self._tells_kills = False  # from 0.30 on: then a kill that is not told was none
        self._tracks: OrderedDict[int, Track] = OrderedDict()
        self._names: OrderedDict[str, str] = OrderedDict()  # weights -> name
        self._endings: deque[LoggedExit] = deque(maxlen=MOST_LINES)
        self._lines: deque[LogSaid] = deque(maxlen=MOST_LINES)

    def take(self, line: LogSaid) -> None:
        """Take a line, in the order in which they were written."""
        self.followed = True
        self.read_to = max(self.read_to, line.written)
        match line.kind:
            case LogKind.SERVER_STARTED:
                self._tracks.clear()
            case LogKind.OUT_OF_MEMORY:
                for track in self._tracks.values():
                    track.ran_out |= track.weights == line.weights
                    track.condemn(line.written, Reason.OUT_OF_MEMORY)
            case LogKind.SHUT_DOWN:
                # What was in flight was given up first; that is no reason of its own.
                while self._endings and self._endings[-1].at > line.written - GIVEN_UP:
                    self._endings.pop()
                self._tracks.clear()
        if line.pid is None:
            self._lines.append(line)
        else:
            self.detailed = True
            self._track(line, line.pid)

    def _track(self, line: LogSaid, pid: int) -> None:
        track = self._tracks.setdefault(pid, Track(pid))
        track.model, track.weights = line.model or track.model, line.weights or track.weights
        track.num_ctx = line.num_ctx or track.num_ctx
        if line.model is not None and line.weights is not None:
            self._names[line.weights] = line.model
            while len(self._names) > MOST_TRACKS:
                self._names.popitem(last=False)
        if line.kind is LogKind.REMOVED:
            del self._tracks[pid]
            self._endings.append(self._ending(track, line.written))
        else:
            self._tells_kills |= line.kind is LogKind.KILLED
            track.note(line)
        while len(self._tracks) > MOST_TRACKS:
            self._tracks.popitem(last=False)

    def _ending(self, track: Track, at: float) -> LoggedExit:
        """Tell why, of what was said on the way: the first cause stands."""
        dead = track.closed or (self._tells_kills and not track.killed)
        if dead and not track.ran_out and not (track.condemned and track.busy):
            reason = Reason.CRASHED
        elif track.condemned is not None:
            reason = track.condemned
        else:
            reason = Reason.EXPIRED if track.timer else Reason.STOPPED
        return LoggedExit(at, track.model, track.weights, reason, track)

    def compare(self, listed: Mapping[str, float], since: float, until: float) -> None:
        """Count the unloads that a listing contradicts; `listed`: name -> since when, at `until`.

        `since`: when the listing before was made, which was compared already.
        """
        for ending in self._endings:
            begun = listed.get(ending.model or "")
            if begun is None or not since < ending.at + SETTLED <= until or begun > ending.at:
                continue
            again = self.moments(LogKind.LOAD_STARTED, ending.at, until)
            self.contradictions += not any(line.weights == ending.weights for line in again)

    # -- questions -------------------------------------------------------------------------------

    def behind(self, moment: float, now: float) -> bool:
        """Tell whether lines of that moment may still be to come."""
        return self.followed and self.read_to < moment and now < moment + LAG

    def condemned(self, weights: str, before: float) -> Reason | None:
        """Return why a runner was to go already at that moment, if the log said so."""
        gone = (ending.track for ending in self._endings if ending.at >= before)
        tracks = (x for x in [*gone, *self._tracks.values()] if x.weights == weights)
        return next((x.condemned for x in tracks if x.condemned and x.condemned_at < before), None)

    def newcomer(self, at: float) -> tuple[str, str | None] | None:
        """Return weights and name of what was loaded next; None: nothing yet."""
        for line in self._lines:
            if line.kind is LogKind.LOAD_STARTED and line.written >= at and line.weights:
                return line.weights, self._names.get(line.weights)
        return None

    def loads(self, low: float, high: float) -> int:
        """Return how many loads began within these bounds."""
        return len(self.moments(LogKind.LOAD_STARTED, low, high))

    def load_time(self, weights: str, until: float) -> float | None:
        """Return how long the latest load of those weights took, by the server's own figure."""
        begun = self.moments(LogKind.LOAD_STARTED, until - KEPT_FOR, until)
        starts = [line.written for line in begun if line.weights == weights]
        if not starts:
            return None
        done = self.moments(LogKind.LOAD_DONE, starts[-1], until)
        took = (x.seconds for x in done if x.seconds and _began(x, starts[-1]))
        return next(took, None)

    def loaded(self, born: float, died: float) -> bool | None:
        """Tell whether the load that began then was done. None: no log is followed."""
        if not self.followed:
            return None
        done = self.moments(LogKind.LOAD_DONE, born, died + SAME)
        return any(_began(line, born) for line in done)

    def moments(self, kind: LogKind, low: float, high: float) -> list[LogSaid]:
        """Return the lines of a kind that name no process, within these bounds."""
        return [x for x in self._lines if x.kind is kind and low <= x.written <= high]

    def ending(
        self,
        low: float,
        high: float,
        *,
        model: str | None = None,
        weights: str | None = None,
        context: int | None = None,
    ) -> LoggedExit | None:
        """Return the first unload of a model or of weights within these bounds.

        `context`: of several the one that had it is meant.
        """
        found = [
            ending
            for ending in self._endings
            if low <= ending.at <= high
            and (ending.weights == weights if weights is not None else ending.model == model)
        ]
        meant = (ending for ending in found if ending.track.num_ctx == context)
        return next(meant, found[0] if found else None)


def _began(done: LogSaid, moment: float) -> bool:
    """Tell whether the load that is done now began then."""
    return abs(done.written - (done.seconds or 0.0) - moment) < BIRTH_ERROR
