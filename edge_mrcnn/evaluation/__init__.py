"""Accuracy of a model on a data set: AP, the cost of each error type, and differences between two models."""
