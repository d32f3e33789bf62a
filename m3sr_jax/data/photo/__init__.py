"""Simulated photos: what a camera and its software make of a scene of measured reflectances; see docs/photo.md."""
