"""What compression cost: accuracy, drop, size and speed of any number of models, written to be read."""
