"""An image encoder in PyTorch: torchvision's network with running statistics, the forward pass or a fine-tuning step.

    python pytorch_encoder.py --batch FILE.safetensors --threads N [--step] [--channels-last]

FILE holds `captions` [B, T] int64 padded with 0, `lengths` [B] int64, `images` [B, 3, Y, X] float32, and the
parameters under their names in the checkpoints, which say which network it is. protocol.py describes input and
output. The value is the mean magnitude of the features' entries; with `--step`, the loss before the step.

Sorting the batch by length is done once and not timed.
"""

from __future__ import annotations

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import resnet, vgg

from protocol import GRAD_CLIP, LEARNING_RATE, MARGIN, arguments, serve
from vse_torch import Vse, l2norm, train_step

CNN = "img_enc.cnn."


class SmallResNet(nn.Module):
    """resnet8: a first convolution of 3 x 3 with stride 2, no pool, three layers of one basic block."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        planes = [tensors[f"{CNN}layer{k}.0.conv1.weight"].shape[0] for k in range(1, 4)]
        self.conv1 = nn.Conv2d(3, planes[0], 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        self.layer1 = nn.Sequential(resnet.BasicBlock(planes[0], planes[0]))
        for k in (1, 2):
            down = nn.Sequential(nn.Conv2d(planes[k - 1], planes[k], 1, 2, bias=False), nn.BatchNorm2d(planes[k]))
            setattr(self, f"layer{k + 1}", nn.Sequential(resnet.BasicBlock(planes[k - 1], planes[k], 2, down)))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, Y, X] -> [N, F]"""
        h = self.bn1(self.conv1(x)).relu()
        return self.layer3(self.layer2(self.layer1(h))).mean((2, 3))


def network_of(tensors: dict[str, Tensor]) -> nn.Module:
    """The network without its last linear map whose tensors these are, in evaluation mode."""
    names = {name.removeprefix(CNN) for name in tensors if name.startswith(CNN)}
    if "features.0.weight" in names:
        net = vgg.vgg19()
        net.classifier = net.classifier[:-1]
    elif tensors[CNN + "conv1.weight"].shape[-1] == 3:
        net = SmallResNet(tensors)
    else:
        counts = [len({name.split(".")[1] for name in names if name.startswith(f"layer{k}.")}) for k in range(1, 5)]
        bottleneck = "layer1.0.conv3.weight" in names
        net = resnet.ResNet(resnet.Bottleneck if bottleneck else resnet.BasicBlock, counts)
        net.fc = nn.Identity()
    missing, unexpected = net.load_state_dict({name: tensors[CNN + name] for name in names}, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
    return net.eval()


class VseOfPictures(Vse):
    """An encoder, whose features are normalised, in front of the image tower."""

    def embed_images(self, images: Tensor) -> Tensor:
        """[B, 3, Y, X] -> [B, D]"""
        return super().embed_images(l2norm(self.img_enc["cnn"](images)))


def vse_of(tensors: dict[str, Tensor]) -> Vse:
    vocab_size, word_dim = tensors["txt_enc.embed.weight"].shape
    embed_size, img_dim = tensors["img_enc.fc.weight"].shape
    model = VseOfPictures(vocab_size, word_dim, embed_size, img_dim)
    model.load_state_dict({name: tensors[name] for name in model.state_dict()})
    model.img_enc["cnn"] = network_of(tensors)
    return model


def main() -> None:
    parser = arguments("An image encoder in PyTorch", "captions, lengths, images, parameters")
    parser.add_argument("--step", action="store_true", help="a fine-tuning step instead of the forward pass")
    parser.add_argument("--channels-last", action="store_true", help="the memory format")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    batch = load_file(args.batch)
    order = torch.argsort(batch["lengths"], descending=True, stable=True)
    images, captions, lengths = (batch[name][order] for name in ("images", "captions", "lengths"))
    images = images.to(memory_format=layout)
    model = (vse_of(batch) if args.step else network_of(batch)).to(memory_format=layout)
    del batch

    @torch.no_grad()
    def forward() -> float:
        return model(images).abs().mean(dtype=torch.float64).item()

    work = forward
    if args.step:
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

        def work() -> float:
            return train_step(
                model, optimizer, images, captions, lengths, margin=MARGIN, max_violation=True, grad_clip=GRAD_CLIP
            )

    name = "PyTorch NHWC" if args.channels_last else "PyTorch NCHW"
    serve(name, torch.__version__, torch.get_num_threads(), work)


if __name__ == "__main__":
    main()
