"""NTIRE 2022 (ARAD_1K) with the paper's recipe: MAE, Adam, 4e-4, cosine schedule, 100 epochs, 32 crops of 128² a batch.

897 scenes to train and 50 to validate, the official split; the test cubes are not public. Photos are scaled per image
from their minimum and maximum to [0, 1]. An epoch is as many crops as tile the training scenes once: 12 per scene,
336 steps.

Command:   m3sr prepare --dataset ntire2022 --data-root DOWNLOAD --output data/ntire2022
           python train.py --config configs/ntire2022.py
Variants:  --config configs/ntire2022.py:NAME, see m3sr_jax/config/recipes.py.
Duration:  estimated, not measured: 34k steps of 1.4 TFLOP, 7 hours on one RTX 4090 that sustains 2 TFLOP/s.
Score:     the paper reports 31.40 dB PSNR, .0343 RMSE, 6.62 degrees SAM, .9351 MSSIM; we have not trained to the end.
"""

from m3sr_jax.config import paper_recipe


def get_config(variant=""):
    return paper_recipe("ntire2022", variant, log_every_steps=20, eval_every_steps=336)
