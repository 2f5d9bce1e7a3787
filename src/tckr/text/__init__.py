"""Image to text: describing pixels, captioning images, reading prompts."""
