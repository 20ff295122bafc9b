"""Prepare the people benchmark: one class, several sources, and a backbone trained on COCO.

    python benchmarks/people/prepare.py --data DIR --output scratch/people

DIR holds the folders coco_person, coco80, pennfudan, ccp and coco_people_boxes (COCO format, annotations/ and images/;
the last one has boxes without masks) and weights/shufflenetv2_x1_0_coco_nanodet_m.pth, NanoDet-m's backbone
(Apache-2.0). The command writes annotations/instances_{train,train_all,val,pennfudan_val,coco80_val}.json with absolute
image paths. `train_all` adds to `train` the people with a box only, the people of ccp, and the pictures of coco80
without people, from which a model learns what is no person.

The command also writes backbone.pth, the same weights for RGB input. NanoDet reads BGR. Its mean and deviation are
ImageNet's, so only the order of the first convolution's input channels differs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch

PERSON_NAMES = ("person", "pedestrian", "personpedestrians")


@dataclass(frozen=True)
class Source:
    """Pictures of one data set."""

    name: str
    """Folder of the data set."""
    split: str
    """Folder of the pictures below images/."""
    annotations: str = "instances"
    """The JSON file is called annotations/{annotations}_{split}.json."""
    without_people: bool = False
    """Include the pictures without people."""

    def read(self, root: Path) -> dict[str, list[dict]]:
        """The COCO record of the data set below `root`."""
        file = root / self.name / "annotations" / f"{self.annotations}_{self.split}.json"
        return json.loads(file.read_text())


WITH_MASKS = [Source("coco_person", "train"), Source("coco80", "train"), Source("pennfudan", "train")]
ALL = [
    Source("coco_person", "train"),
    Source("coco80", "train", without_people=True),
    Source("pennfudan", "train"),
    Source("ccp", "train", annotations="person"),
    Source("coco_people_boxes", "train"),
]
SPLITS = {
    "train": WITH_MASKS,
    "train_all": ALL,
    "val": [Source("coco_person", "val")],
    "pennfudan_val": [Source("pennfudan", "val")],
    "coco80_val": [Source("coco80", "val")],
}


def person_categories(record: dict[str, list[dict]]) -> set[int]:
    """Ids of the categories that mean a person; the only category of a data set does too."""
    categories = record["categories"]
    if len(categories) == 1:
        return {categories[0]["id"]}
    return {category["id"] for category in categories if category["name"].lower() in PERSON_NAMES}


def people_of(root: Path, source: Source, first_id: int) -> dict[str, list[dict]]:
    """Images and people of one source, with one category; image ids are counted from `first_id`."""
    record = source.read(root)
    person = person_categories(record)
    people = [annotation for annotation in record["annotations"] if annotation["category_id"] in person]
    shown = {annotation["image_id"] for annotation in people}
    folder = (root / source.name / "images" / source.split).resolve()
    merged: dict[str, list[dict]] = {"images": [], "annotations": []}
    ids = {}
    for number, image in enumerate(record["images"]):
        if image["id"] not in shown and not source.without_people:
            continue
        ids[image["id"]] = first_id + number
        file = str(folder / image["file_name"])
        size = {"width": image["width"], "height": image["height"]}
        merged["images"].append({"id": ids[image["id"]], "file_name": file, **size})
    for number, annotation in enumerate(people):
        new = {"id": first_id * 100 + number, "image_id": ids[annotation["image_id"]], "category_id": 1}
        merged["annotations"].append({**annotation, **new})
    return merged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("scratch/people"))
    options = parser.parse_args()
    (options.output / "annotations").mkdir(parents=True, exist_ok=True)
    for split, sources in SPLITS.items():
        merged: dict[str, list[dict]] = {"images": [], "annotations": []}
        for source in sources:
            found = people_of(options.data, source, 1 + 100_000 * (1 + len(merged["images"])))
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
