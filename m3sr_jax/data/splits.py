"""Which scenes are for training and which are held out, and where on disk the files of each are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading

PARTS = ("train", "valid")
Split = Mapping[str, Sequence[str]]
# Archives are unpacked one or two folders too deep, not more.
MOST_FOLDERS_DEEP = 4
_ENDINGS = re.compile(r"(\.mat|\.jpe?g|\.png|_ms|_clean|_realworld)+$", re.IGNORECASE)


def read_split(path: str | os.PathLike[str], default: Split) -> Split:
    """Reads which scenes are for training and which are held out, one stem a line.

    Lines `[train]` and `[valid]` head the two parts. Without any heading the lines are the training scenes, and the
    held-out ones are those of `default` that are not among them. A folder stands for its files `train_list.txt` and
    `valid_list.txt`, each without headings. Endings such as `.mat` and `_ms` may be there or not; empty lines and what
    follows `#` do not count.

    Args:
        path: the file, or the folder.
        default: the data set's own split.

    Raises:
        InputError: an unreadable file, a scene named twice, a line outside the two parts, or an empty part.
    """
    path = Path(path)
    lines = list(_list_files(path) if path.is_dir() else _lines(path))
    if lines and not any(name.startswith("[") for _, name in lines):
        lines = [("", "[train]"), *lines]
        listed = {name for _, name in lines}
        lines += [("", "[valid]"), *(("", name) for name in default["valid"] if name not in listed)]
    split: dict[str, list[str]] = {part: [] for part in PARTS}
    part = None
    for place, name in lines:
        if name in ("[train]", "[valid]"):
            part = name[1:-1]
        elif part is None or name.startswith("["):
            raise InputError(f'split file {place}: found "{name}", expected [train] or [valid]')
        elif name in split["train"] + split["valid"]:
            raise InputError(f"split file {place}: scene {name} is named a second time")
        else:
            split[part].append(name)
    if not split["train"] or not split["valid"]:
        raise InputError(f"split file {path}: expected scenes under both [train] and [valid]")
    return split


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Where each name stands, and the name."""
    with reading(path, "a split file"):
        lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        name = _ENDINGS.sub("", line.partition("#")[0].strip())
        if name:
            yield f"{path}, line {number}", name


def _list_files(folder: Path) -> Iterator[tuple[str, str]]:
    for part in PARTS:
        yield "", f"[{part}]"
        yield from _lines(folder / f"{part}_list.txt")


def present_scenes(
    root: Path, split: Split, files: Mapping[str, Sequence[str]], *, strict: bool
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Sorts out which scenes of a split are on disk.

    Args:
        root: the data set's folder, for messages.
        split: scene names of each part.
        files: scene name → names of the files it lacks, empty where it is complete; scenes that are not there at all
            are not listed.
        strict: refuse a split that is not complete, as the user's own must be.

    Returns:
        names of each part that are complete, and what is missing, by file or scene.

    Raises:
        InputError: nothing left of a part, or anything missing if `strict`.
    """
    wanted = [name for part in PARTS for name in split[part]]
    missing = [file for name in wanted for file in files.get(name, [f"scene {name}"])]
    parts = {part: [name for name in split[part] if name in files and not files[name]] for part in PARTS}
    empty = [part for part in PARTS if not parts[part]]
    if empty or (strict and missing):
        lack = "no scene for " + {"train": "training", "valid": "validation"}[empty[0]] if empty else "not complete"
        raise InputError(
            f"{root}: {lack} ({len(parts['train'])} of {len(split['train'])} training and {len(parts['valid'])} of "
            f"{len(split['valid'])} validation scenes are there); missing: {_few(missing)}; found scenes: "
            f"{_few(sorted(files)) or 'none'}. `m3sr check` lists everything; data.split_file says which scenes to use"
        )
    return parts, tuple(missing)


def _few(names: Sequence[str], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def find_files(root: str | os.PathLike[str], pattern: str) -> Iterator[tuple[re.Match[str], Path]]:
    """Finds files by name alone, in whatever folders the archives were unpacked to.

    Hidden files (macOS' `._` doubles among them) and what else lies about (Thumbs.db) do not match.

    Args:
        root: where to look, a few folders deep.
        pattern: regular expression of the whole name, case ignored.

    Raises:
        InputError: no such folder, or one name twice with different sizes: nobody could say which is meant.
    """
    folder = Path(root)
    if not root or not folder.is_dir():
        raise InputError(f'data.root "{root}": no such folder; set it to the folder of the data set as downloaded')
    seen: dict[str, Path] = {}
    expression = re.compile(pattern, re.IGNORECASE)
    for place, folders, names in os.walk(folder, followlinks=True):
        deep = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")) and deep < MOST_FOLDERS_DEEP)
        for name in sorted(names):
            match = expression.fullmatch(name)
            if match is None:
                continue
            path = Path(place, name)
            first = seen.setdefault(name, path)
            if first is path:
                yield match, path
            elif first.stat().st_size != path.stat().st_size:
                raise InputError(f"{path}: differs from {first}, which has the same name; leave one of them")
