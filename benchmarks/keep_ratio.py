"""The paper's Figure 8 from our ablations: quality against the share of channels kept, and the parameters of each.

python benchmarks/keep_ratio.py benchmarks/results/ablations-lite.json benchmarks/results/keep-ratio-lite.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

RATIOS = {"keep ratio 25 %, 2 levels": 25, "keep ratio 50 %": 50, "base": 75, "keep ratio 100 %": 100}
"""Names of the variants, and their keep ratio in percent."""


def main(results: Path, picture: Path) -> None:
    variants = json.loads(results.read_text())["variants"]
    ratios = [*RATIOS.values()]
    quality = [variants[name]["psnr_y"] for name in RATIOS]
    params = [variants[name]["params_deploy"] / 1e6 for name in RATIOS]
    seeds = [variants["base"]["psnr_y"], variants["base, seed 1"]["psnr_y"]]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.axhspan(min(seeds), max(seeds), color="0.8", label="another seed of the base")
    axes.plot(ratios, quality, color="0.6", zorder=1)
    dots = axes.scatter(ratios, quality, c=params, s=90, cmap="viridis", zorder=2)
    for name, ratio, psnr_y, size in zip(RATIOS, ratios, quality, params, strict=True):
        levels = "\n(2 levels)" if "2 levels" in name else ""
        axes.annotate(f"{psnr_y:.2f} dB, {size:.3f} M{levels}", (ratio, psnr_y), (0, 10), textcoords="offset points")
    axes.set_xlim(20, 128)
    axes.set_ylim(min(quality) - 0.03, max(quality) + 0.06)
    axes.set_xticks(ratios)
    axes.set_xlabel("channels kept by each level (%)")
    axes.set_ylabel("PSNR (Y) of 36 validation clips (dB)")
    axes.set_title("lite after 300 iterations")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.colorbar(dots, label="parameters (millions)")
    figure.savefig(picture, dpi=120)
    print(picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
