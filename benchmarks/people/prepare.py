"""Prepare the people benchmark: one class, several sources, and a backbone trained on COCO.

    python benchmarks/people/prepare.py --data DIR --output scratch/people

DIR holds the folders coco_person, coco80, pennfudan and coco_people_boxes (COCO format, annotations/ and images/;
the last one has boxes without masks) and weights/shufflenetv2_x1_0_coco_nanodet_m.pth, NanoDet-m's backbone
(Apache-2.0). Written are annotations/instances_{train,train_with_boxes,val,pennfudan_val,coco80_val}.json with
absolute image paths and backbone.pth, the same weights for RGB input. NanoDet reads BGR; its mean and deviation are
ImageNet's, so that the order of the first convolution's input channels is all that differs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

WITH_MASKS = [("coco_person", "train"), ("coco80", "train"), ("pennfudan", "train")]
SPLITS = {
    "train": WITH_MASKS,
    "train_with_boxes": [*WITH_MASKS, ("coco_people_boxes", "train")],
    "val": [("coco_person", "val")],
    "pennfudan_val": [("pennfudan", "val")],
    "coco80_val": [("coco80", "val")],
}


def people_of(root: Path, name: str, split: str, first_id: int) -> dict[str, list[dict]]:
    """Images of one source that show people, with one category, ids counted from `first_id`."""
    record = json.loads((root / name / "annotations" / f"instances_{split}.json").read_text())
    person = {
        c["id"] for c in record["categories"] if c["name"].lower() in ("person", "pedestrian", "personpedestrians")
    }
    if not person:
        person = {c["id"] for c in record["categories"]} if len(record["categories"]) == 1 else set()
    annotations = [a for a in record["annotations"] if a["category_id"] in person]
    shown = {a["image_id"] for a in annotations}
    folder = (root / name / "images" / split).resolve()
    ids = {i["id"]: first_id + n for n, i in enumerate(record["images"]) if i["id"] in shown}
    return {
        "images": [
            {"id": ids[i["id"]], "file_name": str(folder / i["file_name"]), "width": i["width"], "height": i["height"]}
            for i in record["images"]
            if i["id"] in ids
        ],
        "annotations": [
            {**a, "id": first_id * 100 + n, "image_id": ids[a["image_id"]], "category_id": 1}
            for n, a in enumerate(annotations)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("scratch/people"))
    options = parser.parse_args()
    (options.output / "annotations").mkdir(parents=True, exist_ok=True)
    for split, sources in SPLITS.items():
        merged: dict[str, list[dict]] = {"images": [], "annotations": []}
        for name, part in sources:
            found = people_of(options.data, name, part, 1 + 100_000 * (1 + len(merged["images"])))
            merged = {key: merged[key] + found[key] for key in merged}
        record = {**merged, "categories": [{"id": 1, "name": "person"}]}
        file = options.output / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(record))
        print(f"{file}: {len(merged['images'])} images, {len(merged['annotations'])} people")
    state = torch.load(options.data / "weights" / "shufflenetv2_x1_0_coco_nanodet_m.pth", weights_only=True)
    state["conv1.0.weight"] = state["conv1.0.weight"][:, [2, 1, 0]]
    torch.save(state, options.output / "backbone.pth")
    print(f"{options.output / 'backbone.pth'}: {len(state)} tensors")


if __name__ == "__main__":
    main()
