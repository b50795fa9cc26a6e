"""Error classes: one base, all ValueErrors, and messages that reach the visitor unchanged."""

from __future__ import annotations

import pickle

import pytest

from vitmsn import errors

ERRORS = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_a_vitmsn_error_and_a_value_error(error: type[Exception]) -> None:
    assert issubclass(error, errors.ViTMSNError)
    assert issubclass(error, ValueError)
    assert error.__name__.endswith("Error")
    assert error.__doc__ and error.__doc__.strip().endswith(".")


@pytest.mark.parametrize("error", ERRORS)
def test_str_is_the_message_also_after_pickling(error: type[Exception]) -> None:
    raised = error("cat.png is empty: save it again.")
    assert str(raised) == "cat.png is empty: save it again."
    copy = pickle.loads(pickle.dumps(raised))  # as between the processes of a training run
    assert type(copy) is error
    assert str(copy) == str(raised)


def test_two_errors_have_another_parent() -> None:
    parents = {error: error.__mro__[1] for error in ERRORS if error is not errors.ViTMSNError}
    assert parents.pop(errors.MissingHeadError) is errors.CheckpointError
    assert parents.pop(errors.ChangedModelError) is errors.CheckpointError
    assert set(parents.values()) == {errors.ViTMSNError}
