"""The people model of edge-mrcnn: files, found by `runtimes.load("people")` and by every option that names a model."""
