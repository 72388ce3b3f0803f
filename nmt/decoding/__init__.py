"""Searches: from a model and source token ids to hypotheses."""
