"""Searches for hyperparameters: many jobs from one template, every one of them charged."""
