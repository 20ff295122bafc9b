#!/usr/bin/env bash
# What a GPU gives, in two parts of about ten minutes each on a machine with 16 cores.
#
#   benchmarks/gpu.sh speed OUT                    the trainer beside torchvision's loop, resuming, memory, the report
#   benchmarks/gpu.sh people OUT PACK              the dense backbone's imitation, then the people model
#
# PACK is what benchmarks/people/pack.py made; it has no absolute path, so it can be made on another machine.
# OUT/SPEED.md and OUT/people hold what came out. With DEVICE=cpu both parts run in a minute or two on tiny settings;
# tests/test_gpu_script.py does so, that no minute of a GPU is spent on finding faults.
set -euo pipefail
cd "$(dirname "$0")/.."

PART=${1:?"expected: benchmarks/gpu.sh speed OUT, or people OUT PACK"}
OUT=${2:?"expected a folder for what comes out"}
DEVICE=${DEVICE:-cuda}
PYTHON=${PYTHON:-python}
mkdir -p "$OUT"

if [ "$DEVICE" = cpu ]; then
    TRAIN=16 VAL=4 SIDE=96 STEPS=5 ROUNDS=1 WORKERS=1 BATCH=2 EPOCHS=2
    MINUTES=0.03 BATCHES=1 MEASURED=1 STUDENT_EPOCHS=1 STUDENT_BATCH=2
    SPEEDS=("--model nano --imgsz 96 --precision 32")
else
    TRAIN=1200 VAL=150 SIDE=320 STEPS=60 ROUNDS=2 WORKERS=14 BATCH=16 EPOCHS=4
    MINUTES=${MINUTES:-5.5} BATCHES=8 MEASURED=24 STUDENT_EPOCHS=${STUDENT_EPOCHS:-12} STUDENT_BATCH=32
    SPEEDS=(
        "--model nano --precision 32" "--model nano --precision bf16" "--model nano --precision 16"
        "--model nano-dense --precision bf16" "--model nano-dense --precision bf16 --channels-last"
        "--model nano-dense --precision bf16 --compile" "--model resnet50 --imgsz 512 --precision bf16 --batch 8"
    )
fi

run() { "$PYTHON" -m edge_mrcnn "$@"; }

note() { echo "$@" | tee -a "$OUT/SPEED.md"; }

# The losses of a training that was broken off after its first epoch and resumed must be those of one that was not.
check_resume() {
    local options=(--data "$1" --model nano --imgsz "$SIDE" --batch "$BATCH" --workers "$WORKERS" --device "$DEVICE")
    options+=(--epochs "$EPOCHS" --eval-every "$EPOCHS")
    run train "${options[@]}" -o "$OUT/whole"
    "$PYTHON" -m edge_mrcnn train "${options[@]}" -o "$OUT/broken" &
    local training=$!
    until [ -e "$OUT/broken/last.ckpt" ] || ! kill -0 $training 2> /dev/null; do sleep 0.2; done
    # A shell lets its background jobs ignore SIGINT, so it is SIGTERM that breaks off.
    kill -TERM $training 2> /dev/null || true
    wait $training || true
    run train "${options[@]}" -o "$OUT/broken" --resume
    "$PYTHON" - "$OUT/whole/metrics.csv" "$OUT/broken/metrics.csv" << 'END' | tee -a "$OUT/SPEED.md"
import csv, sys
whole, broken = ([row["loss/total"] for row in csv.DictReader(open(path))] for path in sys.argv[1:])
print(f"resumed: losses by epoch {', '.join(broken)}; without a break {', '.join(whole)}")
END
}

# A batch that does not fit ends in one line and exit code 1.
check_memory() {
    [ "$DEVICE" = cpu ] && return
    local code=0 said
    said=$(run train --data "$1" --model resnet50 --imgsz 1024 --batch 1024 --epochs 1 --workers "$WORKERS" \
        --device "$DEVICE" -o "$OUT/large" 2>&1) || code=$?
    note "out of memory: exit code $code, $(echo "$said" | tail -n 1)"
}

# The same checkpoint on the GPU and on the CPU.
check_reference() {
    for device in $(printf '%s\n' "$DEVICE" cpu | sort -u); do
        run report reference --weights "$OUT/whole/best.pt" --data "$1" --device "$device" -o "$OUT/reference-$device.json" \
            --overwrite
    done
    run report --reference "$OUT/reference-$DEVICE.json" --models "$OUT/whole/best.pt" --data "$1" --device cpu \
        -o "$OUT/report" --overwrite | tee -a "$OUT/SPEED.md"
}

# ONNX Runtime's CUDA provider, where its wheel is installed.
check_onnxruntime() {
    "$PYTHON" -c 'import onnxruntime as o, sys; sys.exit("CUDAExecutionProvider" not in o.get_available_providers())' || {
        note "onnxruntime: this wheel has no CUDA provider"
        return 0
    }
    run export --weights "$OUT/whole/best.pt" --target onnx -o "$OUT/onnx" --overwrite
    run benchmark "$OUT/onnx" --device cpu,cuda --threads 1 --seconds 20 | tee -a "$OUT/SPEED.md"
}

speed() {
    : > "$OUT/SPEED.md"
    [ "$DEVICE" = cpu ] || note "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader)"
    run scenes --train "$TRAIN" --val "$VAL" --imgsz "$SIDE" -o "$OUT/scenes" --overwrite
    for options in "${SPEEDS[@]}"; do
        note "" && note "\`$options\`" && note ""
        # Options of their own come last, so that a model may have a smaller batch. The words are split on purpose.
        # shellcheck disable=SC2086
        "$PYTHON" benchmarks/training_speed.py --data "$OUT/scenes" --batch "$BATCH" --steps "$STEPS" \
            --rounds "$ROUNDS" --workers "$WORKERS" --device "$DEVICE" $options | tee -a "$OUT/SPEED.md"
    done
    note ""
    check_resume "$OUT/scenes"
    check_memory "$OUT/scenes"
    check_reference "$OUT/scenes"
    check_onnxruntime
}

people() {
    local pack=${1:?"expected what benchmarks/people/pack.py made"}
    local pictures=(--images "$pack/images/train")
    [ ! -d "$pack/images/unlabelled" ] || pictures+=(--images "$pack/images/unlabelled")
    "$PYTHON" benchmarks/people/imitate.py "${pictures[@]}" --teacher "$pack/backbone.pth" --device "$DEVICE" \
        --workers "$WORKERS" --batches "$BATCHES" --measured "$MEASURED" --lr 4e-3 --steps 12000 --decay 4000 \
        --minutes "$MINUTES" --resume -o "$OUT/imitate"
    run train --data "$pack" --model nano-dense --backbone repvgg_deep --backbone-weights "$OUT/imitate/backbone.pth" \
        --epochs "$STUDENT_EPOCHS" --batch "$STUDENT_BATCH" --workers "$WORKERS" --optimizer adamw --lr 1e-3 --rois 64 \
        --eval-every "$STUDENT_EPOCHS" --device "$DEVICE" -o "$OUT/people" ${PEOPLE_OPTIONS:-}
}

case "$PART" in
    speed) speed ;;
    people) people "${3:-}" ;;
    *) echo "benchmarks/gpu.sh: $PART: expected speed or people" >&2 && exit 2 ;;
esac
