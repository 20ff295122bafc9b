"""Accuracy of a model on a data set: AP, what its mistakes cost, and how two models' detections differ."""
