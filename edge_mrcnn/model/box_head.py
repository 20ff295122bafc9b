"""The light box head: a narrow fully connected network, which is fastest in INT8."""

from __future__ import annotations

from torch import Tensor, nn


class BoxHead(nn.Sequential):
    """Flatten, then fully connected layers with ReLU. (N, C, S, S) to (N, hidden[-1])."""

    def __init__(self, inputs: int, hidden: tuple[int, ...]) -> None:
        layers: list[nn.Module] = [nn.Flatten(start_dim=1)]
        for outputs in hidden:
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            inputs = outputs
        super().__init__(*layers)


class AgnosticBoxPredictor(nn.Module):
    """Class scores and one box regression that all classes share (R-FCN, arXiv 1605.06409, section 2)."""

    def __init__(self, inputs: int, num_classes: int) -> None:
        """

        Args:
            inputs: Width of the box head.
            num_classes: Number of classes, background included.
        """
        super().__init__()
        self.cls_score = nn.Linear(inputs, num_classes)
        self.bbox_pred = nn.Linear(inputs, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, inputs) to class logits (N, K) and deltas (N, 4 K), the same four for each class."""
        return self.cls_score(x), self.bbox_pred(x).repeat(1, self.cls_score.out_features)
