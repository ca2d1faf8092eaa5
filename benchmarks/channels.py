"""Which channels the bundled networks keep on the bundled clip, and how those differ from the rest (Figure 6).

python benchmarks/channels.py benchmarks/results/channels.json
"""

from __future__ import annotations

import sys
from pathlib import Path

from writing import write_json

from ksnet_deploy import __version__, visualize

CLIP = Path(__file__).parents[1] / "ksnet_deploy" / "bundled" / "city_lr.mp4"
AT_S, FRAMES = 1.0, 9


def main(target: Path) -> None:
    results = {}
    for model in ("lite", "uni"):
        answer = visualize(CLIP, model, at_s=AT_S, frames=FRAMES).as_dict()
        results[model] = {name: answer[name] for name in ("flow_px", "levels")}
        for level in answer["levels"]:
            print(model, level["branch"], level["level"], level["gradient"], level["correlation"])
    values = {"version": __version__, "clip": CLIP.name, "time_s": AT_S, "frames": FRAMES, "networks": results}
    write_json(target, values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
