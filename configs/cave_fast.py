"""CAVE at a small budget: M3SR learns what a regression misses, with photos of many exposures.

The base is a root-polynomial regression of degree 2, weighted by relative error and fitted when the run starts. The
network sees images of normalised exposure: half the light gives half the cube. Training images are mosaics of 16²
patches from many scenes, half of which get an exposure from 1/4 to 2; the loss is MAE plus 0.2 times the spectral
angle, the optimiser Muon. 1,000 steps of 2 images of 64². Scenes, camera and data.split_file are as in configs/cave.py.
M3SR on a base cannot become a file of its release.

Command:   python train.py --config configs/cave_fast.py --workdir runs/cave_fast --config.data.root=DIR
Variants:  --config configs/cave_fast.py:NAME, see m3sr_jax/config/recipes.py; "pixel" is the pixel network.
Duration:  7 minutes of one CPU core; the pixel network takes 19 seconds.
Score:     37.41 dB (37.31–37.48 over three seeds) and 10.9° on six test scenes, 34.19 dB and 9.7° on all 26, each in a
           run without it; MST++ with the paper's recipe 32.75 dB and 13.0° there, the pixel network at a rate of 0.05
           33.94 dB and 10.6°: docs/results.md, python benchmarks/study_cave.py.
"""

from m3sr_jax.config import paper_recipe


def get_config(variant=""):
    config = paper_recipe("cave", variant, log_every_steps=10, eval_every_steps=250)

    config.model.base = "root2_weighted"
    config.model.normalise_exposure = True

    config.data.batch_size = 2
    config.data.crop_size = 64
    config.data.patch_size = 16
    config.data.exposure = (-2.0, 1.0)

    config.loss.spectral_angle = 0.2

    config.optim.name = "muon"
    config.optim.learning_rate = 3e-3
    config.optim.warmup_steps = 20

    config.train.num_steps = 1000
    return config
