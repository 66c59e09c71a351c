"""Which precision a device is fast in."""

from collections.abc import Mapping

import torch


def bf16_is_fast(device: torch.device) -> bool:
    """Return whether ``device`` multiplies bfloat16 matrices in hardware, not by emulation.

    A PyTorch too old to name a processor's instructions gets float32 there.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        can: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(bool(can.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False
