"""COCO data, augmentation, loading, and the generator of scenes."""
