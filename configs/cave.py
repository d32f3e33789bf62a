"""CAVE with the paper's recipe: MAE, Adam (0.9, 0.999), 4e-4, cosine annealing, 100 epochs, 32 crops of 128² a batch.

Split: 20 scenes to train and 12 to test, as listed in m3sr_jax/data/cave.py; the paper's own is not public, nor is its
camera (here CIE 1964; --config.data.camera=FILE takes a CSV, MAT or NPZ). An epoch is as many crops as tile the
training scenes once: 16 a scene, 10 steps.

Command:   python train.py --config configs/cave.py --workdir runs/cave --config.data.root=DIR
Variants:  --config configs/cave.py:NAME with no_spatial, no_frequency, no_spectral, groups2, groups8, groups16,
           mst_plus_plus, hscnn_plus, hrnet, gmsr, mstpp_recipe (MRAE, batch 20, 300 × 1000 steps, 4e-4 to 1e-6)
Duration:  estimated, not measured: 1,000 steps of 1.9 TFLOP, 16 minutes on one RTX 4090 if it sustains 2 TFLOP/s;
           on two CPU cores a step takes minutes.
Score:     the paper's 35.61 dB PSNR, .0184 RMSE on its own split; not trained by us to the end. Ours after 450 steps of
           2 crops of 64² at 1e-3 (README.md has the command): 36.19 dB, 16.31 degrees SAM on six scenes at 128×128,
           where linear least squares has 35.05 dB, 16.79 degrees.
"""

from m3sr_jax.config import paper_recipe


def get_config(variant=""):
    return paper_recipe("cave", variant, log_every_steps=10, eval_every_steps=100)
