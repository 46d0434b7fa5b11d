"""The language of ``hpctrain list --where``: a text becomes a tree of conditions. Nothing of it is ever run as code.

::

    condition   = and-part { "or" and-part }
    and-part    = part { "and" part }
    part        = "not" part | "(" condition ")" | comparison
    comparison  = name operator value | value operator name [ operator value ]
                | name [ "not" ] "in" "(" value { "," value } ")" | name "is" [ "not" ] "none"
    operator    = "=" "==" "!=" "<>" "<" "<=" ">" ">=" and "~" "!~", which take a pattern with * and ?
    value       = number | 'text' | "text" | word | date | true | false | none
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpctrain.errors import Problem, ProfileError

OPERATORS = {
    "=": "=",
    "==": "=",
    "!=": "!=",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
    "~": "~",
    "!~": "!~",
}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_KEYWORDS = ("and", "or", "not", "in", "is")
_NONE = ("none", "null")
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<quoted>'[^']*'|"[^"]*")
    | `(?P<name>[^`]+)`
    | (?P<operator><=|>=|!=|<>|==|!~|=|<|>|~)
    | (?P<mark>[(),])
    | (?P<word>[^\s()<>=!~,'"`]+)
    )""",
    re.VERBOSE,
)
_LONGEST = 10_000
_DEEPEST = 50


@dataclass(frozen=True)
class Name:
    """The name of a column, a key of the profile or a metric.

    Parameters
    ----------
    text : str
    at : int
        Its place in the text, from 1.
    """

    text: str
    at: int


@dataclass(frozen=True)
class Value:
    """A value to compare with.

    Parameters
    ----------
    text : str
    is_quoted : bool
    at : int
    """

    text: str
    is_quoted: bool
    at: int

    @property
    def is_none(self) -> bool:
        return not self.is_quoted and self.text.lower() in _NONE


@dataclass(frozen=True)
class Compare:
    """``name operator value``; the operator is one of the values of :data:`OPERATORS`."""

    name: Name
    operator: str
    value: Value


@dataclass(frozen=True)
class OneOf:
    """``name in (value, ...)``, or its contrary."""

    name: Name
    values: tuple[Value, ...]
    is_not: bool


@dataclass(frozen=True)
class IsNone:
    """``name is none``, or its contrary."""

    name: Name
    is_not: bool


@dataclass(frozen=True)
class Not:
    """The contrary of a condition."""

    part: Condition


@dataclass(frozen=True)
class Both:
    """All parts hold (``and``), or any of them (``or``)."""

    word: str
    parts: tuple[Condition, ...]


Condition = Compare | OneOf | IsNone | Not | Both


def parse(text: str, option: str = "--where") -> Condition:
    """Return the tree of a condition.

    Parameters
    ----------
    text : str
    option : str
        Where it comes from, for errors.

    Raises
    ------
    ProfileError
        It is no condition; the message says at which character.
    """
    parser = _Parser(text, option)
    found = parser.condition()
    if not parser.is_at_end:
        parser.complain(f"found '{parser.token.text}'; between two conditions there must be 'and' or 'or'")
    return found


def fault(option: str, at: int, message: str) -> Problem:
    """Return a problem at a character of an option."""
    return Problem(f"{option}, character {at}", message)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.lower() in words


class _Parser:
    def __init__(self, text: str, option: str) -> None:
        self._option, self._next, self._depth = option, 0, 0
        self._tokens = self._split(text)

    def _split(self, text: str) -> list[_Token]:
        tokens, at = [], 0
        if len(text) > _LONGEST:
            raise ProfileError("command line", [Problem(self._option, f"is longer than {_LONGEST} characters")])
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                message = (
                    f"'{text[at]}' has no meaning here" if text[at] not in "'\"`" else f"{text[at]} is never closed"
                )
                raise ProfileError("command line", [fault(self._option, at + 1, message)])
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match[kind], match.start(kind) + 1))
            at = match.end()
        return [*tokens, _Token("end", "", len(text) + 1)]

    @property
    def token(self) -> _Token:
        return self._tokens[self._next]

    @property
    def is_at_end(self) -> bool:
        return self.token.kind == "end"

    def complain(self, message: str) -> None:
        raise ProfileError("command line", [fault(self._option, self.token.at, message)])

    def _take(self) -> _Token:
        token = self.token
        self._next += token.kind != "end"
        return token

    def _takes(self, *words: str) -> bool:
        if self.token.is_word(*words):
            self._take()
            return True
        return False

    def _mark(self, mark: str, why: str) -> None:
        if not (self.token.kind == "mark" and self.token.text == mark):
            self.complain(f"there must be '{mark}' {why}" + (f", not '{self.token.text}'" if self.token.text else ""))
        self._take()

    def condition(self) -> Condition:
        return self._joined("or", self._and_part)

    def _and_part(self) -> Condition:
        return self._joined("and", self._part)

    def _joined(self, word: str, part: object) -> Condition:
        assert callable(part)
        parts = [part()]
        while self._takes(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Both(word, tuple(parts))

    def _part(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            self.complain(f"more than {_DEEPEST} parentheses or 'not' in each other")
        try:
            if self._takes("not"):
                return Not(self._part())
            if self.token.kind == "mark" and self.token.text == "(":
                self._take()
                found = self.condition()
                self._mark(")", "at the end of the parenthesis")
                return found
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        first = self._operand("a name, such as chi2 or train.batch_size, must stand here")
        if self._takes("is"):
            is_not = self._takes("not")
            if not self._takes(*_NONE):
                self.complain("after 'is' there must be 'none' or 'not none'; to compare, write =")
            return IsNone(_name(first), is_not)
        is_not = self._takes("not")
        if self._takes("in"):
            return OneOf(_name(first), self._values(), is_not)
        if is_not:
            self.complain("after a name, 'not' must be followed by 'in'")
        operator = self._operator()
        second = self._operand("a value must stand here")
        if self.token.kind == "operator":  # 0.5 < chi2 < 1.2
            return self._chain(first, operator, second)
        if _is_value(first) and not _is_value(second):
            return Compare(_name(second), self._turned(operator), _value(first))
        return Compare(_name(first), operator, _value(second))

    def _chain(self, first: _Token, operator: str, name: _Token) -> Condition:
        low = Compare(_name(name), self._turned(operator), _value(first))
        high = Compare(_name(name), self._operator(), _value(self._operand("a value must stand here")))
        return Both("and", (low, high))

    def _turned(self, operator: str) -> str:
        if operator not in _TURNED:
            self.complain(f"before {operator} there must be a name, and after it a pattern")
        return _TURNED[operator]

    def _operator(self) -> str:
        if self.token.kind != "operator":
            found = f"'{self.token.text}'" if self.token.text else "the end"
            self.complain(f"there must be one of = != < <= > >= ~ !~, 'in' or 'is', not {found}")
        return OPERATORS[self._take().text]

    def _values(self) -> tuple[Value, ...]:
        self._mark("(", "after 'in'")
        values = [_value(self._operand("a value must stand here"))]
        while self.token.kind == "mark" and self.token.text == ",":
            self._take()
            values.append(_value(self._operand("a value must stand here")))
        self._mark(")", "after the values")
        return tuple(values)

    def _operand(self, message: str) -> _Token:
        if self.token.kind not in ("word", "quoted", "name") or self.token.is_word(*_KEYWORDS):
            self.complain(message + (f", not '{self.token.text}'" if self.token.text else ""))
        return self._take()


def _is_value(token: _Token) -> bool:
    """Return whether a token before an operator must be a value: a quoted text or a number."""
    return token.kind == "quoted" or bool(re.match(r"[-+.]?\d", token.text))


def _name(token: _Token) -> Name:
    return Name(token.text.strip("'\"") if token.kind == "quoted" else token.text, token.at)


def _value(token: _Token) -> Value:
    if token.kind == "quoted":
        return Value(token.text[1:-1], True, token.at)
    return Value(token.text, token.kind == "name", token.at)
