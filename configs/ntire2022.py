"""NTIRE 2022 (ARAD_1K) with the paper's recipe: MAE, Adam, 4e-4, cosine schedule, 100 epochs, 32 crops of 128² a batch.

897 scenes to train and 50 to validate, the official split; the test cubes are not public. Photos stretched per image
(min-max). An epoch is as many crops as tile the training scenes once: 12 a scene, 336 steps.

Command:   m3sr prepare --dataset ntire2022 --data-root DOWNLOAD --output STORE
           python train.py --config configs/ntire2022.py --workdir runs/ntire2022 --config.data.root=STORE
Variants:  --config configs/ntire2022.py:NAME with no_spatial, no_frequency, no_spectral, groups2, groups8, groups16,
           mst_plus_plus, hscnn_plus, hrnet, gmsr, mstpp_recipe (MRAE, batch 20, 300 × 1000 steps, 4e-4 to 1e-6)
Duration:  estimated, not measured: 34k steps of 1.9 TFLOP, 9 hours on one RTX 4090 if it sustains 2 TFLOP/s.
Score:     the paper's 31.40 dB PSNR, .0343 RMSE, 6.62 degrees SAM, .9351 MSSIM; not trained by us to the end.
"""

from m3sr_jax.config import paper_recipe


def get_config(variant=""):
    return paper_recipe("ntire2022", variant, log_every_steps=20, eval_every_steps=336)
