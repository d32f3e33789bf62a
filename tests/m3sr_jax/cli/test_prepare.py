"""`m3sr prepare` as a user types it, from a checked download to a checked store."""

import numpy as np

from m3sr_jax.cli import main
from m3sr_jax.config import DataConfig
from m3sr_jax.data.open import open_dataset


def run(command, root, *arguments):
    return main([command, "--dataset", "ntire2022", "--data-root", str(root), *map(str, arguments)])


def test_a_whole_data_set_passes_the_check_and_is_prepared(download, tmp_path, capsys):
    root, split = download
    assert run("check", root, "--split-file", split) == 0
    assert "2 training and 1 validation scenes, 40×44, 31 bands; 0 missing, 0 faulty" in capsys.readouterr().out
    store = tmp_path / "store"
    assert run("prepare", root, "--output", store, "--split-file", split) == 0
    assert "3 of them new" in capsys.readouterr().out
    assert run("check", store) == 0
    assert "photos: as prepared (NTIRE 2022 photos)" in capsys.readouterr().out
    files, prepared = (
        open_dataset(DataConfig(name="ntire2022", root=str(place), split_file=str(split))) for place in (root, store)
    )
    np.testing.assert_array_equal(files.valid[0].cube, prepared.valid[0].cube)
    assert run("prepare", root, "--output", store, "--split-file", split, "--dtype", "float16") == 0
    told = "0 of them new, 2 converted again, because their files or options differ or they were damaged; train with"
    assert told in capsys.readouterr().out
    assert run("prepare", store, "--output", tmp_path / "again") == 2
    assert "is already a store" in capsys.readouterr().err
