"""What jsonargparse says of a wrong setting, in its user's words.

Its messages nest: of a setting, of a class that was given for it, of a setting of that; and where
several types are allowed, they say of each why it isn't that. Read from its versions 4.41 to 4.53.
What is not understood to its end is left as it is.
"""

from __future__ import annotations

import difflib
import inspect
import re
import shlex
from pydoc import locate

SETTING = re.compile(r'Parser key "([\w.]+)": (.*)')
NO_PATH = re.compile(r"- Expected a path but \S* either not accessible or invalid - (.*)")
OF_CLASS = re.compile(r"Problem with given class_path '([\w.]+)': (.*)")
OF_CALLABLE = re.compile(
    r"Type typing\.Callable.* expects a function or a callable class: "
    r"(.*?)(?:\.+ Got value: (Namespace\(.*|[\w.]+))?"
)
NAMESPACE = re.compile(r"Namespace\(class_path='([\w.]+)'.*")
EITHER = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: .* Errors: - (.*) "
    r"Given value type: .*? Given value: ?(.*)"
)
REFUSED = re.compile(r"Option '(\w+)' is not accepted")
MISSING = re.compile(r"the following arguments are required: (\w+).*")
NOT_IMPORTED = re.compile(r"No module named '[\w.]+'|module '[\w.]+' has no attribute '\w+'")
NO_CLASS = re.compile(r"Expected a dot import path string: ([\w.]+)")
OTHER_KIND = re.compile(
    r"Import path(?: [\w.]+)? does not correspond to a subclass of (\w+)"
    r"|Expected '[\w.]+' to be a subclass of <class '(\w+)'>\.?"
)
EXPECTED = re.compile(
    r"Expected a (?:<class '([\w.]+)'>|typing\.Literal\[([^]]*)\])(?:\. Got value: ?(.*))?"
)
WORDS = {
    "int": ["a whole number"],
    "float": ["a number"],
    "bool": ["true", "false"],
    "str": ["a text"],
    "list": ["a list"],
    "collections.abc.Iterable": ["a list"],
    "tuple": ["a list"],
    "NoneType": ["null"],
}
#: How messages end here about a class that could not be found.
NO_SUCH_CLASS = "there is no such class"


def in_plain_words(message: str) -> str:
    """A message of jsonargparse's on one line, shorter where it is understood.

    >>> said = '''Parser key "data.batch_size": Expected a <class 'int'>. Got value: 1.5'''
    >>> in_plain_words(said)
    '--data.batch_size 1.5: expected a whole number'
    """
    message = " ".join(message.split())
    found = SETTING.fullmatch(message)
    return (found and _said(f"--{found[1]}", found[2])) or message


def _said(flag: str, text: str, of: str = "") -> str | None:
    """What is wrong with a setting, by a part of a message; None if that is not understood.

    Args:
        flag: The setting.
        text: The part.
        of: The class that was given for it, if one was.
    """
    if found := SETTING.fullmatch(text):
        return _said(f"{flag}.{found[1]}", found[2])
    if found := NO_PATH.fullmatch(text):
        return _said(flag, found[1], of)
    if found := OF_CLASS.fullmatch(text):
        return _said(flag, found[2], found[1])
    if found := OF_CALLABLE.fullmatch(text):
        value = found[2] or ""
        named = NAMESPACE.fullmatch(value)
        return _said(flag, found[1], named[1] if named else value or of)
    if found := EITHER.fullmatch(text):
        return _none_of(flag, found[1].split(" - "), found[2])
    if of and (found := REFUSED.fullmatch(text)):
        return f"{flag}: {of} has no setting {found[1]}{_near(found[1], of)}"
    if of and (found := MISSING.fullmatch(text)):
        return f"{flag}: {of} needs {flag}.{found[1]}"
    if of and NOT_IMPORTED.fullmatch(text):
        return f"{flag} {of}: {text}"
    if found := NO_CLASS.fullmatch(text):
        return f"{flag} {found[1]}: {NO_SUCH_CLASS}"
    if found := OTHER_KIND.fullmatch(text):
        return f"{flag}: expected a subclass of {found[1] or found[2]}"
    if (found := EXPECTED.fullmatch(text)) and found[3] is not None and (words := _words(found)):
        return f"{flag} {shlex.quote(found[3])}: expected {_one_of(words)}"
    return None


def _none_of(flag: str, reasons: list[str], value: str) -> str | None:
    """What is wrong with a value that may be of several types, by why it is none of them."""
    named = NAMESPACE.fullmatch(value)
    of = named[1] if named else value
    # One that goes into the value's own settings knows best.
    for reason in reasons:
        inner = any(p.match(reason) for p in (SETTING, OF_CLASS, OF_CALLABLE))
        if inner and (said := _said(flag, reason, of)):
            return said
    words: list[str] = []
    no_class = False
    for reason in reasons:
        if NO_CLASS.fullmatch(reason):
            no_class = True
        elif found := OTHER_KIND.fullmatch(reason):
            words.append(f"a subclass of {found[1] or found[2]}")
        elif (found := EXPECTED.fullmatch(reason)) and _words(found):
            words += _words(found)
        else:
            return None
    words = [
        word for word in dict.fromkeys(words) if not (word in WORDS["int"] and "a number" in words)
    ]
    if no_class and "a number" not in words:  # what may be a number may be a tensor, by its path
        return f"{flag} {value}: {NO_SUCH_CLASS}"
    return f"{flag} {shlex.quote(value)}: expected {_one_of(words)}" if words != ["null"] else None


def _words(expected: re.Match[str]) -> list[str]:
    """The words for a type; none if it has none."""
    name, literals, _ = expected.groups()
    if literals:
        return [literal.strip("'") for literal in literals.split(", ")]
    return WORDS.get(name, [])


def _one_of(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _near(setting: str, class_path: str) -> str:
    """A setting of the class that may have been meant."""
    try:
        there = inspect.signature(locate(class_path)).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    near = difflib.get_close_matches(setting, there.keys() - {setting}, n=1)
    return f"; did you mean {near[0]}?" if near else ""
