"""Recall: pairs are shown, and later their values are asked for."""
