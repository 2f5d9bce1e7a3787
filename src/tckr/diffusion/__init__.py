"""Text to image: load a generator, adapt it to a private set, sample from it."""
