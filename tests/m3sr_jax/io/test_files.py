"""Files and folders appear whole or not at all; claims are checked before memory is allocated."""

import os

import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.io import files
from m3sr_jax.io.files import BoundedFile, band_rows, check_claim, reading, write_text, written_folder, written_whole


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_appears_when_the_block_ends(tmp_path, replaced):
    path = tmp_path / "page.html"
    if replaced:
        path.write_text("old")
    with written_whole(path) as unfinished:
        assert unfinished.suffix == ".html"
        unfinished.write_text("new")
        assert (path.read_text() if replaced else path.exists()) == ("old" if replaced else False)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [written_whole, written_folder])
def test_an_error_in_the_block_leaves_what_was_there(tmp_path, write):
    path = tmp_path / "output"
    path.mkdir()
    (path / "old").write_text("old")

    def fail():
        with write(path) as unfinished:
            ((unfinished / "new") if unfinished.is_dir() else unfinished).write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["old"]


@pytest.mark.parametrize("write", [written_whole, written_folder])
def test_disk_errors_name_the_target(tmp_path, write):
    path = tmp_path / "output"
    with pytest.raises(InputError, match=r"output: cannot be written \(No space left on device\)"), write(path):
        raise OSError(28, os.strerror(28))
    assert not list(tmp_path.iterdir())


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "new" / "folder"
    for name in ("first", "second"):
        with written_folder(path) as unfinished:
            (unfinished / name).write_text(name)
        assert [file.name for file in path.iterdir()] == [name]
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_written_meanwhile_may_stay(tmp_path):
    path = tmp_path / "folder"
    with written_folder(path, replace=False) as unfinished:
        (unfinished / "mine").write_text("mine")
        path.mkdir()
        (path / "theirs").write_text("theirs")
    assert [file.name for file in path.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_replaced_whole_and_disk_errors_reach_the_caller(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    for text, written in (("long text: µ", "long text: µ"), ("caf\udce9", "caf?"), ("short", "short")):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == written
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "lost")
    assert path.read_text() == "short"


def test_two_processes_may_write_the_same_text(tmp_path, monkeypatch):
    path, replace = tmp_path / "file.json", os.replace

    def meanwhile(*names):
        monkeypatch.setattr(files.os, "replace", replace)
        monkeypatch.setattr(files.os, "getpid", lambda: 0)
        write_text(path, "theirs")
        replace(*names)

    monkeypatch.setattr(files.os, "replace", meanwhile)
    write_text(path, "mine")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("error", "reason"), [(ValueError("first\nsecond"), "first"), (KeyError(), "KeyError")])
def test_library_errors_become_one_line(tmp_path, error, reason):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InputError) as caught, reading(path, "a photo"):
        raise error
    assert str(caught.value) == f"{path}: cannot be read as a photo ({reason})"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("shape", "compressed", "allowed"),
    [
        ((25,), False, True),  # 100 bytes are in the file
        ((26,), False, False),
        ((2**23,), True, True),  # 32 MiB pass for any file that may be compressed
        ((2**23 + 1,), True, False),
        ((2**62, 2**62), True, False),  # overflows 64 bits
    ],
)
def test_claims_are_limited_by_the_file(tmp_path, shape, compressed, allowed):
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    if allowed:
        check_claim(path, shape, 4, compressed)
    else:
        with pytest.raises(InputError, match="bytes, but the file has 100; copy it again"):
            check_claim(path, shape, 4, compressed)


def test_a_bounded_file_asks_for_no_more_than_is_left(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    with BoundedFile(tmp_path / "file") as file:
        assert file.read(4) == b"0123"
        assert file.read(2**62) == b"456789"
        assert file.read(2**62) == b""
        file.seek(8)
        assert file.read() == b"89"


@pytest.mark.parametrize("offset", [0, 7])
def test_rows_land_in_their_planes(tmp_path, offset):
    cube = np.arange(5 * 3 * 2, dtype=np.uint16).reshape(5, 3, 2)
    with (tmp_path / "file").open("wb") as file:
        put = band_rows(file, cube.shape, cube.dtype, offset)
        for start, stop in ((3, 5), (0, 3)):
            put(start, cube[start:stop])
    found = np.fromfile(tmp_path / "file", "<u2", offset=offset).reshape(2, 5, 3)
    np.testing.assert_array_equal(found, cube.transpose(2, 0, 1))
