"""CAVE with the paper's recipe: MAE, Adam (0.9, 0.999), 4e-4, cosine annealing, 100 epochs, 32 crops of 128² a batch.

Split: 20 scenes to train and 12 to test, as listed in m3sr_jax/data/cave.py; the paper's own is not public, nor is its
camera (here CIE 1964). An epoch is as many crops as tile the training scenes once.

Command:  python train.py --config configs/cave.py --workdir runs/cave --config.data.root=DIR
Hardware: the recipe as it stands is for a GPU and has not been run; on two CPU cores a step takes minutes.
Score:    36.19 dB PSNR, 16.31 degrees SAM after 450 steps of 2 crops of 64² at 1e-3 (README.md has the command);
          linear least squares 35.05 dB, 16.79 degrees on the same six scenes.
"""

from m3sr_jax.config import default_config


def get_config():
    config = default_config()

    config.data.name = "cave"
    config.data.batch_size = 32
    config.data.crop_size = 128

    config.optim.learning_rate = 4e-4

    config.train.num_epochs = 100
    config.train.log_every_steps = 10
    config.train.eval_every_steps = 100
    config.train.checkpoint_every_steps = 100
    return config
