import numpy as np
import pytest
from PIL import Image

from m3sr_jax.data.camera import load_camera, quantise
from m3sr_jax.data.cave import SPLIT, open_cave, read_bands
from m3sr_jax.data.scenes import decode
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import BANDS

TEST_SCENES = [
    *("hairs", "balloons", "real_and_fake_peppers", "stuffed_toys", "thread_spools", "fake_and_real_tomatoes"),
    *("fake_and_real_lemons", "egyptian_statue", "clay", "real_and_fake_apples", "fake_and_real_beers"),
    "fake_and_real_peppers",
]


@pytest.fixture
def folder(tmp_path, write_cave_scene):
    """Three scenes, one nested, one flat, one in 8-bit RGBA, and a split file."""
    codes = {
        "beads": write_cave_scene(tmp_path, "beads", seed=1),
        "clay": write_cave_scene(tmp_path, "clay", nested=False, size=(16, 18), seed=2),
        "watercolors": write_cave_scene(tmp_path, "watercolors", rgba=True, seed=3),
    }
    (tmp_path / "split.txt").write_text("# mine\n[train]\nbeads_ms\nwatercolors  # 8 bits\n\n[valid]\nclay\n")
    return tmp_path, codes


def test_the_split_is_the_listed_one():
    assert sorted(SPLIT["valid"]) == sorted(TEST_SCENES)
    assert len(SPLIT["train"]) == 20
    assert len({*SPLIT["train"], *SPLIT["valid"]}) == 32


def test_cubes_are_the_codes_of_the_files(folder):
    root, codes = folder
    cave = open_cave(root, split_file=root / "split.txt")
    assert (cave.train.names, cave.valid.names) == (("beads", "watercolors"), ("clay",))
    assert (cave.train.size(0), cave.valid.size(0)) == ((20, 24), (16, 18))
    for source in (cave.train, cave.valid):
        for scene in source:
            np.testing.assert_array_equal(scene.cube, decode(codes[scene.name]))
            expected = quantise(load_camera("cie1964").render(scene.cube, BANDS))
            np.testing.assert_array_equal(scene.rgb, decode(expected))


def test_8_bit_files_use_the_whole_range(folder):
    root, codes = folder
    scene = open_cave(root, split_file=root / "split.txt").train[1]
    np.testing.assert_allclose(scene.cube, (codes["watercolors"] // 257).astype(float) / 255, atol=1e-7)


def test_original_files_are_read(data_dir):
    balloons = read_bands(sorted((data_dir / "cave_raw" / "balloons_ms").glob("*.png")))
    assert balloons.shape == (512, 512, 31)
    assert balloons.max() > 60_000
    watercolors = read_bands(sorted((data_dir / "cave_raw" / "watercolors_ms").glob("*.png")))
    assert watercolors.shape == (512, 512, 2)
    assert set(np.unique(watercolors % 257)) == {0}
    assert watercolors.max() > 50_000


def test_fingerprint_depends_on_files_and_camera(folder):
    root, _ = folder
    (root / "mine.csv").write_text("400,0,0,1\n550,0,1,0.1\n700,1,0,0\n")
    split = root / "split.txt"
    plain, again, other = (
        open_cave(root, split_file=split, camera=name) for name in ("cie1964", "cie1964", str(root / "mine.csv"))
    )
    assert plain.train.fingerprint() == again.train.fingerprint() != other.train.fingerprint()
    assert plain.train.fingerprint() != plain.valid.fingerprint()
    assert other.train.camera_name == "mine"
    band = next(root.glob("beads_ms/**/*_07.png"))
    Image.fromarray(np.zeros((20, 24), np.uint16)).save(band)
    assert open_cave(root, split_file=split).train.fingerprint() != plain.train.fingerprint()


def test_an_incomplete_official_split_is_used(folder):
    root, _ = folder
    (root / "beads_ms" / "Thumbs.db").write_bytes(b"left by Windows")
    (root / "._clay_ms_01.png").write_bytes(b"left by macOS")
    cave = open_cave(root)
    assert (cave.train.names, cave.valid.names) == (("beads", "watercolors"), ("clay",))
    assert len(cave.missing) == 29
    assert cave.missing[0] == "scene cd"


def test_an_incomplete_split_file_is_refused(folder):
    root, _ = folder
    (root / "split.txt").write_text("[train]\nbeads\ncd\n[valid]\nclay")
    with pytest.raises(
        InputError, match=r"1 of 2 training .* missing: scene cd; found scenes: beads, clay, watercolors"
    ):
        open_cave(root, split_file=root / "split.txt")


@pytest.mark.parametrize("root", ["", "nowhere"])
def test_missing_folder_is_named(root):
    with pytest.raises(InputError, match=f'data.root "{root}": no such folder'):
        open_cave(root)


def test_missing_bands_are_named(folder):
    root, _ = folder
    (root / "clay_ms" / "clay_ms_05.png").unlink()
    with pytest.raises(InputError, match=r"missing: clay_ms_05\.png"):
        open_cave(root, split_file=root / "split.txt")


def damage(kind, path):
    if kind == "text":
        path.write_text("no image")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "size":
        Image.fromarray(np.zeros((4, 5), np.uint16)).save(path)
    elif kind == "type":
        Image.fromarray(np.zeros((16, 18), np.float32)).save(path, format="TIFF")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "cannot be read as an image"),
        ("truncated", "cannot be read as an image"),
        ("size", r"found 4×5 pixels; expected 16×18 as in clay_ms_01\.png"),
        ("type", "found pixels of type float32; expected an 8- or 16-bit image"),
    ],
)
def test_damaged_bands_are_named(folder, kind, message):
    root, _ = folder
    path = root / "clay_ms" / "clay_ms_09.png"
    damage(kind, path)
    with pytest.raises(InputError, match=message) as caught:
        open_cave(root, split_file=root / "split.txt").valid[0]
    assert str(path) in str(caught.value)


def test_damaged_first_band_is_named_on_opening(folder):
    root, _ = folder
    damage("text", root / "clay_ms" / "clay_ms_01.png")
    with pytest.raises(InputError, match=r"clay_ms_01\.png: cannot be read as an image"):
        open_cave(root, split_file=root / "split.txt")
