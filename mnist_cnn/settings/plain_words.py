"""What jsonargparse says of a wrong setting, in its user's words.

Read from its versions 4.41 to 4.50. What is not recognised is left as it is.
"""

from __future__ import annotations

import difflib
import inspect
import re
import shlex
from pydoc import locate

KEY = re.compile(r'Parser key "([\w.]+)": ')
#: A class that was named, whose settings are wrong.
CLASS = re.compile(r"class_path[ =]'([\w.]+)'")
REFUSED = re.compile(r"Option '(\w+)' is not accepted")
MISSING = re.compile(r"the following arguments are required: (\w+)")
OTHER_KIND = re.compile(r"subclass of (?:<class ')?(\w+)")
NO_PATH = re.compile(r"import path string: ([\w.]+)")
NOT_IMPORTED = re.compile(
    r"(?:class_path '(?P<path>[\w.]+)'|callable class): "
    r"(?P<why>No module named '[\w.]+'|module '[\w.]+' has no attribute '\w+')"
    r"(?:.*Got value: (?P<value>[\w.]+))?"
)
EXPECTED = re.compile(r"Expected a (?:<class '(\w+)'>|typing\.Literal\[([^]]*)\])")
VALUE = re.compile(r"(?:Given|Got) value: ?(.*?)(?:\. Got value: .*)?$")
WORDS = {
    "int": ["a whole number"],
    "float": ["a number"],
    "bool": ["true", "false"],
    "str": ["a text"],
    "list": ["a list"],
    "tuple": ["a list"],
    "NoneType": ["null"],
}


def in_plain_words(message: str) -> str:
    '''A message of jsonargparse's on one line, shorter where it is of a kind that is known.

    >>> said = """Parser key "data.batch_size": Expected a <class 'int'>. Got value: 1.5"""
    >>> in_plain_words(said)
    '--data.batch_size 1.5: expected a whole number'
    '''
    message = " ".join(message.split())
    keys = dict.fromkeys(KEY.findall(message))
    if not keys:
        return message
    flag = f"--{'.'.join(keys)}"
    named = CLASS.search(message)
    if named and (refused := REFUSED.search(message)):
        return f"{flag}: {named[1]} has no setting {refused[1]}{_near(refused[1], named[1])}"
    if missing := MISSING.search(message):
        return f"{flag}: {named[1] if named else 'its class'} needs {flag}.{missing[1]}"
    if not_there := class_not_there(message):
        why = NOT_IMPORTED.search(message)
        return f"{flag} {not_there}: {why['why'] if why else 'there is no such class'}"
    if other := OTHER_KIND.search(message):
        return f"{flag}: expected a subclass of {other[1]}"
    value, expected = VALUE.search(message), _expected(message)
    if value and expected:
        *others, last = expected
        either = f"{', '.join(others)} or {last}" if others else last
        return f"{flag} {shlex.quote(value[1])}: expected {either}"
    return message


def class_not_there(message: str) -> str | None:
    """The path of a class that could not be imported, if a message is about one."""
    message = " ".join(message.split())
    if why := NOT_IMPORTED.search(message):
        return why["path"] or why["value"]
    if "a number" in _expected(message):  # what may be a number may be a tensor, too, by its path
        return None
    found = NO_PATH.search(message)
    return found[1] if found else None


def _expected(message: str) -> list[str]:
    """What could stand in the value's place."""
    words = [
        [value.strip("'") for value in literals.split(", ")] if literals else WORDS.get(name, [])
        for name, literals in EXPECTED.findall(message)
    ]
    each = dict.fromkeys(word for several in words for word in several)
    return [word for word in each if word != "a whole number" or "a number" not in each]


def _near(setting: str, class_path: str) -> str:
    """A setting of the class that may have been meant."""
    there = inspect.signature(locate(class_path)).parameters  # type: ignore[arg-type]
    near = difflib.get_close_matches(setting, there, n=1)
    return f"; did you mean {near[0]}?" if near else ""
