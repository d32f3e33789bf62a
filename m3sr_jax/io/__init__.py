"""Cubes and photos on disk."""

from m3sr_jax.io.cube_writer import write_cube as write_cube
from m3sr_jax.io.cubes import read_cube as read_cube
from m3sr_jax.io.cubes import read_cube_file as read_cube_file
from m3sr_jax.io.photos import Photo as Photo
from m3sr_jax.io.photos import read_photo as read_photo
from m3sr_jax.io.photos import read_rgb as read_rgb
