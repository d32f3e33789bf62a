"""A run of seconds, to test the machinery around the network: two convolutions in the network's place, tiny scenes."""

import flax.linen as nn

from m3sr_jax.config import default_config
from m3sr_jax.models import M3SR
from m3sr_jax.networks import NETWORKS, Network


class Toy(M3SR):
    """Takes the network's fields, and computes next to nothing."""

    @nn.compact
    def __call__(self, rgb):
        hidden = nn.relu(nn.Conv(self.features, (3, 3))(rgb))
        return nn.Conv(self.num_bands, (3, 3))(hidden)


NETWORKS["toy"] = Network("Toy", model=Toy)


def get_config():
    config = default_config()
    config.model.name = "toy"
    config.data.scene_size = 32
    config.data.num_train_scenes = 3
    config.data.num_valid_scenes = 2
    config.data.batch_size = 2
    config.data.crop_size = 16
    config.optim.learning_rate = 2e-3
    config.train.num_steps = 24
    config.train.log_every_steps = 1
    config.train.eval_every_steps = 8
    config.train.checkpoint_every_steps = 5
    return config
