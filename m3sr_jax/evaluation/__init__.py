"""Scores: metrics, protocols, baselines, and reports as tables and pictures."""
