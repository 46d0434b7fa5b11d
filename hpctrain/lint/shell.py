"""Read the commands of a shell script with their lines: quotes, comments, continued lines, here-documents, nesting.

This is not a shell: nothing is expanded or run. The reader never fails. An odd construct (an unclosed quote, a pattern
of ``case``) becomes a command that no rule knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hpctrain.lint.words import Token, Word, tokens

_OPENS = {"if", "for", "while", "until", "case", "select", "{", "("}
_CLOSES = {"fi", "done", "esac", "}", ")"}
_LEADS = {"if", "then", "elif", "else", "while", "until", "do", "!", "time", "{", "case", "select"}
_LOOPS = {"for", "while", "until", "select"}
_ENDS = {";", ";;", ";&", ";;&", "&", "&&", "||", "|", "|&", "\n", "(", ")"}


@dataclass
class Command:
    """One simple command.

    Parameters
    ----------
    line : int
        Line of its first word, from 1.
    words : list of Word
        Its words without assignments before it and without redirections.
    assignments : dict of str to Word
        ``NAME=value`` before the command, or the whole command.
    then : str
        The operator after it: ``;``, ``&``, ``&&``, ``||``, ``|`` or a line break.
    before : str
        The operator before it.
    redirects : list of Word
        Files that it reads or writes.
    loop, condition : bool
        Whether it is within a loop; whether its exit code is tested by ``if``, ``while`` or ``!``.
    function : str or None
        The function whose body it belongs to.
    inside : Command or None
        The command in whose ``$(...)``, or in whose text for ``bash -c``, it is.
    """

    line: int
    words: list[Word] = field(default_factory=list)
    assignments: dict[str, Word] = field(default_factory=dict)
    then: str = "\n"
    before: str = "\n"
    redirects: list[Word] = field(default_factory=list)
    loop: bool = False
    condition: bool = False
    function: str | None = None
    inside: Command | None = None

    @property
    def name(self) -> str:
        """The program, without its folder; empty for an assignment."""
        return self.words[0].value.rpartition("/")[2] if self.words else ""

    @property
    def values(self) -> list[str]:
        """The words without their quotes."""
        return [word.value for word in self.words]

    @property
    def text(self) -> str:
        """The words as they are written."""
        return " ".join(word.raw for word in self.words)

    @property
    def outermost(self) -> Command:
        """The command of the script itself in whose text this one is; itself if it is in none."""
        return self if self.inside is None else self.inside.outermost

    @property
    def all_words(self) -> list[Word]:
        """All words, also those of assignments and redirections."""
        return [*self.assignments.values(), *self.words, *self.redirects]


def commands(text: str, line: int = 1, depth: int = 12) -> list[Command]:
    """Return the simple commands of a script, in the order of their lines.

    Parameters
    ----------
    text : str
        The script, or a part of it.
    line : int
        Line number of the first line of `text`.
    depth : int
        How many ``$(...)`` within each other are looked into.

    Returns
    -------
    list of Command
        A command within ``$(...)`` or within the text of ``bash -c`` follows the command that holds it.
    """
    reader = _Reader()
    for token in tokens(text, line):
        reader.take(token)
    reader.end("\n")
    found = []
    for command in reader.done:
        found.append(command)
        found += _nested(command, depth - 1) if depth else []
    return found


def _nested(command: Command, depth: int) -> list[Command]:
    found = []
    for word in command.all_words:
        for part, line in word.substitutions:
            found += commands(part, line, depth)
    if command.words and (script := _script_of_shell(command)):
        found += commands(script.value, script.line, depth)
    for inner in found:
        inner.inside = inner.inside or command
        inner.loop = inner.loop or command.loop
        inner.function = inner.function or command.function
    return found


def _script_of_shell(command: Command) -> Word | None:
    """Return the text of ``bash -c TEXT``, wherever it is in the words of a command (``srun ... bash -c TEXT``)."""
    values = command.values
    for place, value in enumerate(values[:-2]):
        if value.rpartition("/")[2] in ("bash", "sh"):
            for offset in range(place + 1, len(values) - 1):
                if values[offset].startswith("-") and not values[offset].startswith("--"):
                    if values[offset].endswith("c"):
                        return command.words[offset + 1]
                else:
                    break
    return None


class _Reader:
    """Cut a row of tokens into commands; know whether they are in a loop, a function or a condition."""

    def __init__(self) -> None:
        self.done: list[Command] = []
        self.current: Command | None = None
        self.blocks: list[str] = []
        self.functions: list[tuple[str, int]] = []
        self.named: str | None = None
        self.before = "\n"
        self.condition = False
        self.redirecting = False

    def take(self, token: Token) -> None:
        """Take the next token."""
        if isinstance(token, Word):
            self.word(token)
        elif token.text in _ENDS:
            self.operator(token.text)
        else:
            self.redirecting = True

    def operator(self, text: str) -> None:
        if text == ")" and self.current is None and self.blocks and self.blocks[-1] != "(" and not self.named:
            return
        is_function = text == "(" and self.current is not None and len(self.current.words) == 1
        if is_function and self.current is not None:
            self.named = self.current.words[0].value
            self.current = None
            return
        if text == ")" and self.named and self.current is None:
            return
        self.end(text)
        if text == "(":
            self.blocks.append("(")
        elif text == ")" and "(" in self.blocks:
            self.close()

    def close(self) -> None:
        if self.blocks:
            self.blocks.pop()
        if self.functions and self.functions[-1][1] == len(self.blocks):
            self.functions.pop()

    def end(self, operator: str) -> None:
        """End the current command by an operator."""
        if self.current is not None and (self.current.words or self.current.assignments):
            self.current.then = operator
            self.done.append(self.current)
            self.before = operator
        elif self.done and operator == "&":
            self.done[-1].then = "&"
        if operator in ("\n", ";", "&"):
            self.condition = False
        if operator not in ("\n", "(", ")"):
            self.before = operator
        self.current = None
        self.redirecting = False

    def word(self, word: Word) -> None:
        if self.redirecting:
            self.redirecting = False
            self.start(word).redirects.append(word)
            return
        if (self.current is None or not (self.current.words or self.current.assignments)) and self.keyword(word):
            return
        command = self.start(word)
        if not command.words and (pair := word.assignment):
            command.assignments[pair[0]] = pair[1]
        else:
            command.words.append(word)

    def start(self, word: Word) -> Command:
        if self.current is None:
            function = self.functions[-1][0] if self.functions else None
            is_loop = any(block in _LOOPS for block in self.blocks)
            self.current = Command(
                word.line, before=self.before, loop=is_loop, condition=self.condition, function=function
            )
            self.before = "\n"
        return self.current

    def keyword(self, word: Word) -> bool:
        """Take a reserved word before a command; return whether it is one that is no part of the command."""
        if word.raw in _CLOSES:
            self.close()
            self.before = "\n"
            return True
        if word.raw in ("if", "elif", "while", "until", "!"):
            self.condition = True
        elif word.raw in ("then", "else", "do"):
            self.condition = False
        if word.raw == "function":
            self.named = ""
            return True
        if self.named == "":
            self.named = word.value
            return True
        if word.raw in _OPENS:
            if word.raw == "{" and self.named:
                self.functions.append((self.named, len(self.blocks)))
                self.named = None
            self.blocks.append(word.raw)
        return word.raw in _LEADS
