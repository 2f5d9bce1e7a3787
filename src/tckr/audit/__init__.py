"""Membership inference: design, shadows, signals, attacks, statistics and the audit of a model."""
