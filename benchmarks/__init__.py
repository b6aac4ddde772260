"""Figures beside rivals, each measured in one run."""
