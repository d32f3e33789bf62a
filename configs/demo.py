"""Training in minutes, on built-in synthetic scenes and any CPU.

Command:  make demo   (python train.py --config configs/demo.py --workdir runs/demo)
Hardware: two CPU cores, 7 GB of memory, no GPU.
Duration: 3 minutes 20 seconds including installation, measured on two cores.
Score:    25.68 dB PSNR and 12.12 degrees SAM on 12 held-out scenes; cubic least squares, the best of 14 fits, reaches
          24.62 dB and 13.68 degrees.
"""

from m3sr_jax.config import default_config


def get_config():
    config = default_config()

    config.data.name = "synthetic"
    config.data.scene_size = 128
    config.data.num_train_scenes = 160
    config.data.num_valid_scenes = 12
    config.data.batch_size = 4
    config.data.crop_size = 32

    config.optim.learning_rate = 2e-3

    config.train.num_steps = 1200
    config.train.log_every_steps = 10
    config.train.eval_every_steps = 400
    config.train.checkpoint_every_steps = 400
    return config
