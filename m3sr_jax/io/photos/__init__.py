"""Photos on disk: `read_photo`, `read_rgb` and `image_size`."""

from m3sr_jax.io.photos.kinds import PHOTO_SUFFIXES as PHOTO_SUFFIXES
from m3sr_jax.io.photos.photo import Photo as Photo
from m3sr_jax.io.photos.read import image_size as image_size
from m3sr_jax.io.photos.read import read_photo as read_photo
from m3sr_jax.io.photos.read import read_rgb as read_rgb
