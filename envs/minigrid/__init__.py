"""The package minigrid's environments."""
