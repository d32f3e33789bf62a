"""The command `m3sr` itself: help, exit codes, one line for what goes wrong."""

import importlib
import io
import os
import subprocess
import sys

import pytest

from m3sr_jax import cli
from m3sr_jax.errors import InputError


def python(*lines: str) -> list[str]:
    """Runs a program in a fresh interpreter and returns what it prints."""
    result = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


def test_help_names_every_subcommand_and_imports_none(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.SUBCOMMANDS)
    loaded = python(
        "import sys; from m3sr_jax import cli; cli.main(['--help'])", "print({'jax', 'tyro'} & set(sys.modules))"
    )
    assert loaded[-1] == "set()"


@pytest.mark.parametrize("name", cli.SUBCOMMANDS)
def test_every_subcommand_is_there_and_explains_itself(name, capsys):
    command = getattr(importlib.import_module(f"m3sr_jax.cli.{name}"), name.capitalize())
    assert callable(command.run)
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: m3sr {name}" in capsys.readouterr().out


def test_bad_usage_is_2(capsys):
    assert cli.main([]) == 2
    assert cli.main(["convrt"]) == 2
    assert capsys.readouterr().err == "error: m3sr convrt: no such subcommand; did you mean convert?\n"
    assert cli.main(["predict", "", "--output", "cubes"]) == 2
    assert "m3sr predict: found an empty argument; expected a file or folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli.main(["convert", "one-argument"])
    assert caught.value.code == 2


def test_exit_codes(capsys):
    def fail(error):
        raise error

    assert cli.exit_code(lambda: None) == 0
    assert cli.exit_code(lambda: 3) == 3
    assert cli.exit_code(lambda: fail(InputError("file: what was found"))) == 2
    assert capsys.readouterr().err == "error: file: what was found\n"
    assert cli.exit_code(lambda: fail(PermissionError(13, "Permission denied", "a\n.png"))) == 2
    assert capsys.readouterr().err == "error: a\\n.png: Permission denied\n"
    assert cli.exit_code(lambda: fail(KeyboardInterrupt())) == 130
    capsys.readouterr()
    assert cli.exit_code(lambda: fail(MemoryError("Unable to allocate 31.0 GiB for an array"))) == 2
    told = "not enough memory (Unable to allocate 31.0 GiB for an array); close other programs or use a smaller file"
    assert capsys.readouterr().err == f"error: {told}\n"
    with pytest.raises(ZeroDivisionError):  # a fault of ours is no bad input
        cli.exit_code(lambda: fail(ZeroDivisionError()))


USAGE = [sys.executable, "-c", "import sys; from m3sr_jax import cli; sys.exit(cli.main(['--help']))"]


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_reader_that_leaves_ends_the_command_silently(unbuffered):
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)  # before the command starts, or it might be the faster
    done = subprocess.run(USAGE, stdout=writer, stderr=subprocess.PIPE, env=environment)
    os.close(writer)
    assert (done.stderr, done.returncode) == (b"", 1)


@pytest.mark.skipif(os.name != "posix", reason="closes the outputs as a POSIX shell does")
def test_closed_outputs_are_silent(tmp_path):
    program = (
        "import sys; from m3sr_jax import cli\n"
        "def work():\n"
        "    print('out', sys.stdout.isatty())\n"
        "    print('err', sys.stderr.isatty(), file=sys.stderr)\n"
        "    return int(open(sys.argv[1], 'w').fileno() in (1, 2))\n"
        "sys.exit(cli.exit_code(work))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file")]
    assert subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]).returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize(("unbuffered", "where"), [("1", ""), ("", "standard output: ")])
def test_output_that_cannot_be_written_costs_one_line(unbuffered, where):
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(USAGE, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.stderr, done.returncode) == (f"error: {where}No space left on device\n", 2)


@pytest.mark.parametrize(
    ("encoding", "written"), [("ascii", b"\\u2192"), ("cp1252", b"\\u2192"), ("utf-8", "→".encode())]
)
def test_characters_that_the_output_cannot_encode_are_escaped(monkeypatch, encoding, written):
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding, newline="\n"))
    assert cli.exit_code(lambda: print("a → caf\udce9")) == 0
    assert output.getvalue() == b"a " + written + b" caf\\udce9\n"


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("m3sr 0.")


def test_the_package_is_imported_at_once_and_its_names_on_use():
    first = "import sys, m3sr_jax; print('jax' in sys.modules)"
    loaded, name, names = python(first, "from m3sr_jax import M3SR; print(M3SR.__name__)", "print(dir(m3sr_jax))")
    assert (loaded, name) == ("False", "M3SR")
    assert "load_model" in names
    import m3sr_jax

    assert all(getattr(m3sr_jax, public) is not None for public in m3sr_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'M4SR'"):
        _ = m3sr_jax.M4SR
