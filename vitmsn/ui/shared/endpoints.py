"""Endpoints: what programs and agents call by name.

A function alone describes its endpoint. The hints of its parameters say which components take them, with their labels,
bounds and choices; its docstring says what each parameter and each answer means:

    def darken(call: Call, image: PictureFile, by: Annotated[float, Parameter("Share", 0, 1)] = 0.5) -> dict[str, Any]:
        \"\"\"Darken a picture.

        Args:
            image: the picture.
            by: the share of its light that goes.

        Returns:
            Answer: `mean`, the brightness that is left.
        \"\"\"

What Gradio tells programs (`/gradio_api/info`), what agents are told of a tool and docs/api.md are all made from it.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import gradio as gr
import PIL.Image
from gradio.components import Component

from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.ui.shared.checks import choice, real, whole
from vitmsn.ui.shared.photo import Files, Photo

# Rises when a parameter or a key of an answer goes, moves or changes its meaning. New ones come last and have defaults.
VERSION = 1
REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameter:
    """What a hint has to add about a parameter: ``Annotated[int, Parameter("Classes", 1, 1000)]``.

    Attributes:
        label: its name for people.
        least, most: the bounds of a number.
        choices: the texts that it may be.
        file: for an uploaded file, a name that one may have; a list of files has one, too.
    """

    label: str
    least: float | None = None
    most: float | None = None
    choices: Collection[str] = ()
    file: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        """The bounds and choices in JSON Schema."""
        bounds = {"minimum": self.least, "maximum": self.most, "enum": [word for word in self.choices if word] or None}
        return {name: value for name, value in bounds.items() if value is not None}


PictureFile = Annotated[str, Parameter("Picture", file="cat.jpg")]


@dataclass(frozen=True)
class Taken:
    """A parameter of an endpoint."""

    name: str
    text: str
    about: Parameter
    kind: Any  # the hint without what was added
    default: Any  # or REQUIRED

    @property
    def several(self) -> bool:
        """Whether it is a list of files."""
        return bool(self.about.file) and "list" in str(self.kind)

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def example(self) -> Any:
        """A value to try it with; files are on the caller's own disk."""
        if not self.about.file:
            return self.default
        file = {"path": self.about.file, "meta": {"_type": "gradio.FileData"}}
        return [file] if self.several else file

    def check(self, value: Any) -> None:
        """Raise InputError if the value is out of bounds, or none of the choices."""
        least, most = self.about.least, self.about.most
        if value is None:
            return
        if self.about.choices:
            choice(value, self.name, self.about.choices)
        elif least is not None and most is not None:
            if self.kind is int:
                whole(value, self.name, int(least), int(most))
            else:
                real(value, self.name, least, most)

    def component(self) -> Component:
        more: dict[str, Any] = {"label": self.about.label, "visible": False}
        if self.several:
            return Files(file_count="multiple", **more)
        if self.about.file:
            return (Files if self.about.file.endswith(".zip") else Photo)(**more)
        made: dict[Any, Callable[[], Component]] = {
            bool: lambda: gr.Checkbox(self.default, **more),
            int: lambda: gr.Number(self.default, precision=0, **more),
            float: lambda: gr.Number(self.default, **more),
            str: lambda: gr.Textbox(self.default, **more),
        }
        return made[self.kind]()


@dataclass(frozen=True)
class Given:
    """One of the answers of an endpoint."""

    label: str
    text: str
    kind: Any

    def component(self) -> Component:
        made = gr.Image if self.kind is PIL.Image.Image else gr.JSON
        return made(label=self.label, visible=False)


@dataclass(frozen=True)
class Endpoint:
    """A function as programs see it.

    Attributes:
        text: what it does.
        takes, gives: its parameters, after ``call``, and its answers, in order.
    """

    name: str
    text: str
    takes: tuple[Taken, ...]
    gives: tuple[Given, ...]

    def check(self, values: Iterable[Any]) -> None:
        """Raise InputError at the first value that is out of bounds, or none of the choices."""
        for one, value in zip(self.takes, values):  # noqa: B905 (the last may be left out)
            one.check(value)

    def refuses(self, values: Sequence[Any]) -> bool:
        """Whether its function refuses these values, as they were sent and of the right types, before any work: one is
        missing, there are too many files, or `check` refuses one."""
        for one, value in zip(self.takes, values):  # noqa: B905
            if (value is None and one.required) or (one.several and len(value or ()) > limits.MAX_QUERIES):
                return True
            try:
                one.check(round(value) if one.kind is int and value is not None else value)  # as its component does
            except InputError:
                return True
        return False

    @property
    def docstring(self) -> str:
        """The same in the form that Gradio reads: one line for each parameter and answer."""
        takes = [f"    {one.name}: {one.text}" for one in self.takes]
        gives = [f"    {one.label}: {one.text}" for one in self.gives]
        return "\n".join([self.text, "", "Args:", *takes, "", "Returns:", *gives])

    @property
    def told(self) -> str:
        """What it does and answers, in one text."""
        return " ".join([self.text, "Answers:", *(f"{one.label}: {one.text}" for one in self.gives)])


def endpoint(name: str, fn: Callable[..., Any]) -> Endpoint:
    """Read a function ``fn(call, *parameters)``; TypeError if something of it is not described."""
    text, takes, gives = _sections(inspect.getdoc(fn) or "")
    hints = typing.get_type_hints(fn, include_extras=True)
    answer = hints["return"]
    kinds = typing.get_args(answer) if typing.get_origin(answer) is tuple else (answer,)
    taken = []
    for parameter in list(inspect.signature(fn).parameters.values())[1:]:
        about, kind = _added(hints[parameter.name])
        if about is None or not takes.get(parameter.name):
            raise TypeError(f"/{name}: {parameter.name} needs a Parameter in its hint and a line under Args")
        taken.append(Taken(parameter.name, takes[parameter.name], about, kind, parameter.default))
    if not text or len(gives) != len(kinds):
        raise TypeError(f"/{name}: the docstring needs a text, and {len(kinds)} lines under Returns")
    given = tuple(Given(label, words, kind) for (label, words), kind in zip(gives.items(), kinds, strict=True))
    return Endpoint(name, text, tuple(taken), given)


def _sections(doc: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """The text, the parameters and the answers of a docstring, each on one line."""
    text, *rest = re.split(r"\n\n(Args|Returns):\n", doc)
    found = dict(zip(rest[::2], rest[1::2], strict=True))

    def entries(body: str) -> dict[str, str]:
        listed = re.findall(r"^ {4}(\w[\w ]*): (.*(?:\n {5,}.*)*)", body, re.MULTILINE)
        return {name: " ".join(words.split()) for name, words in listed}

    return " ".join(text.split()), entries(found.get("Args", "")), entries(found.get("Returns", ""))


def _added(hint: Any) -> tuple[Parameter | None, Any]:
    """The Parameter in a hint, and the hint without it. Python 3.10 puts Optional around a default of None."""
    for part in (hint, *typing.get_args(hint)):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, Parameter):
                return extra, part.__origin__
    return None, hint


# ----------------------------------------------------------------------------------------------------- what others read


def informed(info: Mapping[str, Any], endpoints: Mapping[str, Endpoint]) -> dict[str, Any]:
    """Gradio's description of an app's endpoints, with what it does not know of them."""
    told: dict[str, Any] = {**copy.deepcopy(dict(info)), "version": VERSION}
    for name, entry in told["named_endpoints"].items():
        one = endpoints.get(name.strip("/"))
        if one is None:
            continue
        entry["description"] = one.text
        for shown, taken in zip(entry["parameters"], one.takes, strict=True):
            shown["type"] = {**shown["type"], **taken.about.schema, "description": taken.text}
            shown["python_type"]["description"] = taken.text
            if taken.about.choices:
                words = ", ".join(repr(word) for word in taken.about.schema["enum"])
                shown["python_type"]["type"] = f"Literal[{words}]"
            shown["example_input"] = taken.example
        for shown, given in zip(entry["returns"], one.gives, strict=True):
            shown["type"] = {**shown["type"], "description": given.text}
            shown["python_type"]["description"] = given.text
    return told


ABOUT = """# The API

The running app answers programs. `gradio_client` is the quick way, from Python or, as `@gradio/client`, from
JavaScript; files go as uploads, web addresses are not fetched. This page is made from the code by `make api`;
`/gradio_api/info` of a running app says the same as JSON.

```python
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
answer = client.predict(image=handle_file("cat.jpg"), api_name="/classify")
```

This is version {version}, which `/gradio_api/info` gives as `version`. It rises when a parameter or a key of an answer
goes or changes its meaning; new ones come last and have defaults. Layers, heads, rows and columns count from 1. An
error is one sentence: `gradio_client` raises it as `AppError`.
"""


def page(info: Mapping[str, Any]) -> str:
    """docs/api.md, of what `/gradio_api/info` says."""
    parts = [ABOUT.replace("{version}", str(info["version"]))]
    for name, entry in info["named_endpoints"].items():
        parts += [
            f"## `{name}`\n",
            f"{entry['description']}\n",
            "| parameter | takes | default | |",
            "|---|---|---|---|",
        ]
        for one in entry["parameters"]:
            default = f"`{json.dumps(one['parameter_default'])}`" if one["parameter_has_default"] else "required"
            cells = [f"`{one['parameter_name']}` {one['label']}", _kind(one), default, one["type"]["description"]]
            parts.append(f"| {' | '.join(cells)} |")
        parts += ["", "Gives:\n"]
        parts += [f"- **{one['label']}**: {one['type']['description']}" for one in entry["returns"]]
        asked = [_asked(one) for one in entry["parameters"] if not one["parameter_has_default"]]
        parts.append(f'\n```python\nclient.predict({", ".join(asked)}, api_name="{name}")\n```\n')
    return "\n".join(parts)


def _asked(shown: Mapping[str, Any]) -> str:
    """A file as an argument in Python."""
    example = shown["example_input"]
    if isinstance(example, list):
        files = ", ".join(f"handle_file({json.dumps(file['path'])})" for file in example)
        return f"{shown['parameter_name']}=[{files}]"
    return f"{shown['parameter_name']}=handle_file({json.dumps(example['path'])})"


def _kind(shown: Mapping[str, Any]) -> str:
    """What a parameter takes, in a few words."""
    schema = shown["type"]
    if shown["component"] in ("Image", "File"):
        return "files" if isinstance(shown["example_input"], list) else "a file"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    word = {"integer": "whole number", "number": "number", "boolean": "true or false"}.get(schema["type"], "text")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None:
        return word
    return f"{word}, {low:g} or more" if high is None or high > 1e6 else f"{word}, {low:g} to {high:g}"
