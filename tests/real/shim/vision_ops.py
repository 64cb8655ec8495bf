"""Let torchvision be imported beside a torch it was not compiled for.

The torchvision that pip finds carries compiled operators for a CUDA build of torch. Beside a CPU build they do not load,
and the import fails on the first one that torchvision describes to torch. Naming the operators is enough: they are
for pictures, and we serve text.
"""

import torch

_declared = []  # torch forgets the declaration with the object that made it


def declare() -> None:
    """Name torchvision's operators to a torch that has no CUDA; beside any other torch they name themselves."""
    if torch.version.cuda is not None or _declared:
        return
    vision = torch.library.Library("torchvision", "DEF")
    vision.define("nms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    vision.define("qnms(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(vision)
