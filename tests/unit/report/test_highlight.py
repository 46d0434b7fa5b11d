"""Coloured YAML and shell text."""

from hpctrain.report.highlight import highlight_shell, highlight_yaml


def test_yaml_is_coloured_after_it_is_escaped():
    assert highlight_yaml("lr: 1e-3  # <b>\nname: <x>\n- a\n") == (
        '<span class="name">lr</span>: <span class="number">1e-3</span>  <span class="comment"># &lt;b&gt;</span>\n'
        '<span class="name">name</span>: &lt;x&gt;\n- a'
    )


def test_shell_is_coloured_after_it_is_escaped():
    assert highlight_shell("#SBATCH -n <1>\n# c\necho a && b") == (
        '<span class="name">#SBATCH -n &lt;1&gt;</span>\n<span class="comment"># c</span>\necho a &amp;&amp; b'
    )
