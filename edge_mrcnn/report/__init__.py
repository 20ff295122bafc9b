"""What compression cost: accuracy, drop, size and speed of any number of models, written to be read."""

from edge_mrcnn.callable_package import make_callable

make_callable(__name__)
