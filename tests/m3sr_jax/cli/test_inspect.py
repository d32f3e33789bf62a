"""`m3sr inspect` as a user types it."""

import pytest

from m3sr_jax.cli import main
from m3sr_jax.config import ModelConfig
from m3sr_jax.model_card import MODEL_FILE, ModelCard

SMALL = ["--height", "16", "--width", "16"]


def test_the_published_model_by_default(capsys):
    assert main(["inspect", *SMALL]) == 0
    printed = capsys.readouterr().out
    for expected in ("unet_0/bottleneck/block_0/fusion", "2,786,188", "2,887,062", "2,166,373", "XLA counts"):
        assert expected in printed


def test_a_checkpoint_and_a_config_file(tmp_path, capsys):
    model = ModelConfig(num_groups=1, features=4, branches=("spatial",))
    (tmp_path / MODEL_FILE).write_text(ModelCard(model, tuple(map(float, range(400, 701, 10)))).to_json())
    config = tmp_path / "config.py"
    config.write_text(
        "from m3sr_jax.config import default_config\n\n\ndef get_config():\n    config = default_config()\n"
        "    config.model.num_groups, config.model.features, config.model.branches = 1, 4, ('spatial',)\n"
        "    return config\n"
    )
    tables = []
    for source in (["--checkpoint", str(tmp_path)], ["--config", str(config)]):
        assert main(["inspect", *source, "--summary", *SMALL]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    assert "spatial branch" in tables[0]
    assert "spectral branch" not in tables[0]
    assert "fusion" not in tables[0].split("spatial")[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hsrnet", ("682,610", "321.08")),
        ("fmnet", ("11,792,925", "5819.52", "The M3SR paper prints 5819.5 GFLOP for FMNet.")),
        ("essaformer", ("6,113,567", "7480.88", "ESSAformer in a setting of this project")),
    ],
)
def test_the_cost_of_a_baseline_with_what_belongs_beside_it(name, expected, tmp_path, capsys):
    (tmp_path / MODEL_FILE).write_text(ModelCard(ModelConfig(name), tuple(map(float, range(400, 701, 10)))).to_json())
    assert main(["inspect", "--checkpoint", str(tmp_path), "--summary"]) == 0
    printed = capsys.readouterr().out
    for text in expected:
        assert text in printed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--height", "4"], "at least 8×8"),
        (["--config", "nowhere.py"], "nowhere.py"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--config", "a.py", "--checkpoint", "b"], "expected one of them"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, complaint, capsys):
    assert main(["inspect", *arguments]) == 2
    streams = capsys.readouterr()
    assert complaint in streams.err
    assert len(streams.err.splitlines()) == 1
