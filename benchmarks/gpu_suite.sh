#!/usr/bin/env bash
# All that is worth knowing of a GPU, in one call, in under nine minutes, on a machine with PyTorch for CUDA and nothing of
# ours: no network, PyAV or installation. The kernels are built, compared and timed, the runners tested, the step
# measured, of one scene and of 2, 4 and 8 side by side, and where TensorRT builds one an engine, with one frame in flight
# and with two; then a network is trained for the rest of the time.
#
#   bash benchmarks/gpu_suite.sh [CLIPS]      CLIPS: a folder of videos and stills to train on; without it nothing is trained
#
# $OUT (default: /tmp/gpu-suite) receives suite.log, summary.txt, the benchmark's JSON and ksnet.safetensors.
# BUDGET_S: seconds for all (525). MODEL: a bundled network (uni); with CLIPS a --size of train. INIT: weights to go on from
# (default: MODEL's). SHAPE: windows of a training iteration, BATCHxFRAMESxPATCH. RATE: learning rate. DEVICE=cpu plays it
# where there is no GPU, with SIZE, MODEL and SHAPE as small as you like. No part stops the others; the exit code is 1 where
# one failed.
set -uo pipefail
BUDGET_S=${BUDGET_S:-525} MODEL=${MODEL:-uni} DEVICE=${DEVICE:-cuda} SIZE=${SIZE:-180x320} SECONDS_A_ROW=${SECONDS_A_ROW:-1}
SHAPE=${SHAPE:-32x10x44} RATE=${RATE:-5e-4} INIT=${INIT:-$MODEL} CLIPS=${1:-} OUT=${OUT:-/tmp/gpu-suite}
PYTHON=${PYTHON:-python3}
cd "$(dirname "$0")/.." || exit 1
WORK=$(mktemp -d) && mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD:$PWD/tests/support KSNET_CACHE_DIR=$WORK/cache OMP_WAIT_POLICY=passive
: >"$OUT/summary.txt"
exec > >(tee "$OUT/suite.log") 2>&1
failed=0
left() { echo $((BUDGET_S - SECONDS)); }
part() { printf '\n== %s (at %d s)\n' "$1" "$SECONDS"; }
verdict() { # NAME WORDS
    printf '%s: %s\n' "$1" "$2" >>"$OUT/summary.txt"
    case $2 in FAILED*) failed=1 ;; esac
}
within() { # SECONDS COMMAND...: no longer than that, nor than what is left
    local limit=$(($(left) < $1 ? $(left) : $1)) && shift
    timeout $((limit > 1 ? limit : 1)) "$@"
}
finish() {
    cp -f "$WORK/run/ksnet.safetensors" "$WORK/run/log.csv" "$OUT/" 2>/dev/null
    part "Summary"
    cat "$OUT/summary.txt"
    rm -rf "$WORK"
}
trap finish EXIT

part "Machine"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no nvidia-smi"
"$PYTHON" - <<'PY'
import importlib.metadata as metadata, sys
def version(name):
    try: return metadata.version(name)
    except metadata.PackageNotFoundError: return "-"
names = ("torch", "torchvision", "triton", "numpy", "onnx", "onnxruntime", "safetensors", "pytest", "cuda-bindings", "av")
print(sys.version.split()[0], *(f"{name} {version(name)}" for name in names), sep="; ")
PY

if [ -n "$CLIPS" ]; then
    "$PYTHON" benchmarks/shards_with_opencv.py "$CLIPS" "$WORK/shards" --hold-out "${HOLD_OUT:-4}" \
        --least-side $((4 * ${SHAPE##*x})) >"$WORK/shards.log" 2>&1 &
    shards=$!
fi

part "Kernels"
if [ "$DEVICE" = cuda ] && command -v nvcc >/dev/null; then
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d '. ')
    arch=${arch:-90} compilers=()
    for source in plugins/*/*.cu plugins/common/c_interface.cpp; do
        object=$WORK/$(basename "$source")
        nvcc -O3 -std=c++17 -gencode "arch=compute_$arch,code=sm_$arch" -Xptxas -v -lineinfo \
            -Xcompiler -fPIC,-fvisibility=hidden -x cu -c "$source" -o "$object.o" 2>"$object.ptxas" &
        compilers+=($!)
    done
    for compiler in "${compilers[@]}"; do wait "$compiler"; done
    if nvcc -shared -cudart static "$WORK"/*.o -o "$WORK/libksnet_kernels.so"; then
        export KSNET_KERNEL_LIBRARY=$WORK/libksnet_kernels.so
        grep -h "Compiling\|Used" "$WORK"/*.ptxas | sed 's/ptxas info *: //' | cut -c1-150
        verdict kernels "built for sm_$arch"
    else
        cat "$WORK"/*.ptxas | grep -i error
        verdict kernels "FAILED to build for sm_$arch"
    fi
else
    verdict kernels "not built: no nvcc, or no GPU"
fi

part "Parity of the kernels, and the runners"
[ "$DEVICE" = cuda ] || export KSNET_TEST_DEVICE=cpu
within 200 "$PYTHON" -m pytest -c /dev/null --rootdir=. -p no:cacheprovider -q -rs -s -m gpu \
    -o $'markers=gpu: needs a GPU\nslow: takes long' \
    ${TESTS:-tests/test_gpu.py tests/ops} | tee "$WORK/tests.log"
status=${PIPESTATUS[0]} counts=$(tail -1 "$WORK/tests.log")
case $status:$counts in
0:*passed*) verdict tests "$counts" ;;
*) verdict tests "FAILED, exit $status, $counts" ;; # all skipped is no pass
esac

part "Engine"
engines=()
if [ "$DEVICE" != cuda ]; then
    verdict engine "none: no GPU"
elif ! "$PYTHON" -c 'import onnx, polygraphy, typer' 2>"$WORK/imports" ||
    ! { "$PYTHON" -c 'import tensorrt_rtx' || "$PYTHON" -c 'import tensorrt'; } 2>>"$WORK/imports"; then
    verdict engine "none: $(tail -1 "$WORK/imports")"
elif within 120 "$PYTHON" -m ksnet_deploy build-engine "$WORK/$MODEL.engine" --model "$MODEL" --fp16 --size "$SIZE" \
    --verify-frames 0; then
    engines=("$WORK/$MODEL.engine")
    verdict engine "built"
else
    verdict engine "none: not built, exit $?" # TensorRT-RTX has no sm90
fi

part "Benchmark"
if within 150 "$PYTHON" benchmarks/gpu.py --model "$MODEL" --size "$SIZE" --seconds "$SECONDS_A_ROW" --device "$DEVICE" \
    --output "$OUT" --engine "${engines[@]}"; then verdict benchmark "done"; else verdict benchmark "FAILED, exit $?"; fi

train() { # FOLDER ITERATIONS SECONDS OPTIONS...
    within $(($3 + 40)) "$PYTHON" -m ksnet_deploy train "$WORK/shards/training" --output "$1" --size "$MODEL" --init "$INIT" \
        --stage "$2:$SHAPE" --device "$DEVICE" --precision "${PRECISION:-bf16}" --learning-rate "$RATE" --flow-frozen 0 \
        --workers "${WORKERS:-$(($(nproc) > 3 ? $(nproc) - 2 : 1))}" --validate-every 1000000 \
        --max-minutes "$("$PYTHON" -c "print($3 / 60)")" --licence "research / non-commercial" "${@:4}"
}
if [ -z "$CLIPS" ]; then
    verdict training "none: no folder of clips was given"
elif ! wait "$shards"; then
    cat "$WORK/shards.log"
    verdict training "FAILED: no shards"
else
    tail -2 "$WORK/shards.log"
    part "Training: how fast"
    recorded=--recorded
    if ! train "$WORK/try" 1000000 "${TRY_S:-25}" $recorded; then
        recorded=--no-recorded
        rm -rf "$WORK/try" && train "$WORK/try" 1000000 "${TRY_S:-25}" $recorded
    fi
    rate=$(tail -1 "$WORK/try/log.csv" | cut -d, -f4)
    budget=$(($(left) - ${RESERVE_S:-50})) # for the start, the last validation and the last save
    budget=$((budget > 2 ? budget : 2))
    iterations=$("$PYTHON" -c "print(max(${LEAST_ITERATIONS:-20}, int(float('${rate:-1}' or 1) * $budget * 0.93) // 20 * 20))")
    part "Training, $iterations iterations at $rate a second in $budget s: the rate falls to its end"
    if train "$WORK/run" "$iterations" "$budget" --validation "$WORK/shards/validation" $recorded; then
        verdict training "$iterations iterations at $rate a second, $recorded"
    else
        verdict training "FAILED, exit $?"
    fi
fi
exit $failed
