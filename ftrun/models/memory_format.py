"""How a network's images lie in memory: channels last where torch's kernels for that are sound."""

from __future__ import annotations

from torch import channels_last, contiguous_format, memory_format, nn


def memory_format_of(net: nn.Module, device: str) -> memory_format:
    """Channels last, in which convolutions are faster, but for a network that breaks in it on the CPU.

    It looks anew each time, as layers are added to networks: a thousandth of the time of a forward.
    """
    broken = device == "cpu" and any(map(breaks, net.modules()))
    return contiguous_format if broken else channels_last


def breaks(module: nn.Module) -> bool:
    """Whether torch's CPU kernels leave their buffers on the way back through this layer, channels last.

    Measured with torch 2.13.0, every buffer between pages that may not be touched; to be measured again with
    another, and to go when none of it is left:

    - A convolution of 1 x 1 with a stride above 1, of fewer than 8 channels: with the kernels of AVX2, which
      a processor without AVX-512 takes, and another under ONEDNN_MAX_CPU_ISA=AVX2, the gradient of its
      weights reaches beyond the end of a buffer where the stride does not meet the last row, as 16 pixels
      by 2. From 8 channels on, and in groups, none was caught; only multiples of 8 are trusted. Strides of 1,
      kernels of 2 to 16, depthwise ones and transposed convolutions were sound.
    - A group normalization: on every processor its gradient is written to address 0 where its input needs
      none, which is so above a frozen bottom that ends just before it.
    """
    if isinstance(module, nn.Conv2d):
        pointwise = set(module.kernel_size) == {1}
        return pointwise and max(module.stride) > 1 and module.in_channels // module.groups % 8 > 0
    return isinstance(module, nn.GroupNorm)
