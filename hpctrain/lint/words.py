"""Cut the text of a shell script into words and operators, with their lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_OPERATORS = (
    *("<<<", "<<-", "&>>", ";;&", "<<", ">>", "&&", "||", ";;", ";&", "|&", "&>", ">&", "<&", ">|", "<>"),
    *("<", ">", "|", "&", ";", "(", ")", "\n"),
)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^]]*\])?\+?=(.*)", re.DOTALL)
_PLAIN = re.compile(r"[^\\'\"$`\s;&|<>()]+")
_PLAIN_IN_QUOTES = re.compile(r"[^\\\"$`]+")
_VARIABLE = re.compile(r"\$(?:\{[#!]?([A-Za-z_]\w*)|([A-Za-z_]\w*))")


@dataclass(frozen=True)
class Operator:
    """An operator, or a line break.

    Parameters
    ----------
    text : str
    line : int
    """

    text: str
    line: int


@dataclass
class Word:
    """One word of a command.

    Parameters
    ----------
    raw : str
        As it is written, with quotes.
    line : int
        The line where it begins, from 1.
    value : str
        Without quotes; variables and substitutions are left as they are written.
    live : str
        What the shell that reads the script expands: without the parts in single quotes and without escaped characters.
    bare : str
        The part of `live` outside double quotes too.
    substitutions : list of (str, int)
        The text of each ``$(...)`` or pair of back-ticks in `live`, with its line.
    """

    raw: str
    line: int
    value: str = ""
    live: str = ""
    bare: str = ""
    substitutions: list[tuple[str, int]] = field(default_factory=list)

    @property
    def variables(self) -> set[str]:
        """Names of the variables that the shell expands in this word."""
        return {first or second for first, second in _VARIABLE.findall(self.live)}

    @property
    def assignment(self) -> tuple[str, Word] | None:
        """Name and value of ``NAME=value``, or None."""
        found = _ASSIGNMENT.fullmatch(self.raw)
        if not found or not self.bare.startswith(found[1]):
            return None
        parts = [text.partition("=")[2] for text in (self.raw, self.value, self.live, self.bare)]
        return found[1], Word(parts[0], self.line, *parts[1:], substitutions=self.substitutions)


Token = Word | Operator


def tokens(text: str, line: int = 1) -> Iterator[Token]:
    """Yield the words and operators of a script; comments and here-documents are left out.

    Parameters
    ----------
    text : str
        The script.
    line : int
        Line number of its first line.
    """
    return _Lexer(text, line).run()


class _Lexer:
    def __init__(self, text: str, line: int) -> None:
        self.text, self.at, self.line = text, 0, line
        self.pending: list[tuple[str, bool]] = []  # here-documents that begin after this line

    def run(self) -> Iterator[Token]:
        expects_end: str | None = None
        while self.at < len(self.text):
            character = self.text[self.at]
            if self.text.startswith("\\\n", self.at):
                self.skip(2)
            elif character in " \t\r":
                self.skip(1)
            elif character == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif self.text.startswith("((", self.at) or self.text.startswith("[[ ", self.at):
                yield self.test("))" if character == "(" else "]]")
            elif (operator := self.operator()) is not None:
                yield operator
                if operator.text in ("<<", "<<-"):
                    expects_end = operator.text
                if operator.text == "\n":
                    self.here_documents()
            else:
                word = self.word()
                if expects_end:
                    self.pending.append((word.value, expects_end == "<<-"))
                    expects_end = None
                if not (word.raw.isdecimal() and self.text[self.at : self.at + 1] in ("<", ">")):
                    yield word

    def skip(self, count: int) -> str:
        passed = self.text[self.at : self.at + count]
        self.line += passed.count("\n")
        self.at += count
        return passed

    def operator(self) -> Operator | None:
        if self.text.startswith(("<(", ">("), self.at):
            return None
        for text in _OPERATORS:
            if self.text.startswith(text, self.at):
                line = self.line
                self.skip(len(text))
                return Operator(text, line)
        return None

    def test(self, closing: str) -> Word:
        """Read ``((...))`` or ``[[ ... ]]`` as one word: operators within it separate no commands."""
        end = self.text.find(closing, self.at)
        length = (len(self.text) if end < 0 else end + 2) - self.at
        line = self.line
        raw = self.skip(length)
        return Word(raw, line, value=raw, live=raw, bare="")

    def here_documents(self) -> None:
        for end, strips_tabs in self.pending:
            while self.at < len(self.text):
                stop = self.text.find("\n", self.at)
                stop = len(self.text) if stop < 0 else stop + 1
                row = self.skip(stop - self.at).rstrip("\r\n")
                if (row.lstrip("\t") if strips_tabs else row) == end:
                    break
        self.pending = []

    def word(self) -> Word:
        start = self.at
        word = Word("", self.line)
        while self.at < len(self.text):
            character = self.text[self.at]
            if self.text.startswith("\\\n", self.at):
                self.skip(2)
            elif self.text.startswith(("<(", ">("), self.at):
                self.substitution(word, 2, quoted=False)
            elif character == "(" and self.text[start : self.at].endswith("="):
                self.keep(word, self.balanced(self.at, "(", ")"), quoted=False)
            elif character in " \t\r\n;&|<>()":
                break
            else:
                self.piece(word, quoted=False)
        word.raw = self.text[start : self.at].replace("\\\n", "")
        return word

    def piece(self, word: Word, quoted: bool) -> None:
        """Read one character, escape, quotation or substitution."""
        character = self.text[self.at]
        if character == "\\":
            word.value += self.skip(2)[1:]
        elif character == "'" and not quoted:
            end = self.text.find("'", self.at + 1)
            end = len(self.text) if end < 0 else end
            word.value += self.skip(end + 1 - self.at)[1:].removesuffix("'")
        elif character == '"' and not quoted:
            self.skip(1)
            while self.at < len(self.text) and self.text[self.at] != '"':
                self.piece(word, quoted=True)
            self.skip(1)
        elif self.text.startswith("$((", self.at):
            self.keep(word, self.balanced(self.at + 1, "(", ")"), quoted)
        elif self.text.startswith("$(", self.at):
            self.substitution(word, 2, quoted)
        elif self.text.startswith("${", self.at):
            self.keep(word, self.balanced(self.at + 1, "{", "}"), quoted)
        elif character == "`":
            self.back_ticks(word, quoted)
        else:
            plain = (_PLAIN_IN_QUOTES if quoted else _PLAIN).match(self.text, self.at)
            self.keep(word, plain.end() if plain else self.at + 1, quoted)

    def keep(self, word: Word, end: int, quoted: bool) -> None:
        text = self.skip(end - self.at)
        word.value += text
        word.live += text
        if not quoted:
            word.bare += text

    def substitution(self, word: Word, opening: int, quoted: bool) -> None:
        begin, line = self.at + opening, self.line
        end = self.balanced(begin - 1, "(", ")")
        word.substitutions.append((self.text[begin : end - 1], line))
        self.keep(word, end, quoted)

    def back_ticks(self, word: Word, quoted: bool) -> None:
        end = self.text.find("`", self.at + 1)
        end = len(self.text) - 1 if end < 0 else end
        word.substitutions.append((self.text[self.at + 1 : end], self.line))
        self.keep(word, end + 1, quoted)

    def balanced(self, at: int, opening: str, closing: str) -> int:
        """Return the place after the bracket that closes the one at `at`; quotes and escapes are heeded."""
        depth, quote = 0, ""
        while at < len(self.text):
            character = self.text[at]
            if character == "\\" and quote != "'":
                at += 1
            elif quote:
                quote = "" if character == quote else quote
            elif character in "'\"":
                quote = character
            elif character == opening:
                depth += 1
            elif character == closing:
                depth -= 1
                if depth == 0:
                    return at + 1
            at += 1
        return len(self.text)
