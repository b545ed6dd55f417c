"""The command line: what it says, and with which exit code, when it is called wrong or cannot go on."""

from __future__ import annotations

import pytest

from bert_handler.cli import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing command"),
        (["serv"], "No such command 'serv'"),
        (["doctor", "--nope"], "--nope"),
        (["size"], "Missing option '--rps'"),
        (["size", "--rps", "many"], "Invalid value for '--rps'"),
        (["infer", "--url", "http://127.0.0.1:1", "--attempts", "0"], "Invalid value for '--attempts'"),
    ],
)
def test_a_wrong_call_is_said_in_short_with_exit_2(capsys, words, said):
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert len(shown.err.splitlines()) < 6
