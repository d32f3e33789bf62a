"""Splits a data set into training and held-out scenes, and finds their files on disk."""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from m3sr_jax.errors import InputError, shortened
from m3sr_jax.io.files import reading

PARTS = ("train", "valid")
Split = Mapping[str, Sequence[str]]
# Unpacked archives add one or two folders, not more.
MAX_DEPTH = 4
# Beginnings of hidden folders and of those that a system keeps on a disk, which users often cannot read.
_IGNORED_FOLDERS = (".", "__", "$RECYCLE.BIN", "lost+found", "System Volume Information")
_SUFFIXES = r"\.(?:mat|hdr|npz|npy|h5|hdf5|nc|tiff?|jpe?g|png|bmp|webp)"
# A name never loses its first character: "_hsi.mat" is the scene "_hsi".
_ENDINGS = re.compile(rf"(?<!^)({_SUFFIXES}|_(?:ms|clean|realworld|camera|rgb|hsi))+$", re.IGNORECASE)


def scene_name(file: str) -> str:
    """Returns a file's name without its suffix and the endings by which photos and cubes of a scene differ."""
    return _ENDINGS.sub("", file)


def read_split(path: str | os.PathLike[str], default: Split, *, required: Sequence[str] = PARTS) -> Split:
    """Reads the training and the held-out scenes from a split file, one stem per line.

    Lines `[train]` and `[valid]` start the two parts. Without headings, the file lists the training scenes, and the
    held-out scenes are those of `default` that it does not list. A folder stands for its files `train_list.txt` and
    `valid_list.txt`, both without headings. Endings such as `.mat` and `_ms` are optional; empty lines and comments
    after `#` are ignored.

    Args:
        path: the file, or the folder.
        default: the data set's official split.
        required: the parts that must not be empty.

    Raises:
        InputError: the file is unreadable, names a scene twice, has a line before the first part, or a required part is
            empty.
    """
    path = Path(path)
    lines = list(_list_files(path) if path.is_dir() else _lines(path))
    if lines and not any(name.startswith("[") for _, name in lines):
        lines = [("", "[train]"), *lines]
        listed = {name for _, name in lines}
        lines += [("", "[valid]"), *(("", name) for name in default["valid"] if name not in listed)]
    split: dict[str, list[str]] = {part: [] for part in PARTS}
    part = None
    for position, name in lines:
        if name in ("[train]", "[valid]"):
            part = name[1:-1]
        elif part is None or name.startswith("["):
            raise InputError(f'split file {position}: found "{name}"; expected [train] or [valid]')
        elif name in split["train"] + split["valid"]:
            raise InputError(f"split file {position}: found scene {name} a second time; remove this line")
        else:
            split[part].append(name)
    if any(not split[part] for part in required):
        empty = " and ".join(f"[{part}]" for part in required if not split[part])
        raise InputError(f"split file {path}: found no scenes under {empty}; expected at least one")
    return split


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the position and the stem of each name."""
    with reading(path, "a split file"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # editors may write a byte-order mark
    for number, line in enumerate(lines, 1):
        name = scene_name(line.partition("#")[0].strip())
        if name:
            yield f"{path}, line {number}", name


def _list_files(folder: Path) -> Iterator[tuple[str, str]]:
    for part in PARTS:
        yield "", f"[{part}]"
        yield from _lines(folder / f"{part}_list.txt")


def present_scenes(
    root: Path,
    split: Split,
    missing_files: Mapping[str, Sequence[str]],
    *,
    strict: bool,
    required: Sequence[str] = PARTS,
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Selects the scenes of a split that are complete on disk.

    Args:
        root: the data set's folder, for messages.
        split: scene names of each part.
        missing_files: scene name → names of its missing files, empty for a complete scene; only scenes on disk are
            listed.
        strict: refuse an incomplete split; used for the user's own.
        required: the parts that must not be empty.

    Returns:
        names of the complete scenes of each part, and the missing files or scenes.

    Raises:
        InputError: a required part is empty, or, if `strict`, anything is missing.
    """
    wanted = [name for part in PARTS for name in split[part]]
    missing = [file for name in wanted for file in missing_files.get(name, [f"scene {name}"])]
    complete = {name for name, files in missing_files.items() if not files}
    parts = {part: [name for name in split[part] if name in complete] for part in PARTS}
    empty = [part for part in required if not parts[part]]
    if empty or (strict and missing):
        problem = f"no {'training' if empty[0] == 'train' else 'validation'} scene" if empty else "incomplete split"
        own = "" if missing_files else '; scenes with names of your own are the data set "folder" (docs/data.md)'
        raise InputError(
            f"{root}: {problem} (found {len(parts['train'])} of {len(split['train'])} training and "
            f"{len(parts['valid'])} of {len(split['valid'])} validation scenes); missing: {shortened(missing)}; "
            f"found scenes: {shortened(sorted(missing_files)) or 'none'}. `m3sr check` lists everything; "
            f"data.split_file selects the scenes to use{own}"
        )
    return parts, tuple(missing)


def find_files(root: str | os.PathLike[str], pattern: str) -> Iterator[tuple[re.Match[str], Path]]:
    """Finds files by name, whatever the folders they were unpacked to.

    Hidden files and folders (such as macOS' `._` doubles) are ignored.

    Args:
        root: where to search, up to `MAX_DEPTH` folders deep.
        pattern: regular expression for the whole name, ignoring case.

    Raises:
        InputError: the folder does not exist, a folder in it cannot be read, or two files have the same name and
            different contents.
    """
    folder = Path(root)
    if not root or not folder.is_dir():
        raise InputError(f'data.root "{root}": no such folder; set it to the folder of the downloaded data set')
    seen: dict[str, Path] = {}
    expression = re.compile(pattern, re.IGNORECASE)
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        depth = len(Path(parent).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(_IGNORED_FOLDERS) and depth < MAX_DEPTH)
        for name in sorted(names):
            match = expression.fullmatch(name)
            if match is None or name.startswith("."):
                continue
            path = Path(parent, name)
            first = seen.setdefault(name, path)
            if first is path:
                yield match, path
            elif not _same(first, path):
                raise InputError(f"{path}: differs from {first}, which has the same name; remove one of them")


def _refuse_folder(error: OSError) -> None:
    reason = f"cannot be read ({error.strerror}); change its permissions, or move it out of the data set"
    raise InputError(f"{error.filename}: {reason}") from error


def _same(first: Path, second: Path) -> bool:
    """Compares contents: uncompressed cubes of one shape always have one size."""
    with reading(second, f"a copy of {first}"):
        return first.samefile(second) or filecmp.cmp(first, second, shallow=False)
