"""`m3sr check` as a user types it."""

from m3sr_jax.cli import main
from tests.m3sr_jax.data import arad_folder as arad


def run(root, *arguments):
    return main(["check", "--dataset", "ntire2022", "--data-root", str(root), *map(str, arguments)])


def test_the_check_names_every_file_that_is_missing_or_damaged(download, capsys):
    root, _ = download
    cube = root / "Train_Spec" / "ARAD_1K_0002.mat"
    with cube.open("r+b") as file:
        file.truncate(cube.stat().st_size // 2)
    dark = arad.random_cube(3, size=(40, 44))
    dark[3, 4, 5] = 0
    arad.write_v73(root / "Train_Spec" / "ARAD_1K_0003.mat", dark)
    arad.write_photo(root / "Train_RGB" / "ARAD_1K_0003.jpg", arad.photo_of(dark))
    assert run(root) == 2
    streams = capsys.readouterr()
    assert "missing: scene ARAD_1K_0950" in streams.out
    assert f"fault: {cube}: cannot be read as an HDF5 file" in streams.out
    assert "note: zeros in the cube" in streams.out
    assert "1 scenes, ARAD_1K_0003" in streams.out
    assert "943 missing, 1 faulty" in streams.out or "944 missing, 1 faulty" in streams.out
    assert len(streams.err.splitlines()) == 1


def test_damage_among_the_pixels_is_found_by_the_full_check_alone(download, capsys):
    root, split = download
    photo = root / "Train_RGB" / "ARAD_1K_0001.jpg"
    photo.write_bytes(photo.read_bytes()[:-600])
    assert run(root, "--split-file", split, "--quick") == 0
    assert run(root, "--split-file", split) == 2
    assert "ARAD_1K_0001.jpg: cannot be read as an image" in capsys.readouterr().out
