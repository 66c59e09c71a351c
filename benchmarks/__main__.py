"""Run the benchmarks: ``python -m benchmarks [NAME…]``; ``--readme`` writes the table there."""

import argparse
import platform
from pathlib import Path

import torch

from benchmarks import balance, encoding, evaluation, metrics, preparing, training
from benchmarks.measure import Ratio

ALL = {
    "training": training.run,
    "balance": balance.run,
    "encoding": encoding.run,
    "evaluation": evaluation.run,
    "metrics": metrics.run,
    "preparing": preparing.run,
}
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks: written by python -m benchmarks --readme -->", "<!-- benchmarks: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ALL)}; default: all")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    options = parser.parse_args()
    unknown = set(options.names).difference(ALL)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(ALL)}")
    print(machine())
    ratios: list[Ratio] = []
    for name in options.names or ALL:
        for ratio in ALL[name]():
            print(ratio, flush=True)
            ratios.append(ratio)
    if options.readme:
        text = README.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        README.write_text(
            f"{before}{BEGIN}\n{_table(ratios)}\n{END}{rest.partition(END)[2]}", encoding="utf-8"
        )


def machine() -> str:
    """Return what decides how fast this machine is."""
    can = torch.cpu.get_capabilities()
    fast = [name for name in ("avx512_bf16", "amx_bf16") if can.get(name)]
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{can.get('cpu_name', platform.machine())}, bfloat16 instructions: {', '.join(fast) or 'none'}"
    )


def _table(ratios: list[Ratio]) -> str:
    lines = ["| what | against | measured | wanted | beside it |", "|---|---|---|---|---|"]
    for ratio in ratios:
        bound = "at least" if ratio.at_least else "at most"
        lines.append(
            f"| {ratio.what} | {ratio.against} | {ratio.value:.2f}{ratio.unit} "
            f"| {bound} {ratio.target:g}{ratio.unit} | {ratio.beside} |"
        )
    return "\n".join([*lines, "", f"`make benchmarks`; {machine()}; MiniLM-L6 where there is an encoder."])


if __name__ == "__main__":
    main()
