"""The queue of jobs: bounded for each visitor and each address, which take turns; quick jobs never wait for slow ones.

Gradio's own queue has one bound for everybody, so one visitor with many requests turns all others away.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from gradio import queueing, route_utils
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event
from starlette.exceptions import HTTPException
from starlette.requests import Request

from vitmsn import limits
from vitmsn.ui.locale import later, tr
from vitmsn.ui.request_body import named

# The lines that jobs wait in, as arguments of an event. Short jobs interleave (the encoder has its own lock). A costly
# one is a single large forward; a long one (a zip, a batch, UMAP) may take minutes. Opening a model may be a download,
# for which a visitor only waits.
SHORT: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 8}
COSTLY: dict[str, Any] = {"concurrency_id": "costly", "concurrency_limit": 1}
LONG: dict[str, Any] = {"concurrency_id": "long", "concurrency_limit": 1}
OPEN: dict[str, Any] = {"concurrency_id": "open", "concurrency_limit": 8}
REFUSED: dict[str, Any] = {"concurrency_id": "refused", "concurrency_limit": 8}  # nobody waits to be told what is wrong
SLOW = (COSTLY["concurrency_id"], LONG["concurrency_id"])


class FairQueue(queueing.Queue):
    """Gradio's queue, with bounds and turns. A refusal is an HTTP error: 429 for one sender, 503 for all."""

    def __init__(self, blocks: Any, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(
            live_updates=True,
            concurrency_count=blocks.max_threads,
            update_intervals=1,
            max_size=None,  # `_check_room` has bounds of its own
            blocks=blocks,
            default_concurrency_limit=SHORT["concurrency_limit"],
        )
        self._clock = clock
        self._ended: dict[str, float] = {}  # session -> when a job of it last ended

    async def push(self, body: PredictBodyInternal, request: Request, username: str | None) -> Any:
        if body.fn_index is None:
            return await super().push(body, request, username)
        fn = route_utils.get_fn(self.blocks, None, body)
        costly = getattr(fn.fn, "costly", None)  # from `judged`
        line: dict[str, Any] = {"concurrency_id": fn.concurrency_id}
        if self.blocks.refuses(fn, body.data):  # type: ignore[attr-defined]  # a `Page`
            line = REFUSED
        elif costly and costly(body.data):
            line = COSTLY
        self._check_room(line["concurrency_id"] in SLOW, body.session_hash, _host(request))
        pushed = await super().push(body, request, username)
        if pushed[0] and line["concurrency_id"] != fn.concurrency_id:
            self._move(self.event_ids_to_events[str(pushed[1])], **line)
        return pushed

    def _check_room(self, slow: bool, session: str | None, address: str) -> None:
        """Raise an HTTP error when this sender, or everybody together, has as many jobs as allowed."""
        jobs = [*self.waiting(), *self.running()]
        slow_jobs = [event for event in jobs if event.concurrency_id in SLOW]
        waiting = [event for event in self.waiting() if (event.concurrency_id in SLOW) == slow]
        for some, of_visitor, of_address, kind in (
            (jobs, limits.VISITOR_JOBS, limits.ADDRESS_JOBS, later("requests")),
            *(
                [(slow_jobs, limits.VISITOR_SLOW_JOBS, limits.ADDRESS_SLOW_JOBS, later("long requests"))]
                if slow
                else []
            ),
        ):
            if sum(_visitor(event) == (address, session or "") for event in some) >= of_visitor:
                raise _refused(
                    429,
                    tr(
                        "{of_visitor} {kind} of yours are waiting or running; wait until one is answered.",
                        of_visitor=of_visitor,
                        kind=tr(kind),
                    ),
                )
            if sum(_address(event) == address for event in some) >= of_address:
                raise _refused(
                    429,
                    tr(
                        "{of_address} {kind} from your address are waiting or running; try again soon.",
                        of_address=of_address,
                        kind=tr(kind),
                    ),
                )
        if len(waiting) >= (limits.SLOW_QUEUE_LENGTH if slow else limits.QUEUE_LENGTH):
            raise _refused(
                503,
                tr("{waiting} requests are waiting and no more are taken now; try again soon.", waiting=len(waiting)),
            )

    def _move(self, event: Event, concurrency_id: str, concurrency_limit: int) -> None:
        """Move a job that waits to another line."""
        lines = self.event_queue_per_concurrency_id
        lines[event.concurrency_id].queue.remove(event)
        event.concurrency_id = concurrency_id
        if concurrency_id not in lines:
            lines[concurrency_id] = queueing.EventQueue(concurrency_id, concurrency_limit)
        lines[concurrency_id].queue.append(event)

    def get_events(self) -> Any:
        """The next job to run: of those that wait, one of the visitor and address with the fewest before it."""
        running = self.running()
        for name, line in self.event_queue_per_concurrency_id.items():
            free = line.concurrency_limit is None or line.current_concurrency < line.concurrency_limit
            if free and len(line.queue) > 1:
                here = [event for event in running if event.concurrency_id == name]
                line.queue[:] = in_turn(in_turn(line.queue, here, _visitor), here, _address)
        return super().get_events()

    async def process_events(self, events: list[Event], batch: bool, begin_time: float, fn: BlockFunction) -> None:
        try:
            await super().process_events(events, batch, begin_time, fn)
        finally:
            for event in events:
                self.event_ids_to_events.pop(event._id, None)  # Gradio's own end waits before it, and may be cancelled
                self._ended[event.session_hash] = self._clock()
                if not event.alive:  # its answer is sent to nobody; Gradio would keep later streams of the session open
                    self.pending_event_ids_session.get(event.session_hash, set()).discard(event._id)

    def compute_analytics_summary(self, records: Any) -> Any:
        """Nothing: Gradio's would build a table of up to 10,000 jobs after each job, for a page that is closed here."""
        self.event_analytics.clear()
        return self.cached_event_analytics_summary

    def waiting(self) -> list[Event]:
        return [event for line in self.event_queue_per_concurrency_id.values() for event in line.queue]

    def running(self) -> list[Event]:
        return [event for events in self.active_jobs if events for event in events]

    def uploads(self) -> set[str]:
        """The uploads that jobs name which wait or run, as paths below the upload folder."""
        asked = [event.data for event in list(self.event_ids_to_events.values()) if event.data is not None]
        return named([[body.data, body.event_data] for body in asked])

    def abandoned(self, event_id: str | None) -> bool:
        """Whether nobody gets this job's answer any more: its client has closed the connection, or the server ends."""
        event = self.event_ids_to_events.get(event_id or "")
        return self.stopped or (event is not None and not event.alive)

    def sweep(self) -> None:
        """Delete answers that nobody has fetched for `limits.ANSWER_SECONDS`."""
        busy = {event.session_hash for event in [*self.waiting(), *self.running()]}
        for session, ended in list(self._ended.items()):
            if session not in busy and self._clock() - ended > limits.ANSWER_SECONDS:
                self._ended.pop(session, None)
                self.pending_messages_per_session.pop(session, None)
                self.pending_event_ids_session.pop(session, None)


def judged(handler: Callable[..., Any], costly: Callable[..., Any] | None) -> Callable[..., Any]:
    """`handler`, whose jobs wait in the line of costly ones where `costly(*values)` says so of a request's values."""
    if costly is not None:

        def judge(values: list[Any]) -> bool:
            try:
                return bool(costly(*values))
            except (TypeError, ValueError, RuntimeError):  # wrong types, or too few: refused when it is their turn
                return False

        handler.costly = judge  # type: ignore[attr-defined]
    return handler


def in_turn(waiting: Iterable[Event], running: Iterable[Event], sender: Callable[[Event], Hashable]) -> list[Event]:
    """The jobs in an order in which senders take turns; each sender's own keep their order."""
    before = Counter(map(sender, running))
    turns: list[tuple[int, Event]] = []
    for event in waiting:
        turns.append((before[sender(event)], event))
        before[sender(event)] += 1
    return [event for _, event in sorted(turns, key=lambda turn: turn[0])]


def _visitor(event: Event) -> Hashable:
    """Who sent a job: a session at an address. Requests without a session are one visitor for each address."""
    return _address(event), "" if event.session_hash == event._id else event.session_hash


def _address(event: Event) -> str:
    return _host(event.request)


def _host(request: Request) -> str:
    return request.client.host if request.client else ""


def _refused(status: int, sentence: str) -> HTTPException:
    return HTTPException(status, sentence, {"Retry-After": str(limits.RETRY_SECONDS)})
