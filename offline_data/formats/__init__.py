"""Readers of data files; files that begin with _ are shared by them."""
