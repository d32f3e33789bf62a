"""Published networks to compare M3SR with, called as M3SR is: (B, H, W, 3) RGB in [0, 1] → (B, H, W, S).

Written from descriptions of what they compute and checked against numbers of their releases.
"""

from m3sr_jax.models.baselines.essaformer import ESSAformer
from m3sr_jax.models.baselines.fmnet import FMNet
from m3sr_jax.models.baselines.gmsr import GMSR
from m3sr_jax.models.baselines.hrnet import HRNet
from m3sr_jax.models.baselines.hscnn_plus import HSCNNPlus
from m3sr_jax.models.baselines.hsrnet import HSRNet
from m3sr_jax.models.baselines.mst_plus_plus import MSTPlusPlus

__all__ = ["GMSR", "ESSAformer", "FMNet", "HRNet", "HSCNNPlus", "HSRNet", "MSTPlusPlus"]
