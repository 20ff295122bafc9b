"""What `benchmarks/peers.py` compares: our presets, one-stage nano models, torchvision's Mask R-CNN and bare backbones.

Nothing of the product imports this.
"""
