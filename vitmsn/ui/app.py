"""`App`: what a tab plugs into. It owns the shared components and wires every event the same way.

A tab function is plain Python: `fn(call, *input values) -> output value(s)`. The wiring around it finds the visit,
turns a ViTMSNError into a message beside the picture, logs anything unexpected, and refreshes the status line.

docs/app.md has the tutorial, with an example.
"""

from __future__ import annotations

import functools
import inspect
import time
import typing
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component
from gradio.context import LocalContext
from gradio.utils import get_upload_folder

from vitmsn import image, limits
from vitmsn.errors import ViTMSNError
from vitmsn.ui.fair_queue import LONG, SHORT, FairQueue, judged
from vitmsn.ui.faults import sentence
from vitmsn.ui.locale import tr, tr_said
from vitmsn.ui.memory import give_back
from vitmsn.ui.models import Models
from vitmsn.ui.page_scripts import KEEP_IN_ADDRESS, NO_PICTURE, OPEN_TAB, OWN_PICTURE, REFILL, REVEAL
from vitmsn.ui.shared import examples, html
from vitmsn.ui.shared.controls import Controls, Inputs, by_name, components, emptied, flat
from vitmsn.ui.shared.endpoints import Endpoint, endpoint
from vitmsn.ui.shared.photo import Photo, portrait, read_picture, sent
from vitmsn.ui.shared.scripts import run
from vitmsn.ui.status import status_line
from vitmsn.ui.visits import ELSEWHERE, INACTIVE, Call, Visit, Visitors, keep_picture, remove_picture

Function = Callable[..., Any]
LARGE = 2_000_000  # pixels decoded in one event, above which memory is returned to the system at once


@dataclass
class Panel:
    """'Your picture' on one tab: the picture, the examples under it, and where messages about it appear."""

    image: gr.Image
    strip: gr.HTML
    notice: gr.HTML


@dataclass
class Answer:
    """How one tab fills itself: at load, when it is opened, and on a new picture or model."""

    fn: Function
    inputs: list[Any]
    outputs: list[Any]
    notice: gr.HTML
    stamp: Callable[[Visit], Hashable]
    controls: Controls[Any] | None  # the tab's own, if it has any
    empty: list[Any]  # the outputs without a picture
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Link:
    component: Component
    check: Callable[[str], Any]


def picture_stamp(visit: Visit) -> Hashable:
    return visit.picture.digest if visit.picture else ""


@dataclass
class App:
    """One page. Tabs use `picture`, `answer`, `on`, `endpoint`, `link`; the rest is internal."""

    page: gr.Blocks
    models: Models
    visitors: Visitors
    model: gr.Dropdown
    status: gr.HTML
    tabs: gr.Tabs
    items: dict[str, gr.Tab] = field(default_factory=dict)
    panels: dict[str, Panel] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    opens_with: Visit | None = None  # the visit whose answer is part of the page

    # -- for tabs ----------------------------------------------------------------------------------------------------

    def picture(self, tab: str, label: str = "") -> gr.Image:
        """Place 'Your picture' with its examples and message line here. One per tab."""
        first = examples.photographs()[0]
        shown = Photo(
            first.picture.rgb if not self.panels else None,  # the other tabs show it when they are opened
            label=label or tr("Your picture"),
            sources=["upload", "webcam", "clipboard"],
            buttons=["fullscreen"],
            height=360,
            elem_classes="msn-picture",
            elem_id=f"picture-{tab}",
            alt_text=tr(first.title),
        )
        gr.HTML(examples.said(), elem_id=f"said-{tab}", elem_classes="msn-said")
        notice = self.notice()
        strip = gr.HTML(examples.strip(), js_on_load=examples.SCRIPT, elem_id=f"strip-{tab}", elem_classes="msn-strip")
        self.panels[tab] = Panel(shown, strip, notice)
        return shown

    def shown(self, label: str, **more: Any) -> gr.Image:
        """A picture that is only shown: functions return a PIL image; it travels in the page, no file is written."""
        return Photo(label=label, interactive=False, **{"buttons": ["download", "fullscreen"], **more})

    def notice(self) -> gr.HTML:
        """A message line of its own, for a tab (or part of one) without `picture`."""
        return gr.HTML("", elem_classes="msn-notice-line")

    def answer(
        self,
        tab: str,
        fn: Function,
        inputs: Inputs = (),
        outputs: Sequence[Block] | Mapping[str, Block] = (),
        *,
        again: Sequence[Any] = (),
        notice: gr.HTML | None = None,
        stamp: Callable[[Visit], Hashable] = picture_stamp,
        stays: Collection[Block] = (),
        **more: Any,
    ) -> None:
        """The tab's main function, with the tab's `notice` line for what goes wrong.

        Runs at load when the tab is open, when it is opened and something changed (`stamp`, or the model), on a new
        picture, on a new model, and on each event listed in `again`. When the visitor removes the picture, what says
        something of it goes: HTML and pictures, but for those in `stays`. `more` goes to `on`.
        """
        line = notice or self.panels[tab].notice
        controls = next((thing for thing in inputs if isinstance(thing, Controls)), None)
        wired = by_name(fn, inputs, outputs)
        if again:
            self.on(again, fn, inputs, outputs, notice=line, **more)
        if "costly" in more:
            more["costly"] = flat(more["costly"], inputs)
        empty = emptied(components(outputs), stays)
        self.answers[tab] = Answer(wired, components(inputs), components(outputs), line, stamp, controls, empty, more)

    def on(
        self,
        events: Any,
        fn: Function,
        inputs: Inputs = (),
        outputs: Sequence[Block] | Mapping[str, Block] = (),
        *,
        notice: gr.HTML,
        long: bool = False,
        costly: Function | None = None,
        show_progress: typing.Literal["full", "minimal", "hidden"] = "minimal",
        **more: Any,
    ) -> Any:
        """Wire `fn(call, *inputs)` to one event or a list of them; returns Gradio's dependency (for `.then`).

        Inputs may be controls, which `fn` gets as their dataclass; where outputs have names, `fn` answers by name (see
        `shared/controls`). A generator shows each thing it yields as it comes; an error ends it and leaves what was
        shown.

        Args:
            long: it may take minutes, so it waits in the line of such jobs.
            costly: `costly(*inputs)` says of their values whether they take seconds; such a job leaves the short ones'
                line. It runs before anything was checked.
        """
        wired, placed = by_name(fn, inputs, outputs), [notice, *components(outputs), self.status]
        handler = judged(self._shown(wired, len(placed) - 2), costly and flat(costly, inputs))
        listen = functools.partial(gr.on, list(events)) if isinstance(events, (list, tuple)) else events
        return listen(
            handler,
            components(inputs),
            placed,
            api_visibility="private",
            show_progress=show_progress,
            **{
                "trigger_mode": "always_last",
                "show_progress_on": placed[1:-1] or None,
                **(LONG if long else SHORT),
                **more,
            },
        )

    def endpoint(
        self,
        name: str,
        fn: Function,
        *,
        long: bool = False,
        costly: Function | None = None,
    ) -> None:
        """Publish `fn(call, *parameters)` as `/name` for programs; its hints and docstring say all about it, see
        `shared/endpoints`. A ViTMSNError becomes the client's error message. `long` and `costly` as in `on`.
        """
        described = endpoint(name, fn)
        handler, line = judged(self._published(fn, described), costly), LONG if long else SHORT
        takes, gives = ([one.component() for one in values] for values in (described.takes, described.gives))
        gr.Button(visible=False).click(handler, takes, gives, api_name=name, **line)

    def go(self, button: gr.Button, tab: str) -> None:
        """Make `button` open another tab, as a click on its name would."""
        button.click(None, js=f"() => document.getElementById('tab-{tab}-button').click()", api_visibility="private")

    def reveal(self, event: Any, result: str) -> None:
        """After `event` (what `on` returned), scroll to the element with the id `result` unless it is in sight."""
        event.then(None, js=run(REVEAL, result), api_visibility="private", show_progress="hidden")

    def stop(self, button: gr.Button) -> None:
        """Make `button` end this visitor's long job at its next `call.progress`."""

        def stop(request: gr.Request) -> None:
            self.visitors.of(request.session_hash).stopped = time.monotonic()

        self.at_once(button.click, stop, [])

    def link(self, name: str, component: Component, check: Callable[[str], Any], event: str = "change") -> None:
        """Keep a control in the address as `?name=value`, and so over a reload.

        `check` turns the text into the control's value. It raises ValueError for other text; such a link is ignored.
        `event`: "input" leaves out what answers set by themselves.
        """
        self.links[name] = Link(component, check)
        getattr(component, event)(None, [component], None, js=run(KEEP_IN_ADDRESS, name), api_visibility="private")

    # -- the wiring ---------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Join the tabs: your picture, opening a tab. Called once, after all tabs were built."""
        for tab, panel in self.panels.items():
            panel.image.upload(None, js=OWN_PICTURE, api_visibility="private")
            self.fill(panel.image.upload, tab, before=self._receive, given=[panel.image])
            panel.image.clear(None, js=NO_PICTURE, api_visibility="private")
            self.fill(panel.image.clear, tab, before=self._remove)
            self.fill(panel.strip.click, tab, before=self._choose)
            files: Any = getattr(panel.strip, "files")  # noqa: B009 (an event of its script: own_picture.js)
            files(None, js=OWN_PICTURE, api_visibility="private")
            self.fill(files, tab, before=self._receive_sent)
        for tab, item in self.items.items():
            item.select(None, js=run(OPEN_TAB, tab), api_visibility="private")
            door = gr.Button(visible="hidden", elem_id=f"fill-{tab}")
            if tab in self.answers:
                self.fill(door.click, tab, when_due=True)

    def at_once(self, event: Any, fn: Function, outputs: Sequence[Block]) -> Any:
        """Wire a handler that does no heavy work: it skips the queue, so a full queue never refuses it."""
        return event(fn, None, list(outputs), queue=False, api_visibility="private", show_progress="hidden")

    def refill(self, event: Any) -> None:
        """After `event`, fill the open tab again if what it shows has changed. One job, not one per tab."""
        event(None, js=REFILL, api_visibility="private")

    def stamp(self, visit: Visit, entry: Answer) -> Hashable:
        return entry.stamp(visit), visit.model, picture_stamp(visit)

    def fill(
        self,
        event: Any,
        tab: str,
        *,
        before: Callable[..., bool] | None = None,
        given: Sequence[Component] = (),
        when_due: bool = False,
    ) -> Any:
        """On `event`, show the visitor's picture and the tab's answer (`when_due`: only if the page shows old ones).

        `before(call, *given values)` comes first; when it returns False only the picture and its message are shown.
        """
        panel, entry = self.panels.get(tab), self.answers[tab]

        def fill(call: Call, *values: Any) -> Any:
            visit = call.visit
            head, values = values[: len(given)], values[len(given) :]
            call.tab = visit.tab = tab
            if when_due and visit.shown.get(tab) == self.stamp(visit, entry):
                return SKIP
            going_on = before is None or before(call, *head)
            self._begin(call)
            shown = [portrait(visit)] if panel else []
            visit.shown.pop(tab, None)
            results: list[Any] = [gr.skip()] * len(entry.outputs)
            try:
                if going_on:
                    results = _listed(entry.fn(call, *values), len(entry.outputs))
                    visit.shown[tab] = self.stamp(visit, entry)
            except ViTMSNError as error:
                call.message = str(error)
            return [*shown, *(entry.empty if panel and visit.picture is None else results)]

        outputs = [*([panel.image] if panel else []), *entry.outputs]
        more = dict(entry.more)
        if of_answer := more.pop("costly", None):
            more["costly"] = lambda *values: of_answer(*values[len(given) :])
        return self.on(event, fill, [*given, *entry.inputs], outputs, notice=entry.notice, **more)

    def _begin(self, call: Call) -> None:
        """Start again with the first example, and say so, when the visit was deleted while its page was inactive."""
        visit, first = call.visit, examples.photographs()[0]
        if not visit.begun:
            keep_picture(visit, first.picture, first.name)
            visit.greeting = ELSEWHERE if visit.moved else INACTIVE
        if visit.greeting and not call.message:
            call.message, visit.greeting = tr(visit.greeting), ""

    def _remove(self, call: Call) -> bool:
        remove_picture(call.visit)
        call.message = tr("No picture yet. Drop one here, take a photo, or pick an example.")
        return False

    def _receive(self, call: Call, path: str) -> bool:
        """Store a new picture; if it cannot be read, say why and keep the last one."""
        visit = call.visit
        try:
            keep_picture(visit, read_picture(path))
        except ViTMSNError as error:
            visit.begun, call.message = True, str(error)
            return False
        if visit.picture is not None and visit.picture.notes:
            call.message = f"{visit.picture.name}: {', '.join(map(tr_said, visit.picture.notes))}."
        return True

    def _receive_sent(self, call: Call) -> bool:
        """Store a picture dropped, pasted or chosen anywhere on the page; the old one stays until it arrives."""
        path = sent(call)[0]
        try:
            return self._receive(call, path)
        finally:
            self.visitors.read_upload(Path(path))

    def _choose(self, call: Call) -> bool:
        example = examples.by_name(str(call.chosen("name")))
        keep_picture(call.visit, example.picture, example.name)
        return True

    def _shown(self, fn: Function, count: int) -> Function:
        """`fn` as a Gradio handler whose errors appear on the page: notice first, status last."""

        def begun(request: gr.Request, event: gr.EventData, bar: gr.Progress) -> Call:
            visit = self.visitors.of(request.session_hash)
            return Call(self.models, visit, visit.tab, event, bar, dict(visit.link), abandoned=self._abandoned())

        def told(call: Call, result: Any) -> list[Any]:
            if result is SKIP:
                return [gr.skip()] * (count + 1) + [status_line(self.models, call)]
            return [html.notice(call.message, call.details), *_listed(result, count), status_line(self.models, call)]

        def failed(error: Exception) -> list[Any]:
            message = sentence(error, getattr(fn, "__qualname__", str(fn)))
            return [html.notice(message), *[gr.skip()] * count, gr.skip()]

        def handler(request: gr.Request, event: gr.EventData, bar: gr.Progress = gr.Progress(), *values: Any) -> Any:  # noqa: B008
            call = begun(request, event, bar)
            try:
                return told(call, call.timed(lambda: fn(call, *values)))
            except Exception as error:
                return failed(error)
            finally:
                self._done(call, values)

        def streaming(request: gr.Request, event: gr.EventData, bar: gr.Progress = gr.Progress(), *values: Any) -> Any:  # noqa: B008
            call = begun(request, event, bar)
            try:
                for result in call.each_timed(fn(call, *values)):
                    yield told(call, result)
            except Exception as error:
                yield failed(error)
            finally:
                self._done(call, values)

        return streaming if inspect.isgeneratorfunction(fn) else handler

    def _published(self, fn: Function, endpoint: Endpoint) -> Function:
        """`fn` as an endpoint: the parameters of `fn` after `call`, its docstring, errors as the client's error."""
        described = list(inspect.signature(fn).parameters.values())[1:]
        hints = typing.get_type_hints(fn)

        def handler(*values: Any) -> Any:
            request, bar, values = values[0], values[-1], values[1:-1]
            alone = request.session_hash == LocalContext.event_id.get(None)  # a request without a session, so once only
            visit = self.visitors.of(None if alone else request.session_hash)
            call = Call(self.models, visit, bar=bar, abandoned=self._abandoned())
            try:
                endpoint.check(values)
                with image.counted(call.budget):
                    return fn(call, *values)
            except Exception as error:
                said = sentence(error, f"/{fn.__name__}")
            finally:
                self._done(call, values)
            # raised out here, because an error inside an error keeps its frames alive, and the pictures in them
            raise gr.Error(said, print_exception=False)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        handler.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter("request", kind, annotation=gr.Request),
                *described,
                inspect.Parameter("progress", kind, default=gr.Progress()),
            ]
        )
        handler.__annotations__ = {**{p.name: hints.get(p.name, Any) for p in described}, "request": gr.Request}
        handler.__name__, handler.__doc__ = fn.__name__, endpoint.docstring
        handler.endpoint = endpoint  # type: ignore[attr-defined]
        return handler

    def sweep(self) -> None:
        """Delete what has grown old of visits and of answers, and return their memory. Called by a timer."""
        self.visitors.sweep()
        give_back()
        if isinstance(self.page._queue, FairQueue):
            self.page._queue.sweep()

    def _abandoned(self) -> Callable[[], bool]:
        """A function that says whether the client of the running job has closed its connection."""
        queue, event = self.page._queue, LocalContext.event_id.get(None)
        return lambda: isinstance(queue, FairQueue) and queue.abandoned(event)

    def _done(self, call: Call, values: Sequence[Any]) -> None:
        """After an event: note that its uploads were read, apply the bounds on visits, and return memory."""
        folder = Path(get_upload_folder()).resolve()
        for value in values:
            for name in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(name, str) and name.startswith(str(folder)):
                    self.visitors.read_upload(Path(name))
        self.visitors.sweep()
        if limits.REQUEST_PIXELS - call.budget.left > LARGE:
            give_back()


class _Skip:
    """Returned by a tab function that changes nothing: all outputs and the message stay as they are."""


SKIP = _Skip()


def _listed(result: Any, count: int) -> list[Any]:
    """Output values as a list of `count`."""
    if count == 1 and not (isinstance(result, (list, tuple)) and len(result) == 1):
        return [result]
    return list(result) if count else []
