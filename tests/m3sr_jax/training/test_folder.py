"""One's own data from a folder to a cube: check, prepare, train, evaluate and predict, with any number of bands."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from m3sr_jax.cli import main
from m3sr_jax.config import load_config
from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube
from m3sr_jax.model_card import read_card
from m3sr_jax.training.loop import train_and_evaluate

ROOT = Path(__file__).parents[3]
NM = (450.0, 500.0, 550.0, 600.0, 650.0)
OPTIONS = ["--photos", "rgb/*_clean.png", "--key", "reflectance", "--wavelengths", "450:650:50", "--white", "200"]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "leaves" / "rgb").mkdir(parents=True)
    for number in range(4):
        codes = rng.integers(10, 200, (6, 7, 5)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        scipy.io.savemat(tmp_path / "leaves" / f"leaf{number}.mat", {"reflectance": codes, "mask": np.ones((24, 28))})
        for track in ("clean", "camera"):
            photo = Image.fromarray(np.ascontiguousarray(codes[..., [3, 2, 0]]))
            photo.save(tmp_path / "leaves" / "rgb" / f"leaf{number}_{track}.png")
    return tmp_path / "leaves"


def configured(toy, folder, **data):
    fields = {"photos": "rgb/*_clean.png", "key": "reflectance", "wavelengths": "450:650:50", "white": 200.0} | data
    data = dataclasses.replace(toy.data, name="folder", root=str(folder), valid_fraction=0.25, **fields)
    model = dataclasses.replace(toy.model, num_bands=None)
    train = dataclasses.replace(toy.train, num_steps=4, eval_every_steps=2, checkpoint_every_steps=2)
    return dataclasses.replace(toy, model=model, data=data, train=train)


def test_from_a_folder_to_a_cube(toy, folder, tmp_path, capsys):
    workdir, where = tmp_path / "run", ["--dataset", "folder", "--data-root", str(folder), *OPTIONS]
    assert main(["check", *where]) == 0
    assert "photos: 4 files" in capsys.readouterr().out
    assert main(["check", *where, "--camera", "cie1964"]) == 0
    assert "photos: rendered by cie1964" in capsys.readouterr().out
    assert main(["prepare", *where, "--output", str(tmp_path / "store")]) == 0
    assert "WARNING" not in capsys.readouterr().out
    unscaled = "values above 1 in the cube, which PSNR clips; largest 99.5: pass --white 100 (data.white)"
    assert main(["prepare", *where[:-1], "2", "--output", str(tmp_path / "unscaled")]) == 0
    assert unscaled in capsys.readouterr().out
    config = configured(toy, folder)
    assert train_and_evaluate(config, workdir) == 0
    printed = capsys.readouterr().out
    assert "WARNING" not in printed
    assert "3 training and 1 held-out scenes, 5 bands of 450-650 nm, camera photos of the folder" in printed
    assert "split at random by data.split_seed 0: 1 of 4 held out, leaf" in printed
    assert load_config(workdir / "config.json").model.num_bands == 5
    assert (read_card(workdir).model.num_bands, read_card(workdir).wavelengths) == (5, NM)
    assert train_and_evaluate(config, workdir) == 0  # with the bands still unset: nothing is left to do
    assert main(["evaluate", "--checkpoint", str(workdir), "--output", str(tmp_path / "own.json")]) == 0
    assert "WARNING" not in capsys.readouterr().out
    values = json.loads((tmp_path / "own.json").read_text())
    assert values["protocol"]["name"] == "full_frame"
    assert values["dataset"]["notes"][0].startswith("split at random by data.split_seed 0: 1 of 4 held out, leaf")
    assert set(values["baselines"]) == {"least_squares_linear", "least_squares_quadratic"}
    everything = ["--valid-fraction", "1", "--white", "2", "--output", str(tmp_path / "all.json")]
    assert main(["evaluate", "--checkpoint", str(workdir), *everything]) == 0
    assert len(json.loads((tmp_path / "all.json").read_text())["scenes"]) == 4
    assert unscaled in capsys.readouterr().out
    photo, cube = folder / "rgb" / "leaf0_clean.png", tmp_path / "leaf0.mat"
    assert main(["predict", str(photo), "--checkpoint", str(workdir), "--output", str(cube)]) == 0
    predicted, wavelengths = read_cube(cube)
    assert (predicted.shape, tuple(wavelengths)) == ((24, 28, 5), NM)


def test_another_number_of_bands_than_the_data_have_is_refused_with_the_flag_to_pass(toy, folder, tmp_path):
    config = configured(toy, folder)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, num_bands=31))
    told = r"found 31, expected 5 as in the folder data \(450-650 nm\); pass --config\.model\.num_bands=5"
    with pytest.raises(InputError, match=told):
        train_and_evaluate(config, tmp_path / "run")


def test_a_network_without_data_needs_a_number_of_bands(capsys):
    assert main(["inspect", "--config", str(ROOT / "configs" / "folder.py")]) == 2
    assert "model.num_bands: unset, and there are no data to take it from" in capsys.readouterr().err
