"""Small networks for small images, in the shape of transformers: dense, convolutional, residual."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, ResNetConfig, ResNetForImageClassification
from transformers.modeling_outputs import ImageClassifierOutput


class MlpConfig(PreTrainedConfig):
    """Images of num_channels x image_size x image_size, and the width of every hidden layer."""

    model_type = "ftrun_mlp"
    image_size: int = 8
    num_channels: int = 1
    hidden_sizes: list[int] | tuple[int, ...] = (100,)


class CnnConfig(PreTrainedConfig):
    """The same images, the filters of every convolution, and the width of the dense layer above them."""

    model_type = "ftrun_cnn"
    image_size: int = 8
    num_channels: int = 1
    filters: list[int] | tuple[int, ...] = (16, 32)
    hidden_size: int = 64


class Stack(nn.Module):
    """Layers one after the other, in a list, so that each is a stage."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, width of the last layer)."""
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class Network(PreTrainedModel):
    """A stack of layers and a linear head; weights begin as torch draws them, uniform below 1/√inputs."""

    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: PreTrainedConfig, layers: list[nn.Module], width: int) -> None:
        super().__init__(config)
        self.backbone = Stack(layers)
        self.classifier = nn.Linear(width, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()

    def forward(self, pixel_values: Tensor) -> ImageClassifierOutput:
        """Logits (batch, labels) of pixels (batch, channels, height, width)."""
        return ImageClassifierOutput(logits=self.classifier(self.backbone(pixel_values)))


class Mlp(Network):
    """Rectified linear layers on the flat pixels."""

    config_class = MlpConfig

    def __init__(self, config: MlpConfig) -> None:
        widths = [config.num_channels * config.image_size**2, *config.hidden_sizes]
        layers = [dense(inner, outer) for inner, outer in zip(widths, widths[1:], strict=False)]
        super().__init__(config, layers, widths[-1])


class Cnn(Network):
    """Rectified 3 x 3 convolutions, the last one pooled by two, and a rectified linear layer."""

    config_class = CnnConfig

    def __init__(self, config: CnnConfig) -> None:
        counts = [config.num_channels, *config.filters]
        layers: list[nn.Module] = [
            convolution(inner, outer) for inner, outer in zip(counts, counts[1:], strict=False)
        ]
        layers[-1].add_module("pool", nn.MaxPool2d(2))
        layers.append(dense(counts[-1] * (config.image_size // 2) ** 2, config.hidden_size))
        super().__init__(config, layers, config.hidden_size)


class SmallResnetConfig(ResNetConfig):
    """A residual network for images of few pixels; its stages take images of any size."""

    model_type = "ftrun_resnet"
    image_size: int = 32


class SmallResnet(ResNetForImageClassification):
    """The stages of transformers' ResNet on a stem of one 3 x 3 convolution, which keeps every pixel.

    ResNet's own stem, 7 x 7 with stride 2 and a pooling by 2, would leave 7 x 7 of 28 x 28 pixels. With 16,
    32 and 64 filters and three blocks each it is the ResNet-20 for CIFAR-10 of He et al. 2016 (section 4.2,
    arXiv:1512.03385), but for the shortcuts where the width grows: theirs are padded with zeros, these are
    1 x 1 convolutions.
    """

    config_class = SmallResnetConfig

    def __init__(self, config: SmallResnetConfig) -> None:
        super().__init__(config)
        stem = nn.Sequential()
        stem.add_module(
            "conv", nn.Conv2d(config.num_channels, config.embedding_size, 3, padding=1, bias=False)
        )
        stem.add_module("norm", nn.BatchNorm2d(config.embedding_size))
        stem.add_module("relu", nn.ReLU())
        self.resnet.embedder = stem
        self.post_init()


def dense(inner: int, outer: int) -> nn.Module:
    """A linear layer on everything there is of an example, and its ReLU."""
    layer = nn.Sequential(nn.Flatten())
    layer.add_module("linear", nn.Linear(inner, outer))
    layer.add_module("relu", nn.ReLU())
    return layer


def convolution(inner: int, outer: int) -> nn.Module:
    layer = nn.Sequential()
    layer.add_module("conv", nn.Conv2d(inner, outer, kernel_size=3, padding=1))
    layer.add_module("relu", nn.ReLU())
    return layer


def register() -> None:
    """Tell transformers' Auto classes about these networks; saved ones load by their `model_type` then."""
    from transformers import AutoConfig, AutoModelForImageClassification

    for network in (Mlp, Cnn, SmallResnet):
        config = network.config_class
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForImageClassification.register(config, network, exist_ok=True)
