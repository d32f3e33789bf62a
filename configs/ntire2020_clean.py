"""NTIRE 2020 Clean with the paper's recipe: MAE, Adam, 4e-4, cosine schedule, 100 epochs, batches of 32 crops of 128².

450 scenes to train and 10 to validate, the official split. Photos divided by 255. An epoch is as many crops as tile the
training scenes once: 12 a scene, 168 steps. --config.data.camera=cie1964 (or a CSV, MAT, NPZ file) takes other photos
of the cubes in place of those that come with the data.

Command:   m3sr prepare --dataset ntire2020_clean --data-root DOWNLOAD --output STORE
           python train.py --config configs/ntire2020_clean.py --workdir runs/ntire2020_clean --config.data.root=STORE
Variants:  --config configs/ntire2020_clean.py:NAME with no_spatial, no_frequency, no_spectral, groups2, groups8,
           groups16, mst_plus_plus, hscnn_plus, hrnet, gmsr, mstpp_recipe (MRAE, batch 20, 300 × 1000 steps)
Duration:  estimated, not measured: 17k steps of 1.9 TFLOP, 4 hours on one RTX 4090 if it sustains 2 TFLOP/s.
Score:     the paper's 37.71 dB PSNR, .0196 RMSE; not trained by us to the end.
"""

from m3sr_jax.config import paper_recipe


def get_config(variant=""):
    return paper_recipe("ntire2020_clean", variant, log_every_steps=20, eval_every_steps=168)
