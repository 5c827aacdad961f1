"""Searches for the best settings of a learner on a task, by Optuna."""
