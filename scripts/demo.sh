#!/usr/bin/env bash
# Install, export the bundled checkpoint, verify the export, upscale the bundled clip, and show the result.
set -euo pipefail
. "$(dirname "$0")/setup.sh"

clip=ksnet_deploy/bundled/city_lr.mp4
network=demo/uni-72x128.onnx

mkdir -p demo
if [ ! -e "$network" ] || [ -n "$(find ksnet_deploy/ export/ constraints.txt -newer "$network" -type f \
    ! -path '*/__pycache__/*' -print -quit)" ]; then
    ksnet-deploy export "$network" --model uni --size 72x128 --verify-frames 30 --overwrite
fi
ksnet-deploy upscale "$clip" --model "$network" --output demo/city_x4.mp4 --overwrite
python scripts/demo_report.py "$clip" demo/city_x4.mp4 ksnet_deploy/bundled/city_hr.mp4 demo/before_after.png
