"""Training with Lightning."""

from edge_mrcnn.callable_package import make_callable

make_callable(__name__)
