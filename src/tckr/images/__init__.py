"""Reading and checking raw images, splitting them, turning them into tensors and contact sheets."""
