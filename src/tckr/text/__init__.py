"""Text about images: caption them, embed them with CLIP, vary sentences."""
