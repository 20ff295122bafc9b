"""The checkpoint of the people model of edge-mrcnn: a file, found by `edge-mrcnn train --weights people`."""
