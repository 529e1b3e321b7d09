"""How every command refuses what it cannot do."""


def refused(main, words, says, capsys):
    """A user's mistake ends in exit code 2 and one line on stderr that says what it is; the line."""
    assert main(words) == 2
    streams = capsys.readouterr()
    assert says in streams.err
    assert streams.err.startswith("error: ")
    assert streams.err.count("\n") == 1
    assert streams.out == ""
    return streams.err
