"""Classifiers: architecture, training on hard or soft labels, prediction and storage."""
