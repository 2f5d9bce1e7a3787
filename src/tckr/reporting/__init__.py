"""What people read of a run: the report, its figures and tables."""
