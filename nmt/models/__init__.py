"""Architectures behind one step interface."""
