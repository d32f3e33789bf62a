"""M3SR in JAX and Flax: RGB in, a 31-band hyperspectral cube out."""
