"""Reports on compression: accuracy, drop, size and speed of any number of models."""

from edge_mrcnn.callable_package import make_callable

make_callable(__name__)
