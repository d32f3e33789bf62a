"""NTIRE 2020 Clean with the paper's recipe: MAE, Adam, 4e-4, cosine schedule, 100 epochs, batches of 32 crops of 128².

450 scenes to train and 10 to validate, the official split. Photos are divided by 255; --config.data.camera=cie1964, or
a CSV, MAT or NPZ file, renders the cubes instead. An epoch is as many crops as tile the training scenes once: 12 per
scene, 168 steps.

Command:   m3sr prepare --dataset ntire2020_clean --data-root DOWNLOAD --output data/ntire2020_clean
           python train.py --config configs/ntire2020_clean.py
Variants:  --config configs/ntire2020_clean.py:NAME, see m3sr_jax/config/recipes.py.
Duration:  estimated, not measured: 17k steps of 1.4 TFLOP, 3 hours on one RTX 4090 that sustains 2 TFLOP/s.
Score:     the paper reports 37.71 dB PSNR and .0196 RMSE; we have not trained to the end.
"""

from m3sr_jax.config import paper_recipe


def get_config(variant=""):
    return paper_recipe("ntire2020_clean", variant, log_every_steps=20, eval_every_steps=168)
