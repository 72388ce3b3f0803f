"""Measuring: how fast training and translation are, where the time goes, and what the machine would allow."""
