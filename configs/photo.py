"""A model for any photo, on simulated photos of measured reflectances; docs/photo.md describes the simulation.

Command:  python train.py --config configs/photo.py --workdir runs/photo
Duration: about 2.2 hours of one CPU core, at 0.4 s a step. The weights in the package took 2.6 hours in three stages,
          see docs/photo.md.
Score:    m3sr_jax/pretrained/MODEL_CARD.md has it, beside the regression that the network has to beat.
"""

from m3sr_jax.config import default_config


def get_config():
    config = default_config()

    config.data.name = "photo"
    config.data.scene_size = 128
    config.data.num_train_scenes = 2000
    config.data.num_valid_scenes = 100
    config.data.batch_size = 2
    config.data.crop_size = 64

    config.model.base = "root3"
    config.model.normalise_exposure = True
    config.model.exact_colour = True

    config.loss.spectral_angle = 0.02

    config.optim.ema_decay = 0.999
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 100

    config.train.num_steps = 20_000
    config.train.log_every_steps = 100
    config.train.eval_every_steps = 2000
    config.train.checkpoint_every_steps = 500
    return config
