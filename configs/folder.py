"""Your own scenes with the paper's recipe: MAE, Adam, 4e-4, cosine schedule, 100 epochs, batches of 32 crops of 128².

A folder with photos/ and cubes/ whose files have the same names, or cubes alone, of which a camera takes photos. Any
number of bands; the network gets as many as the cubes have. A fifth of the scenes, chosen at random by
data.split_seed, is held out, unless data.split_file lists them. docs/data.md has all fields, and the commands for ICVL,
Harvard, KAIST and NTIRE 2018.

Command:   m3sr check --dataset folder --data-root DIR
           python train.py --config configs/folder.py --config.data.root=DIR
Variants:  --config configs/folder.py:NAME, see m3sr_jax/config/recipes.py.
Duration:  depends on the scenes: an epoch is as many crops as tile the training scenes once. On two CPU cores, take
           --config.data.batch_size=4 --config.data.crop_size=32 --config.optim.learning_rate=2e-3, as configs/demo.py.
Score:     depends on the scenes; every evaluation has least-squares fits beside it to compare with.
"""

from m3sr_jax.config import paper_recipe


def get_config(variant=""):
    config = paper_recipe("folder", variant, log_every_steps=10, eval_every_steps=100)
    config.model.num_bands = None  # as many as the cubes have
    return config
