from edge_mrcnn.cli import main

main()
