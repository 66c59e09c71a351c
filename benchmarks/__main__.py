"""Run the benchmarks: ``python -m benchmarks [NAME…]``."""

import argparse
import platform

import torch

from benchmarks import encoding, evaluation, metrics, preparing, training

ALL = {
    "training": training.run,
    "encoding": encoding.run,
    "evaluation": evaluation.run,
    "metrics": metrics.run,
    "preparing": preparing.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *ALL], help=f"of {', '.join(ALL)}; default: all")
    chosen = parser.parse_args().names or list(ALL)
    fast = [name for name in ("avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(name)]
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"bfloat16 instructions: {', '.join(fast) or 'none'}"
    )
    for name in chosen:
        for ratio in ALL[name]():
            print(ratio, flush=True)


if __name__ == "__main__":
    main()
