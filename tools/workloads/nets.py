"""The nets: ResNet-50, MobileNet v1 and v2, SSD-MobileNet v1, YOLOv8n, each in any size.

`side` is the image's height and width, `width` multiplies the channels, as MobileNet's papers do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.workloads.layers import Feature, Net, NetBuilder

CLASSES = 1000
LOGIT_SPREAD = 3.0  # of 1000 classes the best one then has a score of about 0.15
COCO_CLASSES = 80
SSD_CLASSES = 91  # COCO's numbering, with gaps
SSD_ANCHORS = (3, 6, 6, 6, 6, 6)
SSD_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))  # 1x1, then 3x3 with stride 2
BOX_BINS = 16  # of YOLOv8's distribution over each side's distance
RESNET_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # channels inside, blocks
MOBILENET_V1 = (  # channels, stride
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
    (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
MOBILENET_V1_FIRST_BOXES = 11  # block after whose output SSD looks for the smallest objects
MOBILENET_V2 = (  # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip

Make = Callable[[int, float], Net]


@dataclass(frozen=True)
class Workload:
    """A net, and the size in which it is known."""

    name: str
    make: Make
    side: int


def resnet50(side: int, width: float = 1.0) -> Net:
    """Return ResNet-50 v1.5: the stride is in the 3x3 convolution.

    Source: He et al., "Deep Residual Learning for Image Recognition" (2015), table 1.
    """
    net = NetBuilder(side, seed=50)
    stem = net.pad(net.image, 3)
    x = net.convolution(stem, _scaled(64, width), 7, 2, "relu", padding="VALID")
    x = net.max_pool(x, 3, 2)
    for stage, (channels, blocks) in enumerate(RESNET_STAGES):
        for block in range(blocks):
            stride = 2 if stage and block == 0 else 1
            x = _bottleneck(net, x, _scaled(channels, width), stride, is_first=block == 0)
    return net.finish(*_scores(net, x))


def _bottleneck(
    net: NetBuilder, x: Feature, channels: int, stride: int, *, is_first: bool
) -> Feature:
    skipped = net.convolution(x, 4 * channels, 1, stride) if is_first else x
    inner = net.convolution(x, channels, 1, 1, "relu")
    inner = net.convolution(inner, channels, 3, stride, "relu")
    return net.add(net.convolution(inner, 4 * channels), skipped, "relu")


def mobilenet_v1(side: int, width: float = 1.0) -> Net:
    """Return MobileNet v1.

    Source: Howard et al., "MobileNets" (2017), table 1.
    """
    net = NetBuilder(side, seed=1)
    return net.finish(*_scores(net, _mobilenet_v1_blocks(net, width)[-1]))


def _mobilenet_v1_blocks(net: NetBuilder, width: float) -> list[Feature]:
    blocks = [net.convolution(net.image, _scaled(32, width), 3, 2, "relu6")]
    for channels, stride in MOBILENET_V1:
        x = net.depthwise(blocks[-1], stride, "relu6")
        blocks.append(net.convolution(x, _scaled(channels, width), 1, 1, "relu6"))
    return blocks


def mobilenet_v2(side: int, width: float = 1.0) -> Net:
    """Return MobileNet v2.

    Source: Sandler et al., "MobileNetV2" (2018), table 2.
    """
    net = NetBuilder(side, seed=2)
    x = net.convolution(net.image, _scaled(32, width), 3, 2, "relu6")
    for expansion, channels, blocks, first_stride in MOBILENET_V2:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            x = _inverted_residual(net, x, expansion, _scaled(channels, width), stride)
    x = net.convolution(x, _scaled(1280, width), 1, 1, "relu6")
    return net.finish(*_scores(net, x))


def _inverted_residual(
    net: NetBuilder, x: Feature, expansion: int, channels: int, stride: int
) -> Feature:
    wide = x if expansion == 1 else net.convolution(x, expansion * x.channels, 1, 1, "relu6")
    y = net.convolution(net.depthwise(wide, stride, "relu6"), channels)
    return net.add(x, y) if stride == 1 and x.channels == channels else y


def _scores(net: NetBuilder, x: Feature) -> tuple[Feature, Feature]:
    """Return the scores and, because those of most classes are 0 in INT8, their logarithms."""
    logits = net.dense(net.global_average(x), CLASSES, LOGIT_SPREAD)
    return net.softmax(logits), logits


def ssd_mobilenet_v1(side: int, width: float = 1.0) -> Net:
    """Return SSD over MobileNet v1, without the suppression of boxes: offsets and scores.

    Sources: Liu et al., "SSD" (2016); the object detection API's ssd_mobilenet_v1_coco.
    """
    net = NetBuilder(side, seed=300)
    blocks = _mobilenet_v1_blocks(net, width)
    maps = [blocks[MOBILENET_V1_FIRST_BOXES], blocks[-1]]
    for narrow, wide in SSD_EXTRAS:
        x = net.convolution(maps[-1], _scaled(narrow, width), 1, 1, "relu6")
        maps.append(net.convolution(x, _scaled(wide, width), 3, 2, "relu6"))
    offsets = _ssd_predictions(net, maps, 4)
    scores = _ssd_predictions(net, maps, SSD_CLASSES)
    return net.finish(offsets, net.sigmoid(scores))


def _ssd_predictions(net: NetBuilder, maps: Sequence[Feature], each: int) -> Feature:
    """Return [1, boxes, each] from all maps."""
    parts = []
    for feature, anchors in zip(maps, SSD_ANCHORS, strict=True):
        predicted = net.convolution(feature, anchors * each)
        boxes = anchors * feature.shape[1] * feature.shape[2]
        parts.append(net.reshape(predicted, (1, boxes, each)))
    return net.concatenate(parts, axis=1)


def yolov8n(side: int, width: float = 1.0) -> Net:
    """Return YOLOv8n, without the suppression of boxes: distances in cells, and scores.

    Source: Jocher et al., "Ultralytics YOLOv8" (2023), yolov8.yaml at scale n.
    """
    net = NetBuilder(side, seed=8)
    c = [_scaled(channels, width) for channels in (16, 32, 64, 128, 256)]
    x = _conv_silu(net, net.image, c[0], 3, 2)
    x = _csp(net, _conv_silu(net, x, c[1], 3, 2), c[1], 1, is_residual=True)
    p3 = _csp(net, _conv_silu(net, x, c[2], 3, 2), c[2], 2, is_residual=True)
    p4 = _csp(net, _conv_silu(net, p3, c[3], 3, 2), c[3], 2, is_residual=True)
    p5 = _csp(net, _conv_silu(net, p4, c[4], 3, 2), c[4], 1, is_residual=True)
    p5 = _pooled_pyramid(net, p5)
    n4 = _csp(net, net.concatenate([net.upsample(p5), p4]), c[3], 1)
    n3 = _csp(net, net.concatenate([net.upsample(n4), p3]), c[2], 1)
    n4 = _csp(net, net.concatenate([_conv_silu(net, n3, c[2], 3, 2), n4]), c[3], 1)
    n5 = _csp(net, net.concatenate([_conv_silu(net, n4, c[3], 3, 2), p5]), c[4], 1)
    return net.finish(*_yolo_head(net, (n3, n4, n5)))


def _conv_silu(
    net: NetBuilder, x: Feature, channels: int, size: int = 1, stride: int = 1
) -> Feature:
    return net.silu(net.convolution(x, channels, size, stride))


def _csp(
    net: NetBuilder, x: Feature, channels: int, blocks: int, *, is_residual: bool = False
) -> Feature:
    """Return YOLOv8's C2f: a half goes through the blocks, and all that came by is joined."""
    parts = [*net.halves(_conv_silu(net, x, channels))]
    for _ in range(blocks):
        inner = _conv_silu(net, _conv_silu(net, parts[-1], channels // 2, 3), channels // 2, 3)
        parts.append(net.add(parts[-1], inner) if is_residual else inner)
    return _conv_silu(net, net.concatenate(parts), channels)


def _pooled_pyramid(net: NetBuilder, x: Feature) -> Feature:
    """Return YOLOv5's SPPF: windows of 5, 9 and 13 as three pools of 5."""
    parts = [_conv_silu(net, x, x.channels // 2)]
    for _ in range(3):
        parts.append(net.max_pool(parts[-1], 5))
    return _conv_silu(net, net.concatenate(parts), x.channels)


def _yolo_head(net: NetBuilder, maps: Sequence[Feature]) -> tuple[Feature, Feature]:
    box_channels = max(BOX_BINS, maps[0].channels // 4, 4 * BOX_BINS)
    class_channels = max(maps[0].channels, min(COCO_CLASSES, 100))
    boxes, scores = [], []
    for x in maps:
        cells = x.shape[1] * x.shape[2]
        box = _yolo_branch(net, x, box_channels, 4 * BOX_BINS)
        boxes.append(net.reshape(box, (1, cells, 4, BOX_BINS)))
        score = _yolo_branch(net, x, class_channels, COCO_CLASSES)
        scores.append(net.reshape(score, (1, cells, COCO_CLASSES)))
    bins = net.softmax(net.concatenate(boxes, axis=1))
    distances = net.expectation(bins)
    cells = distances.shape[1]
    return net.reshape(distances, (1, cells, 4)), net.sigmoid(net.concatenate(scores, axis=1))


def _yolo_branch(net: NetBuilder, x: Feature, channels: int, outputs: int) -> Feature:
    x = _conv_silu(net, _conv_silu(net, x, channels, 3), channels, 3)
    return net.convolution(x, outputs)


def _scaled(channels: int, width: float) -> int:
    """Return the channels in the net's width, a multiple of 8."""
    return max(8, int(channels * width + 4) // 8 * 8)


WORKLOADS = (
    Workload("resnet50_224", resnet50, 224),
    Workload("mobilenet_v1_224", mobilenet_v1, 224),
    Workload("mobilenet_v2_224", mobilenet_v2, 224),
    Workload("ssd_mobilenet_v1_300", ssd_mobilenet_v1, 300),
    Workload("yolov8n_640", yolov8n, 640),
)
