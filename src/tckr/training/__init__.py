"""Training loops, captured GPU steps and optimizers that several rooms share."""
