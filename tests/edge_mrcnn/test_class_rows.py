"""The start weights of a training keep the predictor rows of the classes that the data has, by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.config import ModelConfig  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint  # noqa: E402
from edge_mrcnn.model.class_rows import compare_classes, map_classes  # noqa: E402

BOXES, MASKS = "roi_heads.box_predictor", "roi_heads.mask_predictor"


@pytest.fixture(params=[True, False], ids=["agnostic", "per class"])
def trained(request: pytest.FixtureRequest, toy_config: ModelConfig, make_lively: Callable) -> Checkpoint:
    config = toy_config.updated(class_agnostic_boxes=request.param)
    names = ("person", "Car", "dog")
    return Checkpoint(model=make_lively(config, 3), config=config, classes=names, category_ids=(1, 2, 3))


def test_rows_are_kept_by_name_whatever_the_case_and_the_order(trained: Checkpoint) -> None:
    before = {key: value.clone() for key, value in trained.model.state_dict().items()}
    mapped = map_classes(trained, ("cat", "car", "Person"), (5, 6, 7))
    assert (mapped.classes, mapped.category_ids) == (("cat", "car", "Person"), (5, 6, 7))
    after = mapped.model.state_dict()
    for new, old in ((0, 0), (2, 2), (3, 1)):
        for layer in (f"{BOXES}.cls_score", f"{MASKS}.mask_fcn_logits"):
            for part in ("weight", "bias"):
                assert torch.equal(after[f"{layer}.{part}"][new], before[f"{layer}.{part}"][old])
    boxes_after, boxes_before = (state[f"{BOXES}.bbox_pred.weight"] for state in (after, before))
    if trained.config.class_agnostic_boxes:
        assert torch.equal(boxes_after, boxes_before)
    else:
        assert torch.equal(boxes_after[8:12], boxes_before[8:12])
        assert torch.equal(boxes_after[12:16], boxes_before[4:8])
    fresh = f"{BOXES}.cls_score.weight"
    assert not any(torch.equal(after[fresh][1], row) for row in before[fresh])
    assert torch.equal(after[f"{MASKS}.conv5_mask.weight"], before[f"{MASKS}.conv5_mask.weight"])


def test_classes_of_another_case_change_no_weight(trained: Checkpoint) -> None:
    before = {key: value.clone() for key, value in trained.model.state_dict().items()}
    mapped = map_classes(trained, ("Person", "car", "DOG"), (1, 2, 3))
    assert all(torch.equal(value, before[key]) for key, value in mapped.model.state_dict().items())


def test_message_lists_kept_new_and_unused_classes() -> None:
    overlap = compare_classes(("person", "car", "dog"), ("Car", "cat"))
    assert not overlap.is_whole
    assert str(overlap) == "1 of 2 classes are kept from the trained heads (Car); new: cat; left out: person, dog"
    assert compare_classes(("a", "b"), ("B", "A")).is_whole


def test_blanks_hyphens_and_composed_letters_make_no_other_class() -> None:
    known = ("traffic light", "caf\u00e9", "stop_sign")
    assert compare_classes(known, ("Traffic-Light ", "Cafe\u0301", "stop sign")).is_whole
