"""Scenes on disk, cameras, and the input pipeline."""
