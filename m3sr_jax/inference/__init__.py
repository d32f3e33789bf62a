"""From photos to cubes with a trained network."""
