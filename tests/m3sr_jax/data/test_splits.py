"""Split files, and files found in whatever folders archives were unpacked to."""

import os

import pytest

from m3sr_jax.data.splits import find_files, present_scenes, read_split, scene_name
from m3sr_jax.errors import InputError

NONE = {"train": (), "valid": ()}
OFFICIAL = {"train": ("a", "b", "c"), "valid": ("d", "e")}


def test_headings_divide_a_file(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("# mine\n[train]\nARAD_HS_0001_clean.png\nclay_ms\n\n[valid]\nARAD_1K_0901.mat  # one\n")
    assert read_split(path, NONE) == {"train": ["ARAD_HS_0001", "clay"], "valid": ["ARAD_1K_0901"]}


def test_one_stem_a_line_lists_the_training_scenes(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a\nd\n")
    assert read_split(path, OFFICIAL) == {"train": ["a", "d"], "valid": ["e"]}


def test_a_folder_of_two_lists(tmp_path):
    (tmp_path / "train_list.txt").write_text("x\n")
    (tmp_path / "valid_list.txt").write_text("y\nz\n")
    assert read_split(tmp_path, OFFICIAL) == {"train": ["x"], "valid": ["y", "z"]}


def test_missing_files_are_named_and_only_a_split_file_must_be_complete(tmp_path):
    files = {"a": [], "b": ["b.jpg"], "d": []}
    parts, missing = present_scenes(tmp_path, OFFICIAL, files, strict=False)
    assert parts == {"train": ["a"], "valid": ["d"]}
    assert missing == ("b.jpg", "scene c", "scene e")
    with pytest.raises(
        InputError, match=r"incomplete split \(found 1 of 3 training and 1 of 2 .* missing: b\.jpg, scene c"
    ):
        present_scenes(tmp_path, OFFICIAL, files, strict=True)
    with pytest.raises(InputError, match="no validation scene"):
        present_scenes(tmp_path, OFFICIAL, {"a": []}, strict=False)


def test_files_are_found_by_name_in_any_folder(tmp_path):
    for name in ("Train_Spec/x_01.MAT", "deep/er/x_02.mat", ".hidden/x_03.mat", "__MACOSX/x_04.mat", "._x_05.mat"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("same")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "x_02.mat").write_text("same")
    found = sorted(match[1] for match, _ in find_files(tmp_path, r"x_(\d\d)\.mat"))
    assert found == ["01", "02"]
    (tmp_path / "copy" / "x_02.mat").write_text("another")
    with pytest.raises(InputError, match="differs from"):
        list(find_files(tmp_path, r"x_(\d\d)\.mat"))
    (tmp_path / "copy" / "x_02.mat").write_text("sane")  # of the same size
    with pytest.raises(InputError, match=r"er/x_02\.mat: differs from .*copy/x_02\.mat, which has the same name"):
        list(find_files(tmp_path, r"x_(\d\d)\.mat"))


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    for name in ("a", "b", "lost+found"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.mat").touch()
    listed = os.scandir

    def scandir(path):  # root may read every folder
        if os.fspath(path).endswith(("/b", "/lost+found")):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"/b: cannot be read \(Permission denied\); change its permissions"):
        list(find_files(tmp_path, r".*\.mat"))
    (tmp_path / "b").rename(tmp_path / ".b")
    assert [match[0] for match, _ in find_files(tmp_path, r".*\.mat")] == ["a.mat"]


def test_hidden_files_are_ignored_by_any_pattern(tmp_path):
    for name in ("a.mat", "._a.mat"):
        (tmp_path / name).touch()
    assert [match[0] for match, _ in find_files(tmp_path, r".*\.mat")] == ["a.mat"]


def test_a_name_of_an_ending_alone_is_a_scene():
    names = {"_hsi.mat": "_hsi", "_ms": "_ms", "a_hsi.mat": "a", "leaf.2_clean.png": "leaf.2", "": ""}
    assert {name: scene_name(name) for name in names} == names


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("a\nb\n", encoding="utf-8-sig")
    assert read_split(path, OFFICIAL)["train"] == ["a", "b"]
    path.write_text("[train]\na\n[valid]\nb\n", encoding="utf-8-sig")
    assert read_split(path, NONE) == {"train": ["a"], "valid": ["b"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beads\n[valid]\nclay", r'line 1: found "beads"; expected \[train\] or \[valid\]'),
        ("beads", r"found no scenes under \[valid\]; expected at least one"),
        ("[train]\nbeads\n[test]\nclay", r'line 3: found "\[test\]"'),
        ("[train]\nbeads\n[valid]\nbeads_ms", "line 4: found scene beads a second time; remove this line"),
        ("[train]\nbeads\n[valid]\n", r"found no scenes under \[valid\]; expected at least one"),
        ("", r"found no scenes under \[train\] and \[valid\]; expected at least one"),
    ],
)
def test_unusable_split_files_are_refused_with_the_reason(tmp_path, text, message):
    path = tmp_path / "split.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_split(path, NONE)


def test_unreadable_split_files_are_named(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_split(tmp_path / "none.txt", NONE)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=r"binary\.txt: cannot be read as a split file"):
        read_split(tmp_path / "binary.txt", NONE)
