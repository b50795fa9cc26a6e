"""Endpoints described by their functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import gradio as gr
import pytest
from PIL import Image

from vitmsn import limits
from vitmsn.errors import InputError
from vitmsn.ui.blocks import Page
from vitmsn.ui.shared.endpoints import REQUIRED, VERSION, Parameter, PictureFile, endpoint, informed, page
from vitmsn.ui.visits import Call


def darken(
    call: Call,
    image: PictureFile,
    more: Annotated[list[str] | None, Parameter("More pictures", file="dog.jpg")] = None,
    by: Annotated[float, Parameter("Share", 0, 1)] = 0.5,
    how: Annotated[str, Parameter("Curve", choices={"": "as usual", "even": "Even", "soft": "Soft"})] = "even",
    steps: Annotated[int, Parameter("Steps", 1)] = 3,
    loud: Annotated[bool, Parameter("Loud")] = False,
) -> tuple[Image.Image, dict[str, Any]]:
    """Darken a picture. It stays
    as large as it was.

    Args:
        image: the picture.
        more: others like it: they are
            darkened, too.
        by: the share of its light that goes.
        how: the curve.
        steps: how many.
        loud: say so.

    Returns:
        Dark picture: the picture.
        Answer: `mean`, the brightness
            that is left.
    """
    raise NotImplementedError


def test_an_endpoint_is_read_from_its_function() -> None:
    found = endpoint("darken", darken)
    assert found.text == "Darken a picture. It stays as large as it was."
    assert [one.name for one in found.takes] == ["image", "more", "by", "how", "steps", "loud"]
    assert found.takes[1].text == "others like it: they are darkened, too."
    assert [one.about.label for one in found.takes][:3] == ["Picture", "More pictures", "Share"]
    assert [one.default for one in found.takes] == [REQUIRED, None, 0.5, "even", 3, False]
    assert [one.several for one in found.takes[:2]] == [False, True]
    assert found.takes[2].about.schema == {"minimum": 0, "maximum": 1}
    assert found.takes[3].about.schema == {"enum": ["even", "soft"]}
    assert [(one.label, one.text) for one in found.gives] == [
        ("Dark picture", "the picture."),
        ("Answer", "`mean`, the brightness that is left."),
    ]
    assert found.told == (
        "Darken a picture. It stays as large as it was. Answers: Dark picture: the picture. "
        "Answer: `mean`, the brightness that is left."
    )


def test_the_docstring_for_gradio_has_one_line_for_each_parameter() -> None:
    lines = endpoint("darken", darken).docstring.splitlines()
    assert "    more: others like it: they are darkened, too." in lines and lines[2] == "Args:"


def test_hints_give_the_components() -> None:
    made = [one.component() for one in endpoint("darken", darken).takes]
    assert [type(one).__name__ for one in made] == ["Image", "File", "Number", "Textbox", "Number", "Checkbox"]
    assert isinstance(made[1], gr.File) and made[1].file_count == "multiple"
    assert isinstance(made[4], gr.Number) and made[4].precision == 0 and made[4].value == 3
    assert [one.label for one in made][-1] == "Loud" and not any(one.visible for one in made)
    assert [type(one.component()).__name__ for one in endpoint("darken", darken).gives] == ["Image", "JSON"]


def undescribed(call: Call, image: PictureFile) -> dict[str, Any]:
    """Do something.

    Returns:
        Answer: nothing.
    """
    raise NotImplementedError


def unlabeled(call: Call, image: str) -> dict[str, Any]:
    """Do something.

    Args:
        image: the picture.

    Returns:
        Answer: nothing.
    """
    raise NotImplementedError


def unsaid(call: Call, image: PictureFile) -> dict[str, Any]:
    """Do something.

    Args:
        image: the picture.
    """
    raise NotImplementedError


@pytest.mark.parametrize(
    ("fn", "missing"), [(undescribed, "a line under Args"), (unlabeled, "a Parameter"), (unsaid, "under Returns")]
)
def test_what_is_not_described_is_no_endpoint(fn: Callable[..., Any], missing: str) -> None:
    with pytest.raises(TypeError, match=f"/odd: .*{missing}"):
        endpoint("odd", fn)


def test_programs_are_told_what_gradio_does_not_know() -> None:
    one = endpoint("darken", darken)

    def handler(image: Any, more: Any = None, by: Any = 0.5, how: Any = "", steps: Any = 3, loud: Any = False) -> Any:
        raise NotImplementedError

    handler.endpoint = one  # type: ignore[attr-defined]
    with Page(analytics_enabled=False) as blocks:
        takes, gives = [each.component() for each in one.takes], [each.component() for each in one.gives]
        gr.Button().click(handler, takes, gives, api_name="darken")
        gr.Button().click(lambda: None, api_name="plain")
    told = blocks.get_api_info()
    assert told["version"] == VERSION
    shown = told["named_endpoints"]["/darken"]
    assert shown["description"] == one.text
    by = shown["parameters"][2]
    assert by["label"] == "Share" and by["parameter_default"] == 0.5 and by["type"]["maximum"] == 1
    assert by["type"]["description"] == by["python_type"]["description"] == "the share of its light that goes."
    assert shown["parameters"][3]["python_type"]["type"] == "Literal['even', 'soft']"
    assert shown["parameters"][1]["example_input"] == [{"path": "dog.jpg", "meta": {"_type": "gradio.FileData"}}]
    assert [each["label"] for each in shown["returns"]] == ["Dark picture", "Answer"]
    assert "/plain" in told["named_endpoints"]
    again = informed({"named_endpoints": {}}, {})
    assert again == {"named_endpoints": {}, "version": VERSION}

    text = page({**told, "named_endpoints": {"/darken": shown}})
    assert "| `by` Share | number, 0 to 1 | `0.5` | the share of its light that goes. |" in text
    assert "| `image` Picture | a file | required | the picture. |" in text
    assert '| `how` Curve | `even`, `soft` | `"even"` | the curve. |' in text
    assert 'client.predict(image=handle_file("cat.jpg"), api_name="/darken")' in text
    assert "- **Answer**: `mean`, the brightness that is left." in text


FILE: dict[str, Any] = {"path": "cat.jpg"}
GOOD: list[Any] = [FILE, None, 0.5, "even", 3, False]


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (2, 1.5, "by is 1.5; it must be from 0 to 1."),
        (3, "loud", "how is 'loud'; choose one of even, soft."),
        (0, None, ""),  # its function says what it needs
        (1, [FILE] * (limits.MAX_QUERIES + 1), ""),
    ],
)
def test_what_values_alone_tell_is_refused_before_any_work(place: int, value: Any, sentence: str) -> None:
    found = endpoint("darken", darken)
    assert not found.refuses(GOOD) and not found.refuses(GOOD[:5])
    values = [value if number == place else good for number, good in enumerate(GOOD)]
    assert found.refuses(values)
    if sentence:
        with pytest.raises(InputError, match=re.escape(sentence)):
            found.check(values)
    else:
        found.check(values)


def test_whole_numbers_are_rounded_before_they_are_judged() -> None:
    def pick(call: Call, k: Annotated[int, Parameter("Number", 1, 5)] = 3) -> dict[str, Any]:
        """Pick.

        Args:
            k: how many.

        Returns:
            Answer: nothing.
        """
        raise NotImplementedError

    found = endpoint("pick", pick)
    assert [found.refuses([k]) for k in (0.4, 0.6, 5.4, 5.6, 1e20)] == [True, False, False, True, True]
