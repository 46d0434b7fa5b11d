"""Real shell is read sensibly: quotes, comments, continued lines, here-documents, nesting; the header as by sbatch."""

from __future__ import annotations

import pytest

from hpctrain.lint.header import read_header
from hpctrain.lint.script import BatchScript, minutes
from hpctrain.lint.shell import commands


def texts(script: str) -> list[tuple[int, str]]:
    return [(command.line, command.text) for command in commands(script)]


def test_continued_lines_are_one_command_with_the_line_where_it_begins():
    assert texts("a\nsrun \\\n  -n 4 \\\n  python x.py\nb") == [(1, "a"), (2, "srun -n 4 python x.py"), (5, "b")]


def test_comments_end_at_the_line_and_a_hash_within_a_word_is_no_comment():
    assert texts("a # b; c\n# d\ne#f $# g") == [(1, "a"), (3, "e#f $# g")]


def test_a_here_document_is_no_command():
    assert texts("cat <<EOF > out\nsrun python $X\nEOF\necho b\ncat <<-'END'\n\ta\n\tEND\nc") == [
        (1, "cat"),
        (4, "echo b"),
        (5, "cat"),
        (8, "c"),
    ]


def test_operators_in_quotes_separate_nothing():
    assert texts("""echo "a; b | c" 'd && e'; f""") == [(1, """echo "a; b | c" 'd && e'"""), (1, "f")]


def test_single_quotes_and_escapes_hide_a_variable_from_the_shell_that_reads_the_script():
    words = commands("""x '$A' "$B" \\$C "\\$D" ${E}f "'$G'" """)[0].words
    assert [sorted(word.variables) for word in words] == [[], [], ["B"], [], [], ["E"], ["G"]]
    assert [word.value for word in words[1:]] == ["$A", "$B", "$C", "$D", "${E}f", "'$G'"]


def test_substitutions_and_the_text_of_a_shell_are_commands_inside_their_command():
    found = commands("""A=$(hostname -s)\nsrun bash -c 'cd x\npython y.py' `date`""")
    assert [(each.line, each.text, each.outermost.line) for each in found] == [
        (1, "", 1),
        (1, "hostname -s", 1),
        (2, "srun bash -c 'cd x\npython y.py' `date`", 2),
        (3, "date", 2),
        (2, "cd x", 2),
        (3, "python y.py", 2),
    ]


def test_functions_loops_and_conditions_are_known():
    script = "f() {\n  a\n}\nfor i in 1 2; do\n  b &\ndone\nif c; then d; fi\ne"
    facts = {each.name: (each.function, each.loop, each.condition, each.then) for each in commands(script)}
    assert facts["a"] == ("f", False, False, "\n")
    assert facts["b"] == (None, True, False, "&")
    assert facts["c"][2]
    assert not facts["d"][2]
    assert facts["e"] == (None, False, False, "\n")


def test_an_assignment_before_a_command_and_one_of_its_own():
    found = commands('A=1 B="x y" srun z\nC=(1 2)\nD+=e')
    assert [(each.name, {name: word.value for name, word in each.assignments.items()}) for each in found] == [
        ("srun", {"A": "1", "B": "x y"}),
        ("", {"C": "(1 2)"}),
        ("", {"D": "e"}),
    ]


@pytest.mark.parametrize(
    "text", ["a 'b", 'c "d', "e $(f", "g ${h", "i `j", "k <<L", "case m in n) o;; esac", ")", "}", "((", "[[ p", "\\"]
)
def test_what_is_no_shell_is_read_without_an_error(text):
    assert isinstance(commands(text), list)


def test_options_are_read_as_sbatch_reads_them():
    lines = ["#!/bin/bash", "#SBATCH -N2 -t 1:00:00 --gres gpu:2 # two", '#SBATCH --comment="a b" --exclusive', "", "x"]
    assert [(each.name, each.value, each.line) for each in read_header(lines).options] == [
        ("nodes", "2", 2),
        ("time", "1:00:00", 2),
        ("gres", "gpu:2", 2),
        ("comment", "a b", 3),
        ("exclusive", None, 3),
    ]


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        ("--gres=gpu:4", 4),
        ("--gres=gpu:a100:4", 4),
        ("--gres=gpu", 1),
        ("--gres=shard:2", 0),
        ("--gpus-per-node=a100:2", 2),
        ("--nodes=2 --gpus=8", 4),
        ("-G 4", 4),
        ("--ntasks-per-node=4 --gpus-per-task=1", 4),
        ("--gres=gpu:$N", None),
        ("--mem=1G", 0),
    ],
)
def test_the_gpus_of_a_node_are_counted(options, gpus):
    assert BatchScript(f"#!/bin/bash\n#SBATCH {options}\n").gpus_per_node == gpus


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("24:00", 24),
        ("2:30:00", 150),
        ("1-0", 1440),
        ("1-2:30", 1590),
        ("1-0:0:30", 1440.5),
        ("x", None),
        ("UNLIMITED", None),
    ],
)
def test_time_limits_are_minutes(text, expected):
    assert minutes(text) == expected
