"""tckr: turn a private labelled image set into a synthetic one, and measure what both give away."""

__version__ = "0.1.0"
