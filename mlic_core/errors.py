"""The one error a user causes, and the hint that goes with it."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import get_args


class InputError(ValueError):
    """Wrong input: a file, a setting or an array. Its message is one sentence that says what to change."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Hint to append to a message: "; did you mean 'epochs'?", or "" when no choice resembles `word`."""
    by_lower_case = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), by_lower_case, n=1)
    return f"; did you mean {by_lower_case[close[0]]!r}?" if close else ""


def check_choice(name: str, value: object, kind: object) -> None:
    """Raise InputError unless `value` is one of the values of the Literal `kind`."""
    choices = [str(choice) for choice in get_args(kind)]
    if value not in choices:
        raise InputError(f"{name}={value!r}: choose one of {', '.join(choices)}{did_you_mean(str(value), choices)}")
