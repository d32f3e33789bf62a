"""Messages of one line, whatever they quote."""

from m3sr_jax.errors import MAX_LENGTH, InputError, one_line


def test_a_message_is_one_printable_line():
    assert str(InputError("a.mat: found\n\x1b[31mred")) == "a.mat: found\\n\\x1b[31mred"


def test_a_long_message_loses_its_middle():
    message = str(InputError("start " + "x" * 10_000 + " end"))
    assert len(message) == MAX_LENGTH + 3
    assert message.startswith("start x")
    assert message.endswith("x end")


def test_a_librarys_message_is_shortened_to_one_line():
    assert one_line(ValueError("  two\n  lines ")) == "two lines"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("x" * 400)) == "x" * 300
    assert one_line(ValueError("x" * 400), 10) == "x" * 10
