"""Print the completion of hpctrain for a shell, made from the options that the commands really have.

hpctrain completion bash >> ~/.bashrc                                    for bash
hpctrain completion zsh >> ~/.zshrc                                      for zsh, after compinit
hpctrain completion fish > ~/.config/fish/completions/hpctrain.fish      for fish

It completes commands, their actions and options, the values that an option allows, and names of files. Make it again
after an update.
"""

from __future__ import annotations

import argparse

from hpctrain.cli import COMMANDS, command_parser

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain completion``."""
    parser.add_argument("shell", choices=SHELLS, help="shell to write it for")


def run(arguments: argparse.Namespace) -> int:
    """Print the completion."""
    words, values = collect()
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](words, values))
    return 0


def collect() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return what can follow each command, and the values of each option that allows only some.

    Returns
    -------
    words : dict
        ``train`` or ``registry add`` to its options and actions.
    values : dict
        ``registry add --option`` to the values that it allows.
    """
    words: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    for name in COMMANDS:
        _collect(name, command_parser(name), words, values)
    return words, values


def _collect(
    path: str, parser: argparse.ArgumentParser, words: dict[str, list[str]], values: dict[str, list[str]]
) -> None:
    found: list[str] = []
    for action in parser._actions:  # argparse has no public way to ask
        if action.help == argparse.SUPPRESS:
            continue
        found += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            found += list(action.choices)
            for name, inner in action.choices.items():
                _collect(f"{path} {name}", inner, words, values)
        elif action.choices is not None:
            choices = [str(choice) for choice in action.choices]
            for option in action.option_strings:
                values[f"{path} {option}"] = choices
            found += [] if action.option_strings else choices
    words[path] = found


def _cases(found: dict[str, list[str]]) -> str:
    return "\n".join(f"    '{path}') words='{' '.join(each)}' ;;" for path, each in sorted(found.items()))


_BASH = """\
# Completion of hpctrain and hpc-submit for bash, made by: hpctrain completion bash
_hpctrain_words() {{
  words=''
  case "$1" in
{words}
  esac
}}
_hpctrain_values() {{
  words=''
  case "$1" in
{values}
  esac
}}
_hpctrain() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" path='' words='' word number
  COMPREPLY=()
  [ "${{COMP_WORDS[0]##*/}}" = hpc-submit ] && path=submit
  if [ -z "$path" ] && [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=( $(compgen -W '{commands}' -- "$current") )
    return
  fi
  [ -z "$path" ] && path="${{COMP_WORDS[1]}}"
  for (( number = 2; number < COMP_CWORD; number++ )); do
    word="${{COMP_WORDS[number]}}"
    _hpctrain_words "$path $word"
    [ -n "$words" ] && path="$path $word"
  done
  _hpctrain_values "$path $before"
  if [ -z "$words" ]; then
    _hpctrain_words "$path"
    case "$current" in
      -*) ;;
      *) COMPREPLY=( $(compgen -f -- "$current") ) ;;
    esac
  fi
  COMPREPLY+=( $(compgen -W "$words" -- "$current") )
}}
complete -o filenames -F _hpctrain hpctrain hpc-submit"""


def _bash(words: dict[str, list[str]], values: dict[str, list[str]]) -> str:
    return _BASH.format(words=_cases(words), values=_cases(values), commands=" ".join(COMMANDS))


def _zsh(words: dict[str, list[str]], values: dict[str, list[str]]) -> str:
    return "autoload -Uz bashcompinit && bashcompinit\n" + _bash(words, values)


def _fish(words: dict[str, list[str]], values: dict[str, list[str]]) -> str:
    lines = ["# Completion of hpctrain for fish, made by: hpctrain completion fish"]
    for name, text in COMMANDS.items():
        quoted = text.replace("'", "\\'")
        lines.append(f"complete -c hpctrain -n __fish_use_subcommand -f -a {name} -d '{quoted}'")
        here = f"complete -c hpctrain -n '__fish_seen_subcommand_from {name}'"
        for word in words[name]:
            if word.startswith("--"):
                allowed = values.get(f"{name} {word}")
                lines.append(f"{here} -l {word[2:]}" + (f" -x -a '{' '.join(allowed)}'" if allowed else ""))
            else:
                lines.append(f"{here} -s {word[1:]}" if word.startswith("-") else f"{here} -a {word}")
    return "\n".join(lines)
