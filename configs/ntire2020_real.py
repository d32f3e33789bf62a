"""NTIRE 2020 Real World: recipe, scenes, variants and duration as in configs/ntire2020_clean.py, with real photos.

Command:   m3sr prepare --dataset ntire2020_real --data-root DOWNLOAD --output data/ntire2020_real
           python train.py --config configs/ntire2020_real.py
Duration:  estimated, not measured: 17k steps of 1.4 TFLOP, 3 hours on one RTX 4090 that sustains 2 TFLOP/s.
Score:     the paper reports 36.35 dB PSNR and .0171 RMSE; we have not trained to the end.
"""

from m3sr_jax.config import paper_recipe


def get_config(variant=""):
    return paper_recipe("ntire2020_real", variant, log_every_steps=20, eval_every_steps=168)
