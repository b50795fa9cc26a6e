"""Gradio's page, which answers every bad request with a sentence: no traceback in the log, no empty error."""

from __future__ import annotations

import inspect
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from vitmsn import limits
from vitmsn.ui import sessions  # noqa: F401 (takes the place of Gradio's own)
from vitmsn.ui.fair_queue import FairQueue
from vitmsn.ui.faults import BROKEN
from vitmsn.ui.locale import ENGLISH, current, speaking, tr
from vitmsn.ui.locale.middleware import of_request
from vitmsn.ui.shared.checks import cut
from vitmsn.ui.shared.endpoints import informed

log = logging.getLogger("vitmsn.ui")


class Page(gr.Blocks):
    """`gr.Blocks` that checks the values of a request before Gradio's components get them.

    On a bad value a component raises some exception, and Gradio then answers `{"error": null}`.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        self._config: Any = {}
        self._texts: dict[str, tuple[str, list[Any]]] = {}  # language -> title and components
        super().__init__(*args, **more)

    @property
    def config(self) -> Any:
        """What the browser gets of the page, in the language of whoever is asking."""
        title, components = self._texts.get(current(), (None, None))
        if components is None:
            return self._config
        return {**self._config, "title": title, "components": components}

    @config.setter
    def config(self, config: Any) -> None:
        self._config = config

    def offer(self, language: str, other: Page) -> None:
        """Send the components of `other`, this page as it was built in that language, to whoever asks for it.

        Everything else is the same: which events there are, and the values that functions get.
        """
        mine, theirs = self.get_config_file(), other.get_config_file()
        pairs = zip(mine["components"], theirs["components"], strict=True)
        components = [{**their, "id": one["id"]} for one, their in pairs]
        self._texts[language] = theirs["title"], components

    def get_config_file(self) -> Any:
        """What the browser gets of the page, without what no client reads: a quarter of its bytes.

        Gradio describes each component three times over for /info, also those that no endpoint takes or gives.
        """
        config = super().get_config_file()
        published = {
            block._id
            for fn in self.fns.values()
            if fn.fn and fn.api_visibility != "private"
            for block in (*fn.inputs, *fn.outputs)
        }
        for component in config["components"]:
            component.pop("example_inputs", None)  # /info asks the component itself
            for name in ("api_info_as_input", "api_info_as_output"):
                if component.get(name) == component.get("api_info"):  # which is read in its place
                    component.pop(name, None)
            if component["id"] not in published:
                for name in ("api_info", "api_info_as_input", "api_info_as_output"):
                    component.pop(name, None)
        return config

    def queue(self, *args: Any, **more: Any) -> Page:
        super().queue(*args, **more)
        self._queue = FairQueue(self)
        return self

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        handlers: list[Any] = [fn.fn for fn in self.fns.values() if hasattr(fn.fn, "endpoint")]
        with speaking(ENGLISH):  # endpoints are, whoever asks
            info = super().get_api_info(all_endpoints, page)
        return informed(info, {fn.endpoint.name: fn.endpoint for fn in handlers})

    def refuses(self, block_fn: Any, values: Any) -> bool:
        """Whether the values of a request alone tell that it is refused, which then takes no time."""
        try:
            check(_names(block_fn), block_fn.inputs, values)
        except gr.Error:
            return True
        endpoint = getattr(block_fn.fn, "endpoint", None)
        return block_fn.fn is None or (endpoint is not None and endpoint.refuses(values))

    async def preprocess_data(self, block_fn: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        names = _names(block_fn)
        try:
            if block_fn.fn is None:
                raise _refused("This happens in the page alone; there is nothing to ask for here.")
            check(names, block_fn.inputs, inputs)
            return await super().preprocess_data(block_fn, inputs, *rest, **more)
        except Exception as error:
            if isinstance(error, gr.Error) and not error.print_exception:
                sentence = cut(str(error.message), limits.MESSAGE_LENGTH)  # one of ours
            else:
                sentence = "A value of this request could not be read; send what the page or /gradio_api/info shows."
            why = cut(" ".join(str(error).split()), 200)  # pydantic's are several lines
            log.warning("%s was refused: %s", block_fn.api_name or block_fn.name, why)
            raise gr.Error(sentence, print_exception=False) from None

    async def process_api(
        self, block_fn: Any, inputs: Any, state: Any = None, request: Any = None, *rest: Any, **more: Any
    ) -> Any:
        """Everything that a visitor asks for goes through here: in their language, and endpoints in English."""
        private = getattr(block_fn, "api_visibility", "") == "private"
        language = of_request(request.headers) if private and hasattr(request, "headers") else ENGLISH
        try:
            with speaking(language):
                return await super().process_api(block_fn, inputs, state, request, *rest, **more)
        except gr.Error as error:
            error.print_exception = False  # the visitor sees it, and it was logged where it was raised
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]  # handlers log their own; one line is enough here
            log.error("a request failed: %s at %s:%s", cut(repr(error), 200), Path(place.filename).name, place.lineno)
            raise gr.Error(tr(BROKEN), print_exception=False) from None


def _names(block_fn: Any) -> list[str]:
    """Names for the values of a function: an endpoint's parameters, or their positions."""
    count = len(block_fn.inputs)
    parameters = list(inspect.signature(block_fn.fn).parameters)[1:-1] if block_fn.fn else []
    return parameters if len(parameters) == count else [f"value {place}" for place in range(1, count + 1)]


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("path"), str)


def _is_files(value: Any) -> bool:
    return isinstance(value, list) and all(_is_file(one) for one in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= limits.MAX_TEXT_LENGTH


# What a component can take, and its name in a sentence. None means "not given"; the handler decides about it.
KINDS: tuple[tuple[type, Callable[[Any], bool], str], ...] = (
    (gr.Image, _is_file, "an uploaded file"),
    (gr.Number, _is_number, "a number"),
    (gr.Slider, _is_number, "a number"),
    (gr.Checkbox, lambda value: isinstance(value, bool), "true or false"),
    (gr.Textbox, _is_text, f"a text of at most {limits.MAX_TEXT_LENGTH} characters"),
)


def check(names: list[str], components: Any, values: Any) -> None:
    """Raise an error with a sentence when a value is missing or has a wrong type."""
    if not isinstance(values, list) or len(values) < len(names):
        came = len(values) if isinstance(values, list) else 0
        raise _refused(f"{came} values came and {len(names)} are needed ({', '.join(names)}); send them all.")
    for name, component, value in zip(names, components, values):  # noqa: B905 (Gradio leaves out what is too much)
        if value is None:
            continue
        good: Callable[[Any], bool] | None
        if isinstance(component, gr.File):
            several = component.file_count != "single"
            good, what = (_is_files, "a list of uploaded files") if several else (_is_file, "an uploaded file")
        else:
            good, what = next(((good, what) for kind, good, what in KINDS if isinstance(component, kind)), (None, ""))
        if good is not None and not good(value):
            raise _refused(f"{name} is {cut(repr(value))}; it must be {what}.")


def _refused(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False)


class Seldom(logging.Filter):
    """Log at most `limits.LOG_LINES` lines a minute and count the rest, so that a flood cannot fill the disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock, self._since, self._lines = clock, clock(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        if now - self._since > 60:
            left_out = self._lines - limits.LOG_LINES
            self._since, self._lines = now, 0
            if left_out > 0:
                record.msg, record.args = f"({left_out} lines before this were left out) {record.getMessage()}", ()
        self._lines += 1
        return self._lines <= limits.LOG_LINES
