"""Jobs pair photos with cubes, never overwrite a photo, and never mix cubes of different settings."""

import json
import os
from pathlib import Path

import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.inference.jobs import SETTINGS_FILE, Job, is_cube_file, passed_over, plan_jobs, record_settings


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.JPG", "a.png", "notes.txt"):
        (folder / name).write_text("")
    return folder


def test_a_folder_stands_for_its_photos_and_each_gets_a_cube(photos, tmp_path):
    jobs = plan_jobs([photos], tmp_path / "cubes", "npz")
    assert [(job.image.name, job.cube) for job in jobs] == [
        ("a.png", tmp_path / "cubes" / "a.npz"),
        ("b.JPG", tmp_path / "cubes" / "b.npz"),
    ]


def test_every_photo_of_a_folder_is_taken_and_other_pictures_are_named(photos, tmp_path):
    for name in ("c.HEIC", "d.DNG", "e.webp", "f.jfif", "g.avif", "._a.png", ".DS_Store"):
        (photos / name).write_text("")
    assert passed_over([photos]) is None
    names = [job.image.name for job in plan_jobs([photos], tmp_path / "cubes", "npz")]
    assert names == ["a.png", "b.JPG", "c.HEIC", "d.DNG", "e.webp", "f.jfif", "g.avif"]
    (photos / "h.gif").write_bytes(b"GIF89a")
    assert passed_over([photos]) == "1 picture was passed over; rename or convert to PNG or TIFF: h.gif (GIF)"
    (photos / "photo").write_bytes(b"\xff\xd8\xff\xe0")
    (photos / "x.jxl").write_bytes(b"\xff\x0a" + bytes(9))
    told = "3 pictures were passed over; rename or convert to PNG or TIFF: h.gif (GIF), photo (JPEG), x.jxl (JPEG XL)"
    assert passed_over([photos, photos / "a.png"]) == told


def test_folders_inside_are_named_unless_they_cannot_be_read(photos, tmp_path, monkeypatch):
    (photos / "site").mkdir()
    (photos / "site" / "c.png").write_text("")
    assert passed_over([photos]) == f"folders inside are not searched, name them: {photos / 'site'}"
    read = Path.iterdir

    def iterdir(folder):
        if folder.name == "site":
            raise PermissionError(13, "Permission denied")
        return read(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert passed_over([photos]) is None
    assert len(plan_jobs([photos], tmp_path / "cubes", "npz")) == 2


def test_a_folder_of_unread_pictures_names_them(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"contains no photos; expected .*: a.gif \(GIF\)"):
        plan_jobs([tmp_path], tmp_path / "cubes", "mat")


def test_one_photo_goes_to_one_file_of_any_format(photos, tmp_path):
    for name, cube in (("x.mat", "x.mat"), ("x.img", "x.hdr"), ("x.H5", "x.H5")):
        assert is_cube_file(tmp_path / name)
        assert plan_jobs([photos / "a.png"], tmp_path / name, "mat") == [Job(photos / "a.png", tmp_path / cube)]
    assert not is_cube_file(photos)


def test_photos_of_one_stem_keep_their_suffixes(photos, tmp_path):
    (photos / "a.bmp").write_text("")
    cubes = [job.cube.name for job in plan_jobs([photos], tmp_path / "cubes", "mat")]
    assert cubes == ["a.bmp.mat", "a.png.mat", "b.mat"]


@pytest.mark.parametrize(
    ("images", "output", "suffix", "message"),
    [
        ([], "cubes", "mat", "no photos given"),
        (["."], "cubes", "mat", r"contains no photos; .* folders inside are not searched, name them: .*photos"),
        (["photos/a.png", "out.mat"], "cubes", "mat", "out.mat: has the name of a cube, not of a photo; pass --output"),
        (["photos"], "cube.mat", "mat", "one file cannot hold the cubes of 2 photos"),
        (["photos/a.png"], "photos/notes.txt", "mat", "expected a name that ends in .mat"),
        (["photos/a.png", "photos/a.png"], "cubes", "mat", "several photos would be written to this file"),
        (["photos"], "photos", "tif", "mistaken for one"),
        (["c.tif"], "c.tif", "tif", "would replace a photo"),
    ],
)
def test_outputs_that_collide_are_rejected(photos, tmp_path, images, output, suffix, message):
    with pytest.raises(InputError, match=message):
        plan_jobs([tmp_path / image for image in images], tmp_path / output, suffix)


def test_a_job_is_done_until_its_photo_changes(photos, tmp_path):
    job = Job(photos / "a.png", tmp_path / "a.mat")
    assert not job.done
    job.cube.write_text("")
    assert job.done
    newer = job.cube.stat().st_mtime + 10
    os.utime(job.image, (newer, newer))
    assert not job.done


def test_a_cube_of_two_files_is_done_when_both_exist(photos, tmp_path):
    job = Job(photos / "a.png", tmp_path / "a.hdr")
    job.cube.write_text("")
    assert not job.done
    (tmp_path / "a.img").write_text("")
    assert job.done


def test_settings_of_some_cubes_cannot_change(photos, tmp_path):
    folder = tmp_path / "cubes"
    first, second = plan_jobs([photos], folder, "mat")
    record_settings(folder, [first], {"tile": 64}, overwrite=False)
    first.cube.write_text("")
    record_settings(folder, [second], {"tile": 64}, overwrite=False)
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"made with tile 64, now default; .* all its photos with --overwrite"):
            record_settings(folder, [second], {"tile": None}, overwrite=overwrite)
    record_settings(folder, [first, second], {"tile": None}, overwrite=True)


def test_settings_may_change_only_while_there_are_no_cubes(photos, tmp_path):
    folder = tmp_path / "cubes"
    jobs = plan_jobs([photos], folder, "mat")
    record_settings(folder, jobs, {"tile": None, "ensemble": False}, overwrite=False)
    record_settings(folder, jobs, {"tile": 64, "ensemble": False}, overwrite=False)
    jobs[0].cube.write_text("")
    record_settings(folder, jobs, {"tile": 64, "ensemble": False}, overwrite=False)
    with pytest.raises(InputError, match=r"made with tile 64, now default, ensemble off, now on; choose"):
        record_settings(folder, jobs, {"tile": None, "ensemble": True}, overwrite=False)
    record_settings(folder, jobs, {"tile": None, "ensemble": True}, overwrite=True)
    assert json.loads((folder / SETTINGS_FILE).read_text()) == {"tile": None, "ensemble": True}
    record_settings(folder, jobs, {"tile": None, "light": "A"}, overwrite=True)
    with pytest.raises(InputError, match=r"made with light A, now default; choose"):  # an option left out
        record_settings(folder, jobs, {"tile": None}, overwrite=False)


def test_a_cube_in_place_of_an_interval_is_refused(tmp_path):
    for name in ("a.png", "a_interval.png"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"a_interval.hdr: several photos would be written to this file"):
        plan_jobs([tmp_path], tmp_path / "cubes", "hdr")
    assert len(plan_jobs([tmp_path], tmp_path / "cubes", "mat")) == 2


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_a_damaged_record_is_bad_input_and_overwrite_replaces_it(photos, tmp_path, text):
    jobs = plan_jobs([photos], tmp_path, "mat")
    jobs[0].cube.write_text("")
    (tmp_path / SETTINGS_FILE).write_text(text)
    with pytest.raises(InputError, match=rf"{SETTINGS_FILE}|made with tile unknown"):
        record_settings(tmp_path, jobs, {"tile": 64}, overwrite=False)
    record_settings(tmp_path, jobs, {"tile": 64}, overwrite=True)


def test_a_folder_that_cannot_be_created_is_bad_input(photos):
    with pytest.raises(InputError, match="cannot be used as output"):
        record_settings(photos / "notes.txt" / "cubes", [], {}, overwrite=False)
