"""Prints the number of trained parameters of equal torch models, which counts.test.ts expects.

ResNets are counted in torchvision too where it is installed, whose documentation says 11689512 and 25557032.
"""
from torch import nn


def conv(cin, cout, k, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, k, stride, (k - 1) // 2, bias=False), nn.BatchNorm2d(cout))


class Block(nn.Module):
    def __init__(self, cin, filters, stride, bottleneck):
        super().__init__()
        out = filters * (4 if bottleneck else 1)
        self.body = (
            nn.Sequential(conv(cin, filters, 1), conv(filters, filters, 3, stride), conv(filters, out, 1))
            if bottleneck
            else nn.Sequential(conv(cin, filters, 3, stride), conv(filters, filters, 3))
        )
        if stride != 1 or cin != out:
            self.shortcut = conv(cin, out, 1, stride)


def resnet(blocks, bottleneck, classes, stem):
    width, layers = 64, [conv(3, 64, stem)]
    for stage, count in enumerate(blocks):
        for i in range(count):
            filters = 64 * 2**stage
            layers.append(Block(width, filters, 2 if stage and not i else 1, bottleneck))
            width = filters * (4 if bottleneck else 1)
    return nn.Sequential(*layers, nn.Linear(width, classes))


def gpt(vocabulary, context, width, heads, depth):
    block = nn.TransformerEncoderLayer(width, heads, 4 * width, norm_first=True)
    embeddings = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
    head = nn.Linear(width, vocabulary, bias=False)
    return nn.Sequential(*embeddings, nn.TransformerEncoder(block, depth, nn.LayerNorm(width), False), head)


mlp = nn.Sequential(nn.Linear(784, 512), nn.Linear(512, 512), nn.Linear(512, 10))
cnn = nn.Sequential(nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(9216, 128), nn.Linear(128, 10))
models = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet18, CIFAR stem, 10 classes": resnet([2, 2, 2, 2], False, 10, 3),
    "resnet50, CIFAR stem, 10 classes": resnet([3, 4, 6, 3], True, 10, 3),
    "resnet18, ImageNet, 1000 classes": resnet([2, 2, 2, 2], False, 1000, 7),
    "resnet50, ImageNet, 1000 classes": resnet([3, 4, 6, 3], True, 1000, 7),
    "gpt": gpt(256, 64, 128, 4, 2),
    "gpt, 3 layers": gpt(65, 32, 48, 3, 3),
}
try:
    import torchvision

    models["torchvision's resnet18"] = torchvision.models.resnet18()
    models["torchvision's resnet50"] = torchvision.models.resnet50()
except ImportError:
    pass
for name, model in models.items():
    print(name, sum(p.numel() for p in model.parameters()))
